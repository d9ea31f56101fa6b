"""Which records of a source come at all, where changes of a stream leave some of a class out."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from producer.effects import OnChoice
from producer.source import Indices, Source
from protocol.change import Change
from protocol.draws import drawn
from protocol.errors import UsageError
from protocol.schema import Schema
from protocol.values import MAX_NUMBER

#: Records that are looked at together: more would be looked at in vain where a change is near.
LOOKED_AT = 4096
#: A class of which a smaller share comes does not keep a stream going.
SCARCE = 0.01


class Thinning:
    """Goes over records in the order in which the source gives them, and says which of them come.

    A record's number in the stream is known only once it is known which came before it, and with the number which
    share of its class comes. What is drawn for it depends on the seed and on how many the source gave before it.
    """

    def __init__(self, changes: Sequence[tuple[Change, OnChoice]], schema: Schema, seed: int) -> None:
        self._changes = [(change, effect.shares(schema), effect.backwards) for change, effect in changes]
        self._seed = seed

    def coming(self, labels: npt.NDArray[np.generic], given: int, number: int) -> Indices:
        """The rows that come, of records with these labels [n], before which the source gave so many; the first of
        them that comes will be record `number`.
        """
        draws = drawn(self._seed, np.arange(given, given + len(labels), dtype=np.int64))
        parts, row = [np.empty(0, np.int64)], 0
        while row < len(labels):
            block = slice(row, row + LOOKED_AT)
            rows = row + np.flatnonzero(draws[block] < self._shares(labels[block], number))
            room = min(change.steady(number) for change, _, _ in self._changes) - number
            # With another share a record may come that this one leaves out, so the rest is looked at again.
            row = int(rows[room - 1]) + 1 if len(rows) >= room else row + LOOKED_AT
            parts.append(rows[:room])
            number += len(parts[-1])
        return np.concatenate(parts)

    @property
    def over_from(self) -> int:
        """The record from which on nothing is left out any more; `MAX_NUMBER` if that never comes."""
        settled = [change.settled for change, _, _ in self._changes]
        last = max((MAX_NUMBER if each is None else each for each in settled), default=0)
        classes = np.array([each for _, shares, _ in self._changes for each in shares])
        return last if last < MAX_NUMBER and self._shares(classes, last).min() == 1 else MAX_NUMBER

    def check_classes(self, labels: npt.NDArray[np.generic]) -> None:
        """Raise `UsageError` where none of these classes comes at all times: a stream might stand still."""
        away = {each for _, shares, _ in self._changes for each, share in shares.items() if share < SCARCE}
        if away.issuperset(np.unique(labels).tolist()):
            raise UsageError(
                f"each class of the records is away at some time (appear, or a share below {SCARCE}): let one of them "
                "come always"
            )

    def _shares(self, labels: npt.NDArray[np.generic], number: int) -> npt.NDArray[np.float64]:
        """The share of the records like these [n] that come at this number."""
        found = np.ones(len(labels))
        for change, shares, backwards in self._changes:
            come = float(change.share(np.array([number]))[0])
            for each, share in shares.items():
                found[labels == each] *= 1 - (1 - come if backwards else come) * (1 - share)
        return found


def labels_of(source: Source) -> npt.NDArray[np.generic]:
    """The label of each record of a source, which is read once for it."""
    assert source.schema.label is not None
    parts = []
    for first in range(0, len(source), LOOKED_AT):
        indices = np.arange(first, min(first + LOOKED_AT, len(source)), dtype=np.int64)
        parts.append(np.asarray(source.take(indices)[source.schema.label]))
    return np.concatenate(parts)
