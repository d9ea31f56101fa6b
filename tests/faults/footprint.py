"""What processes and a folder hold at a moment, and whether that stays the same while records go by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import TypeVar

from benchmarks.processes import resident_bytes

T = TypeVar("T")


@dataclass(frozen=True)
class Footprint:
    """Of some processes together."""

    memory_mib: float
    threads: float
    descriptors: float

    def __str__(self) -> str:
        return f"{self.memory_mib:.0f} MiB, {self.threads:.0f} threads, {self.descriptors:.0f} descriptors"


#: What may be there at one moment and not at another, however long a process lives: chunks under way, the connection
#: of a commit.
COMES_AND_GOES = Footprint(memory_mib=8, threads=2, descriptors=10)


#: Of a folder's bytes.
OF_DIGITS = 0.005


def footprint(pids: Iterable[int]) -> Footprint:
    """Of these processes; they are to stand still meanwhile."""
    found = [(resident_bytes(pid), _entries(pid, "task"), _entries(pid, "fd")) for pid in pids]
    memory, threads, descriptors = (sum(each) for each in zip(*found, strict=True))
    return Footprint(memory / 2**20, threads, descriptors)


def assert_flat(footprints: Sequence[Footprint], of: str) -> str:
    """The medians of the second quarter are held against those of the last, since what is new takes a while to have all
    that it needs. Says both.
    """
    before, after = (_middle(each) for each in _early_and_late(footprints))
    for field in fields(Footprint):
        most = getattr(before, field.name) + getattr(COMES_AND_GOES, field.name)
        assert getattr(after, field.name) <= most, f"{of}, {field.name}: {before} early, {after} late"
    return f"{of} {before} → {after}"


def assert_no_more(counts: Sequence[float], of: str) -> None:
    """What comes and goes, as the files of a save do: the least of the last quarter, the most of the second.

    Two saves of the same differ by some bytes, as numbers in them have more digits.
    """
    early, late = _early_and_late(counts)
    assert min(late) <= max(early) * (1 + OF_DIGITS), f"{of}: {early} early, {late} late"


def _early_and_late(values: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    quarter = len(values) // 4
    assert quarter, "too few to tell early from late"
    return values[quarter : 2 * quarter], values[-quarter:]


def _middle(footprints: Sequence[Footprint]) -> Footprint:
    return Footprint(*(median(getattr(each, field.name) for each in footprints) for field in fields(Footprint)))


def files_in(folder: Path, but: Sequence[str] = ()) -> tuple[int, int]:
    """How many files there are and their bytes, without those that these patterns match; nobody writes meanwhile."""
    files = [path for path in folder.rglob("*") if path.is_file() and not any(map(path.match, but))]
    return len(files), sum(path.stat().st_size for path in files)


def _entries(pid: int, kind: str) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/{kind}").iterdir())
