"""What is done with a live record that is not let in: the edge of a stream, in front of its log."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from protocol.chunk import Ragged, value_of
from protocol.errors import DataFault, UsageError
from protocol.inference import as_array
from protocol.quarantine import DEFAULT_MAX_BYTES, FILE, Quarantine

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BadRecordSettings:
    """What happens to a live stream's records that are not what its schema says."""

    on_bad_record: Literal["stop", "quarantine"] = "stop"
    """What a live record that does not fit the schema does: `stop` ends the feed with the reason (an inlet refuses
    the writer); `quarantine` keeps it aside, counts it and goes on. It gets no offset: for the stream it was never
    there."""
    reject_nan: bool = False
    """Whether a NaN or an infinity in a field of floats makes a record a bad one."""
    quarantine: str = FILE
    """File of the quarantine: JSON Lines, one object a record with its reason."""
    quarantine_bytes: int = DEFAULT_MAX_BYTES
    """What the file may hold; further records are only counted."""

    def __post_init__(self) -> None:
        if self.on_bad_record not in ("stop", "quarantine"):
            raise UsageError(f"on_bad_record is stop or quarantine, not {self.on_bad_record!r}")


class BadRecords:
    """Counts and keeps what a log does not let in, or has it stop the stream."""

    def __init__(self, settings: BadRecordSettings) -> None:
        self._reject_nan = settings.reject_nan
        self._quarantine: Quarantine | None = None
        if settings.on_bad_record == "quarantine":
            path = Path(settings.quarantine).expanduser()
            self._quarantine = Quarantine(path, logger.warning, max_bytes=settings.quarantine_bytes)

    @property
    def rejected(self) -> int:
        """Records that were not let in."""
        return 0 if self._quarantine is None else self._quarantine.records

    def check(self, record: Mapping[str, Any]) -> None:
        """Raise `DataFault` where a float of a record, or of whole columns, is no number and that was asked for."""
        if not self._reject_nan:
            return
        for name, value in record.items():
            if not _finite(value):
                raise DataFault(f"field {name!r}: a NaN or an infinity")

    def take(self, record: object, fault: DataFault) -> None:
        """Keep a record aside and go on; raises the fault again where it is to stop the stream."""
        if self._quarantine is None:
            raise fault
        self._quarantine.keep(record, str(fault))

    def one_by_one(self, columns: Mapping[str, Any], fault: DataFault) -> Iterator[dict[str, Any]]:
        """The records of columns of which some are bad; raises the fault where that is all that can be done."""
        lengths = {len(column) for column in columns.values() if hasattr(column, "__len__")}
        if self._quarantine is None or len(lengths) != 1:
            raise fault
        for row in range(lengths.pop()):
            yield {name: value_of(column, row) for name, column in columns.items()}


def _finite(value: Any) -> bool:
    if isinstance(value, Ragged):
        value = value.values
    try:
        array = as_array(value)
    except TypeError:  # no array: one a record, or nothing that the schema lets in
        return not isinstance(value, list | tuple) or all(_finite(each) for each in value)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())
