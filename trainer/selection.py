"""What becomes of each record that comes: trained, or left out as rejected, held out or thinned."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from protocol.chunk import Chunk
from protocol.dealing import MAX_PARTITIONS
from protocol.draws import drawn
from protocol.errors import UsageError
from protocol.schema import Field
from protocol.stream import StreamInfo
from protocol.subscription import Undecodable
from trainer.labels import LabelCheck, Rejects
from trainer.ledger import FATES, Fate
from trainer.sampling import SamplingSettings

ID = "id"
CODE = {fate: code for code, fate in enumerate(FATES)}
TRAINED = CODE["trained"]


class Selection:
    """The fates of a stream's records, each a function of the record and the seed alone.

    Raises `UsageError` where the settings do not go with the stream.
    """

    def __init__(self, info: StreamInfo, rejects: Rejects, settings: SamplingSettings, seed: int) -> None:
        self._info, self._label, self._seed = info, info.schema.label, seed
        self._rejects, self._labels = rejects, LabelCheck(info.schema, rejects)
        self._holdout, self._has_id = settings.holdout, _has_id(info)
        self._shares = np.array(settings.thin)
        if settings.holdout and not self._has_id and info.records_per_pass is not None:
            raise UsageError(
                "--holdout: the stream's records have no id and may come again, so what one pass has held out the next "
                "would train: let the source give an integer field 'id', or the producer --validation"
            )
        if (settings.thin or settings.balance) and not _has_classes(info):
            raise UsageError("--thin and --balance are by class, and the stream has no label that is an integer")
        _check_shares(info, settings.thin)

    def runs(self, chunk: Chunk) -> Iterator[tuple[int, int, Fate]]:
        """The rows of a chunk as runs (start, stop, fate), none of them empty."""
        rejected = self._labels.bad_rows(chunk)
        if not rejected and not self._holdout and not self._shares.size:
            yield 0, chunk.count, "trained"
            return
        fates = self._fates(chunk, rejected)
        bounds = [0, *(np.flatnonzero(np.diff(fates)) + 1).tolist(), chunk.count]
        for start, stop in pairwise(bounds):
            yield start, stop, FATES[fates[start]]

    def reject(self, bad: Undecodable) -> None:
        """This record is not to be trained on, whatever is drawn for it. Raises `DataFault` where none may be bad."""
        self._rejects.reject(bad.chunk.partition, bad.chunk.offset, bad.record, bad.reason)

    def _fates(self, chunk: Chunk, rejected: list[int]) -> npt.NDArray[np.uint8]:
        """The later ones go over the earlier."""
        fates = np.full(chunk.count, TRAINED, np.uint8)
        if self._shares.size:
            assert self._label is not None, "checked at the beginning"
            labels = np.asarray(chunk.columns[self._label])
            known = (labels >= 0) & (labels < len(self._shares))  # others have no share: they are trained
            shares = np.where(known, self._shares[np.where(known, labels, 0)], 1)
            fates[drawn(self._seed, self._numbers(chunk)) >= shares] = CODE["thinned"]
        if self._holdout:
            ids = np.asarray(chunk.columns[ID]) if self._has_id else self._numbers(chunk)
            fates[drawn(self._seed + 1, ids) < self._holdout] = CODE["held_out"]
        fates[rejected] = CODE["rejected"]
        return fates

    def _numbers(self, chunk: Chunk) -> npt.NDArray[np.int64]:
        """A number for each record, of its place alone: that in stream order, where the stream has one.

        Else it does not depend on how many partitions there are, since they may become more.
        """
        if self._info.order == "arrival":
            return np.arange(chunk.offset, chunk.end, dtype=np.int64) * MAX_PARTITIONS + chunk.partition
        dealing = self._info.dealing
        first = dealing.record(chunk.partition, chunk.offset)
        assert chunk.end <= dealing.stripe_end(chunk.offset), "a chunk is a part of one stripe"
        return np.arange(first, first + chunk.count, dtype=np.int64)


def _has_id(info: StreamInfo) -> bool:
    return any(each.name == ID and _is_integer(each) for each in info.schema.fields)


def _has_classes(info: StreamInfo) -> bool:
    return any(each.name == info.schema.label and _is_integer(each) for each in info.schema.fields)


def _is_integer(field: Field) -> bool:
    return field.dtype.startswith(("int", "uint")) and not field.shape


def _check_shares(info: StreamInfo, shares: list[float]) -> None:
    known = info.schema.label_range
    if shares and known is not None and len(shares) != known[1] + 1:
        raise UsageError(f"--thin: {len(shares)} shares for {known[1] + 1} classes: give one for each")
