"""What the trainer's main thread spends on anything but the step: checkpoints, positions, ledger, telemetry."""

import functools
import importlib
import time
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.cell import Cell, Numbers
from benchmarks.rows.group import Column, Group
from benchmarks.settings import Settings
from benchmarks.streams import endless, picture_source, serving
from benchmarks.whole_trainer import train

NAME: Final = "overhead"
BATCH_SIZE: Final = 64
SAMPLES: Final = 30_000
QUICK_SAMPLES: Final = 20_000
ROUNDS: Final = 2

STATE: Final = "trainer.loop:Training.state_dict"
SAVE: Final = "trainer.checkpoint:Checkpointer.save"
COPY: Final = "trainer.checkpoint:snapshot"
MARK: Final = "trainer.loader:StreamLoader.mark_trained"
BOOKKEEPING: Final = (
    MARK,
    "trainer.loader:StreamLoader.check_ledger",
    "trainer.loop:standing",
    "trainer.telemetry:Telemetry.record",
    "trainer.telemetry:Telemetry.report",
)
MS: Final = 1e3


def cells(settings: Settings) -> Sequence[Cell]:
    """One run of the trainer, whose calls are timed."""
    samples = QUICK_SAMPLES if settings.quick else SAMPLES
    arguments = {"data": settings.data, "device": settings.device, "samples": samples}
    function = f"{__name__}:overhead"
    return [Cell(group=NAME, name="batch 64", function=function, arguments=arguments, rounds=ROUNDS, timeout_s=120)]


GROUP: Final = Group(
    name=NAME,
    title="Overhead of the trainer",
    note="`python -m trainer train` with a LeNet at batch 64 and its own intervals: the share of the main thread's "
    "time inside the calls that save (copy included), and inside positions, ledger and telemetry together; the longest "
    "wait for a save, and how long its copy alone took.",
    cells=cells,
    columns=(
        Column("checkpoint_share", "saving %", 100),
        Column("bookkeeping_share", "bookkeeping %", 100),
        Column("wait_ms", "longest wait ms"),
        Column("copy_ms", "its copy ms"),
        Column("beyond_copy_ms", "beyond the copy ms"),
    ),
)


def overhead(*, data: str, device: str, samples: int) -> Numbers:
    """A whole run with a stopwatch on its calls."""
    watches = {name: Stopwatch(name) for name in (*BOOKKEEPING, STATE, SAVE, COPY)}
    with serving(endless(picture_source(data))) as producer:
        train(producer.url, samples, "--batch_size", BATCH_SIZE, "--device", device)
    marks = watches[MARK].calls
    begin_s, end_s = marks[0][0], marks[-1][0] + marks[-1][1]

    def spent_s(name: str) -> float:
        return sum(took_s for at_s, took_s in watches[name].calls if begin_s <= at_s <= end_s)

    saves, copies = watches[SAVE].calls, watches[COPY].calls
    (wait_s, copy_s) = max((save[1], copy[1]) for save, copy in zip(saves, copies, strict=True))
    beyond_s = max(save[1] - copy[1] for save, copy in zip(saves, copies, strict=True))
    return {
        "checkpoint_share": (spent_s(SAVE) + spent_s(STATE)) / (end_s - begin_s),
        "bookkeeping_share": sum(map(spent_s, BOOKKEEPING)) / (end_s - begin_s),
        "wait_ms": wait_s * MS,
        "copy_ms": copy_s * MS,
        "beyond_copy_ms": beyond_s * MS,
        "saves": len(saves),
    }


class Stopwatch:
    """Takes the time of every call of `module:name` from now on: when it began, and how long it took, in seconds."""

    def __init__(self, path: str) -> None:
        module, _, name = path.partition(":")
        *outer, last = name.split(".")
        owner = functools.reduce(getattr, outer, importlib.import_module(module))
        self.calls: list[tuple[float, float]] = []
        self._function = getattr(owner, last)
        setattr(owner, last, self._wrapped())

    def _wrapped(self) -> Any:
        @functools.wraps(self._function)
        def timed(*arguments: Any, **options: Any) -> Any:
            begin_s = time.perf_counter()
            try:
                return self._function(*arguments, **options)
            finally:
                self.calls.append((begin_s, time.perf_counter() - begin_s))

        return timed
