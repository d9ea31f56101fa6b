"""What processes and a folder hold at a moment, and whether that stays the same while records go by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import TypeVar

from benchmarks.processes import resident_bytes

T = TypeVar("T")
#: What a process may hold at one moment and not at another, however small it is: chunks under way.
SOME_MIB = 8


@dataclass(frozen=True)
class Footprint:
    """Of some processes together."""

    memory_mib: float
    threads: float
    descriptors: float

    def __str__(self) -> str:
        return f"{self.memory_mib:.0f} MiB, {self.threads:.0f} threads, {self.descriptors:.0f} descriptors"


def footprint(pids: Iterable[int]) -> Footprint:
    """Of these processes; they are to stand still meanwhile."""
    found = [(resident_bytes(pid), _entries(pid, "task"), _entries(pid, "fd")) for pid in pids]
    memory, threads, descriptors = (sum(each) for each in zip(*found, strict=True))
    return Footprint(memory / 2**20, threads, descriptors)


def assert_flat(footprints: Sequence[Footprint]) -> tuple[Footprint, Footprint]:
    """The second quarter is held against the last: what is new takes a while to have all that it needs.

    Memory by its medians, within 5 % or 8 MiB. Gives back the medians of both.
    """
    before, after = (_middle(each) for each in _early_and_late(footprints))
    most_mib = max(1.05 * before.memory_mib, before.memory_mib + SOME_MIB)
    assert after.memory_mib <= most_mib, f"{before} early, {after} late"
    for name in ("threads", "descriptors"):
        assert_no_more([getattr(each, name) for each in footprints], name)
    return before, after


def assert_no_more(counts: Sequence[float], of: str) -> None:
    """What comes and goes, as a commit's connection does: the least of the last quarter, the most of the other."""
    early, late = _early_and_late(counts)
    assert min(late) <= max(early), f"{of}: {early} early, {late} late"


def _early_and_late(values: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    quarter = len(values) // 4
    assert quarter, "too few to tell early from late"
    return values[quarter : 2 * quarter], values[-quarter:]


def _middle(footprints: Sequence[Footprint]) -> Footprint:
    return Footprint(*(median(getattr(each, field.name) for each in footprints) for field in fields(Footprint)))


def files_in(folder: Path, but: Iterable[str] = ()) -> tuple[int, int]:
    """How many files there are and their bytes, without those of these names."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in but]
    return len(files), sum(path.stat().st_size for path in files)


def _entries(pid: int, kind: str) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/{kind}").iterdir())
