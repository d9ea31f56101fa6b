"""The trainer's options that change how a step is computed, each through `python -m trainer train`."""

from collections.abc import Sequence
from typing import Final

from benchmarks.cell import Cell, Numbers
from benchmarks.rows.group import MEMORY, RATE, Group
from benchmarks.settings import Settings
from benchmarks.streams import endless, picture_source, serving
from benchmarks.whole_trainer import train

NAME: Final = "options"
SAMPLES: Final = 12_000
GPU_SAMPLES: Final = 600_000
BATCH_SIZE: Final = 64
#: Compiling alone takes most of a minute.
TIMEOUT_S: Final = 150.0
OPTIONS: Final = (
    (),
    ("--amp", "bf16"),
    ("--compile", "true"),
    ("--channels_last", "true"),
    ("--accumulate", "4"),
    ("--threads", "2"),
)
ON_GPU: Final = (("--amp", "fp16"),)


def cells(settings: Settings) -> Sequence[Cell]:
    """One run of the trainer for each; none of it in a quick run."""
    if settings.quick:
        return []
    on_gpu = settings.device != "cpu"
    return [
        Cell(
            group=NAME,
            name=" ".join(options) or "none",
            function=f"{__name__}:with_options",
            arguments={
                "data": settings.data,
                "device": settings.device,
                "samples": GPU_SAMPLES if on_gpu else SAMPLES,
                "options": list(options),
            },
            rounds=1,
            timeout_s=TIMEOUT_S,
        )
        for options in (*OPTIONS, *(ON_GPU if on_gpu else ()))
    ]


GROUP: Final = Group(
    name=NAME,
    title="Options of the trainer",
    note="`python -m trainer train` with a LeNet at batch 64, 0 workers, one thread of torch where not said otherwise.",
    cells=cells,
    columns=(RATE, MEMORY),
)


def with_options(*, data: str, device: str, samples: int, options: Sequence[str]) -> Numbers:
    """A whole run with these options."""
    with serving(endless(picture_source(data))) as producer:
        return train(producer.url, samples, "--batch_size", BATCH_SIZE, "--device", device, *options)
