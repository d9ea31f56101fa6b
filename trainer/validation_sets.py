"""What a run validates on: a set of the user's own, splits of the stream, records that are held out of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from protocol.schema import Schema
from trainer.holdout import Holdout
from trainer.metrics import Window
from trainer.splits import VALIDATION, Batches, batches_of, batches_of_own
from trainer.task import Outcome

#: What no split is called here: their names begin with "validation".
OWN, HELD_OUT, STREAMS = "own", "held_out", "stream_validation"


class Judging:
    """A set that is validated on, made of one or more parts by name: their batches, one part after the other.

    As one of the validation's observers it has what each part comes to, from the one pass over all.
    """

    def __init__(self, parts: Mapping[str, Batches]) -> None:
        self._parts = parts
        self._windows: dict[str, Window] = {}

    def __iter__(self) -> Iterator[Mapping[str, torch.Tensor]]:
        for name, batches in self._parts.items():
            self._window = self._windows[name] = Window()
            yield from batches

    def observe(self, _columns: Mapping[str, torch.Tensor], outcome: Outcome) -> None:
        """The batch that was given last."""
        self._window.add(outcome)

    def of_parts(self, name: str) -> dict[str, dict[str, float]]:
        """Loss and the like of each part, by the `name` of the set and the part's own; nothing of a single one."""
        windows = self._windows if len(self._parts) > 1 else {}
        return {f"{name} {part}": window.read() for part, window in windows.items()}


@dataclass(frozen=True, kw_only=True)
class ValidationSets:
    """Sets by name, in the order in which they are asked to judge: the first one does, the others are shown beside it.

    `held_out` gives the records that are held out by now of each stream, by its name, perhaps none.
    """

    fixed: Mapping[str, Batches] = field(default_factory=dict)
    held_out: Callable[[], Mapping[str, Holdout]] = dict
    batch_size: int = 1000

    def now(self) -> dict[str, Judging]:
        """Those that have records."""
        sets = {name: Judging({name: batches}) for name, batches in self.fixed.items()}
        parts = {name: batches_of(holdout, self.batch_size) for name, holdout in self.held_out().items() if holdout}
        return {**sets, HELD_OUT: Judging(parts)} if parts else sets


def validation_sets(
    splits: Mapping[str, Holdout],
    held_out: Callable[[], Mapping[str, Holdout]],
    own: Any,
    schema: Schema,
    batch_size: int,
) -> ValidationSets:
    """`own`, if there is one, then each split whose name begins with "validation", then the held-out records.

    Beside a set of the user's own, the split `validation` is called `stream_validation`: who judges is the validation.
    """
    fixed = {} if own is None else {OWN: batches_of_own(own, schema, batch_size)}
    names = sorted(name for name in splits if name.startswith(VALIDATION))  # "validation" itself is the first
    called = {VALIDATION: STREAMS} if fixed else {}
    fixed |= {called.get(name, name): batches_of(splits[name], batch_size) for name in names}
    return ValidationSets(fixed=fixed, held_out=held_out, batch_size=batch_size)
