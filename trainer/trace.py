"""`--profile N`: what torch and the device do in N steps, as a trace that Perfetto and TensorBoard open."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import torch

from protocol.errors import UsageError

FOLDER: Final = "profile"
#: The first steps of a life find their algorithms and memory; the profiler itself needs a step or two to warm up.
SKIPPED_STEPS: Final = 3
WARM_UP_STEPS: Final = 2
#: The ending by which TensorBoard's profiler plugin knows a trace.
ENDING: Final = ".pt.trace.json.gz"
#: Above every level that torch's profiler library knows.
SILENT: Final = "99"


@dataclass(frozen=True, kw_only=True)
class TraceSettings:
    """Whether to look closer at some steps."""

    profile: int = 0
    """steps of which a trace is saved in the run directory's `profile`, soon after the start; 0: none"""

    def __post_init__(self) -> None:
        if self.profile < 0:
            raise UsageError(f"--profile {self.profile}: give the number of steps, 0 for none")


def open_trace(
    settings: TraceSettings, run_dir: Path, device: torch.device, say: Callable[[str], None]
) -> "Trace | None":
    """The trace that the settings ask for; None costs nothing."""
    return Trace(run_dir / FOLDER, settings.profile, device, say) if settings.profile else None


class Trace:
    """Records `steps` steps of this process, a few steps after it is entered, and tells `say` where the trace lies.

    What was recorded is saved as well where the context is left before that many steps.
    """

    def __init__(self, folder: Path, steps: int, device: torch.device, say: Callable[[str], None]) -> None:
        self._folder, self._steps, self._device, self._say = folder, steps, device, say
        self._profiler: torch.profiler.profile | None = None
        self._saved = False

    def __enter__(self) -> Self:
        os.environ.setdefault("KINETO_LOG_LEVEL", SILENT)  # else it writes into the live view
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self._device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        self._profiler = torch.profiler.profile(
            activities=activities,
            schedule=torch.profiler.schedule(
                skip_first=SKIPPED_STEPS, wait=0, warmup=WARM_UP_STEPS, active=self._steps, repeat=1
            ),
            on_trace_ready=self._save,
        )
        self._profiler.start()
        return self

    def step(self) -> None:
        """A step has ended, and the next begins."""
        if self._profiler is not None:
            self._profiler.step()
            if self._saved:
                self._stop()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if not self._saved:
            first = SKIPPED_STEPS + WARM_UP_STEPS + 1
            self._say(f"no profile was saved: the run ended before its step {first}, the first that is recorded")

    def _stop(self) -> None:
        profiler, self._profiler = self._profiler, None
        if profiler is not None:
            profiler.stop()

    def _save(self, profiler: Any) -> None:
        path = self._folder / (time.strftime("%Y-%m-%d-%H-%M-%S") + ENDING)
        self._saved = True
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            profiler.export_chrome_trace(str(path))
        except OSError as error:
            self._say(f"the profile could not be saved in {self._folder} ({error.strerror or error})")
            return
        self._say(
            f"a profile is saved as {path}: open it at https://ui.perfetto.dev, or with "
            f"tensorboard --logdir {self._folder} where torch-tb-profiler is installed"
        )
