"""The run as TensorBoard shows it: charts over samples, pictures, histograms, the model's graph, settings and events.

A resumed life purges what a killed one wrote beyond the checkpoint, so each step stands once. One tag a scalar: the
shared charts are a custom-scalars layout, for `add_scalars` would make a writer for every line in them.
"""

import re
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.history import History
from trainer.hparams import hparams_summaries
from trainer.report import Fact, Graph, Histograms, Notice, Pictures, Report, Sink, Start, ValidationReport
from trainer.tensorboard_layout import LAYOUT, Scalars, report_scalars, validation_scalars
from trainer.wording import describe

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FLUSH_EVERY_S = 5
QUEUED_EVENTS = 1000  # a report is some twenty events: it must not wait for the disk
CLOCK_STEP_S = 2.0
HISTOGRAM_BINS = 64


class TensorBoardSink(Sink):
    """Event files in `log_dir`, made at `Start`; what `history` remembers of the step is said with each event."""

    name = "TensorBoard"
    details = True

    def __init__(self, log_dir: Path, history: History) -> None:
        self.log_dir = log_dir
        self._history = history
        self._purge_step: int | None = None
        self._writer: SummaryWriter | None = None

    def write(self, fact: Fact) -> None:
        """Hand the fact to the writer's thread. After a failure the next fact tries a new file."""
        try:
            match fact:
                case Start():
                    self._write_start(fact)
                case Report():
                    self._write_scalars(report_scalars(fact), fact.samples)
                case ValidationReport():
                    self._write_scalars(validation_scalars(fact), fact.samples)
                case Notice():
                    self._write_event(fact)
                case Pictures():
                    self._open().add_image(fact.name, fact.sheet, fact.samples, dataformats="HWC")
                case Histograms():
                    self._write_histograms(fact)
                case Graph():
                    self._open().file_writer.add_graph(fact.graph)  # type: ignore[attr-defined]
        except OSError:
            self._writer = None  # its thread is gone, and what it held is lost
            raise

    def flush(self) -> None:
        """Wait until the writer's thread has given everything to the operating system."""
        try:
            if self._writer is not None:
                self._writer.flush()
        except OSError:
            self._writer = None
            raise

    def close(self) -> None:
        """Write what is left and end the writer's thread."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _open(self) -> "SummaryWriter":
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # a second of imports, for those who write

            self.log_dir.mkdir(parents=True, exist_ok=True)
            wait_for_a_later_name(self.log_dir)
            self._writer = SummaryWriter(
                str(self.log_dir), purge_step=self._purge_step, max_queue=QUEUED_EVENTS, flush_secs=FLUSH_EVERY_S
            )
            self._purge_step = None
        return self._writer

    def _write_start(self, start: Start) -> None:
        self._purge_step = start.samples + 1 if start.resumed else 0
        if not start.resumed:
            for path in event_files(self.log_dir):  # TensorBoard would keep their settings, and purge only the rest
                path.unlink()
        first = not event_files(self.log_dir)
        writer = self._open()
        if first:  # a second copy would stand beside the first
            writer.add_custom_scalars(LAYOUT)
            for summary in hparams_summaries(start.settings):
                writer.file_writer.add_summary(summary, start.samples)  # type: ignore[attr-defined]
        facts = {"stream": start.stream, "what it is": describe(start.info), "incarnation": start.info.incarnation}
        facts |= {"model": start.model, "device": start.device, "classes": ", ".join(start.info.schema.class_names)}
        writer.add_text("run/stream", _table(facts), start.samples)
        writer.add_text("run/settings", _table(_flat(start.settings)), start.samples)
        writer.add_text("run/environment", _table(start.environment), start.samples)
        writer.flush()  # a life that is killed early still shows what it was

    def _write_scalars(self, scalars: Scalars, samples: int) -> None:
        writer = self._open()
        for tag, value in scalars.items():
            if value is not None:
                writer.add_scalar(tag, value, samples)

    def _write_histograms(self, histograms: Histograms) -> None:
        writer = self._open()
        for tag, values in histograms.values.items():
            writer.add_histogram(tag, values, histograms.samples, bins=HISTOGRAM_BINS)

    def _write_event(self, notice: Notice) -> None:
        # TensorBoard's own server shows the last text of a step only, so that one says everything.
        texts = [known.text for known in self._history.notices if known.samples == notice.samples]
        self._open().add_text("events", "\n\n".join(map(_literal, texts or [notice.text])), notice.samples)


def command_line(log_dir: Path) -> str:
    """What to type to see it: the program by its name where that finds it, else by the path beside this Python."""
    beside = Path(sys.executable).parent / "tensorboard"
    found = shutil.which("tensorboard")
    program = "tensorboard" if found and Path(found) == beside else str(_from_here(beside))
    return f"{shlex.quote(program)} --logdir {shlex.quote(str(_from_here(log_dir)))}"


def event_files(log_dir: Path) -> list[Path]:
    """The event files of all lives, in the order in which TensorBoard reads them."""
    return sorted(log_dir.glob("events.out.tfevents.*"))


def wait_for_a_later_name(log_dir: Path) -> None:
    """Return when a new event file sorts behind those that are there, which is how TensorBoard orders them.

    Their names begin with the second in which they were made, and a resumed life may follow within the same one.
    A clock that was set back for long is not waited for.
    """
    names = [path.name.split(".")[3] for path in event_files(log_dir)]
    newest = max((int(name) for name in names if name.isdigit()), default=0)
    wait_s = newest + 1 - time.time()  # noqa: TID251  (as TensorBoard names its files)
    if 0 < wait_s <= CLOCK_STEP_S:
        time.sleep(wait_s)


def _from_here(path: Path) -> Path:
    """The shorter of the path itself and the one from the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def _table(facts: Mapping[str, Any]) -> str:
    rows = [f"| {name} | `{str(value).replace('|', '/')}` |" for name, value in facts.items()]
    return "\n".join(["| name | value |", "| --- | --- |", *rows])


def _literal(text: str) -> str:
    """The text as it is, where Markdown would read marks into it."""
    return re.sub(r"([\\`*<\[\]])", r"\\\1", text)
