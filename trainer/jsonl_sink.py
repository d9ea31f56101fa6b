"""The run as `metrics.jsonl`: one JSON object a line, for programs.

Every line has `kind` (start, report, validation, notice, change), `samples` and `time` (seconds since 1970, UTC); a
number that is not finite is null. After a resume the file goes on from the checkpoint: what a killed life wrote beyond
it is gone.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from trainer.report import Changed, Fact, Notice, Report, Sink, Start, ValidationReport

KINDS: Mapping[type, str] = {
    Start: "start",
    Report: "report",
    ValidationReport: "validation",
    Notice: "notice",
    Changed: "change",
}


class JsonlSink(Sink):
    """Appends to `path`; nothing is written before `Start`, which says where the file goes on."""

    name = "metrics.jsonl"

    def __init__(self, path: Path, *, wall_s: Callable[[], float] = time.time) -> None:  # noqa: TID251  (for people)
        self.path = path
        self._wall_s = wall_s
        self._start: Start | None = None  # until the file is cut back to it

    def write(self, fact: Fact) -> None:
        """One line, whole or not at all, with the operating system when this returns."""
        kind = KINDS.get(type(fact))
        if kind is None:
            return
        if isinstance(fact, Start):
            self._start = fact
        if self._start is not None:
            cut_back(self.path, self._start.samples if self._start.resumed else None)
            self._start = None
        line = json.dumps({"kind": kind, "time": self._wall_s(), **_plain(fact)}, allow_nan=False) + "\n"
        with self.path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                if file.write(line.encode()) < len(line.encode()):
                    raise OSError(f"no room for a line in {self.path}")
            except OSError:
                file.truncate(size)
                raise

    def flush(self) -> None:
        """Every line is with the operating system already."""

    def close(self) -> None:
        """The file is open only while a line is written."""


def cut_back(path: Path, samples: int | None) -> None:
    """Keep the whole lines up to `samples`, none where that is None; readers see the old file or the new one.

    A line that a power loss made unreadable goes too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    with part.open("wb") as file:
        if samples is not None and path.exists():
            file.writelines(_kept(path, samples))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects in the file; a torn last line, left by a life that was killed, is passed over."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def _kept(path: Path, samples: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") and _samples(line) <= samples:
                yield line


def _samples(line: bytes) -> float:
    try:
        return int(json.loads(line)["samples"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _plain(value: Any) -> Any:
    """What JSON can say; `dataclasses.asdict` would copy deeply and leave NaN."""
    if hasattr(value, "to_wire"):
        return value.to_wire()
    if hasattr(value, "__dataclass_fields__"):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
