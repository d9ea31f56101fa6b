r"""A quarantine file: records that were not let in, each with the reason; JSON Lines, so that any tool reads it.

    {"time": "2026-01-31T14:03:07+00:00", "reason": "field 'label': label 12 is out of range, 0 to 9 is due",
     "record": {"image": {"dtype": "uint8", "shape": [1, 28, 28], "base64": "AAEC…"}, "label": 12}}

One such object a line. Before `record` stand `stream` (its URL), where a trainer read it there, and `partition` and
`offset`, where it had a place in a log. Numbers, texts and null are themselves; an array is its little-endian bytes
(numbers that JSON has no word for, such as NaN, are arrays of shape []), without `base64` where they are too long to
keep; anything else is `{"type": …, "text": …}`.

    jq -r '[.time, .reason] | join("  ")' quarantine.jsonl
"""

import base64
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from errno import ENOSPC
from pathlib import Path
from typing import Any, Final

import numpy as np

from protocol.errors import UsageError
from protocol.rate_limit import RateLimit
from protocol.schema import DTYPES
from protocol.values import MAX_TEXT_LENGTH, shown

FILE: Final = "quarantine.jsonl"
DEFAULT_MAX_BYTES: Final = 64 << 20
#: Of one value; a longer one is described.
MAX_VALUE_BYTES: Final = 1 << 20
MAX_KEYS: Final = 64
SAID_EVERY_S: Final = 10.0


class Quarantine:
    """Keeps rejected records in a file of at most `max_bytes`, over all lives; what no longer fits is only counted.

    `stream` is the URL where the records were read, if they were; loaders of several streams may share a file.
    `say` gets one line at once, then at most one in ten seconds. May be used from any thread. Raises `UsageError` where
    the file cannot be written; a disk that fills up later is said, and costs the record its place in the file.
    """

    def __init__(
        self, path: Path, say: Callable[[str], None], *, max_bytes: int = DEFAULT_MAX_BYTES, stream: str = ""
    ) -> None:
        if max_bytes < 0:
            raise UsageError(f"a quarantine of {max_bytes} bytes: give 0 or more")
        self._path, self._say, self._max_bytes, self._stream = path, say, max_bytes, stream
        self._lock = threading.Lock()
        self._said = RateLimit(SAID_EVERY_S)
        #: Records of this life: all, and those of them that are not in the file.
        self.records = self.left_out = 0
        try:
            with path.open("a+b", buffering=0) as file:
                if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    file.write(b"\n")  # a power loss has torn the last line
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror}): name another file as quarantine") from error

    def keep(self, record: object, reason: str, place: tuple[int, int] | None = None) -> None:
        """Take a record in; `place` is its (partition, offset), if it had one."""
        line = _line(record, reason, place, self._stream)
        with self._lock:
            self.records += 1
            try:
                fits = self._append(line)
                where = "is in" if fits else "does not fit any more into"
            except OSError as error:
                fits, where = False, f"could not be kept ({error.strerror}) in"
            self.left_out += not fits
            if self._said.allows(time.monotonic()):
                self._say(f"a record was rejected and {where} {self._path}: {reason}; {self.records:,} rejected so far")

    def _append(self, line: bytes) -> bool:
        """All of the line or nothing; whether there was room."""
        with self._path.open("ab", buffering=0) as file:
            before = file.tell()
            if before + len(line) > self._max_bytes:
                return False
            if file.write(line) != len(line):
                file.truncate(before)
                raise OSError(ENOSPC, os.strerror(ENOSPC))
        return True


def read_quarantine(path: Path) -> Iterator[dict[str, Any]]:
    """What lies in a quarantine file, one object a record, arrays as arrays; a line that was torn is passed over."""
    with path.open("rb") as file:
        for line in file:
            try:
                kept = json.loads(line)
            except ValueError:
                continue
            record = kept["record"]
            kept["record"] = {name: _value_of(value) for name, value in record.items()}
            yield kept


# --- a record as JSON --------------------------------------------------------------------------------------------


def _line(record: object, reason: str, place: tuple[int, int] | None, stream: str) -> bytes:
    kept: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason[:MAX_TEXT_LENGTH]}
    if stream:
        kept["stream"] = stream
    if place is not None:
        kept["partition"], kept["offset"] = place
    fields = list(record.items())[:MAX_KEYS] if isinstance(record, Mapping) else [("", record)]
    kept["record"] = {str(name)[:MAX_TEXT_LENGTH]: _json_of(value) for name, value in fields}
    return json.dumps(kept, allow_nan=False).encode() + b"\n"


def _json_of(value: object) -> object:
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, str):
        return value[:MAX_TEXT_LENGTH]
    array = _array_of(value)
    if array is None:
        return {"type": type(value).__name__, "text": shown(value)}
    described = {"dtype": array.dtype.name, "shape": list(array.shape)}
    if array.nbytes > MAX_VALUE_BYTES:
        return described
    raw = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return {**described, "base64": base64.b64encode(raw).decode()}


def _array_of(value: Any) -> np.ndarray[Any, Any] | None:
    if isinstance(value, bytes | bytearray | memoryview):
        return np.frombuffer(value, np.uint8)
    if not (isinstance(value, float | list | tuple) or hasattr(value, "__array__")):
        return None
    try:
        array = np.asarray(value)
    except Exception:  # noqa: BLE001  (a stranger's object, which was rejected already)
        return None
    return array if array.dtype.name in DTYPES else None


def _value_of(kept: Any) -> Any:
    if isinstance(kept, dict) and "base64" in kept:
        raw = base64.b64decode(kept["base64"])
        return np.frombuffer(raw, DTYPES[kept["dtype"]]).reshape(kept["shape"])
    return kept
