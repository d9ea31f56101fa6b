"""`python -m trainer predict`: what a run's best checkpoint says of pictures, arrays or a live stream, row by row."""

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Literal

from protocol.command_line import STOPPING
from protocol.errors import UsageError
from trainer.prediction_input import InputSettings, check_inputs, read_records
from trainer.prediction_rows import RowFile, form_of
from trainer.predictor import Predictor

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PredictionSettings:
    """Which model is asked, and where its answers go."""

    run_dir: str = "runs/default"
    """folder of the run, or a file that `export --format safetensors` wrote"""
    out: str = "-"
    """file that gets a row for each record; - writes to standard output"""
    format: Literal["", "csv", "jsonl"] = ""
    """csv or jsonl; by default as the name of --out ends"""
    max_records: int = 0
    """stop after this many records; 0: when the input ends"""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""

    def __post_init__(self) -> None:
        if self.max_records < 0:
            raise UsageError("--max_records is 0 or more")


def predict_run(inputs: Sequence[str], settings: PredictionSettings, reading: InputSettings) -> int:
    """Ask and write until the input ends, enough was asked, or Ctrl-C. What can be refused is refused first."""
    form = form_of(settings.out, settings.format)
    check_inputs(inputs)
    predictor = Predictor(settings.run_dir, device=settings.device)
    trained = predictor.trained
    with RowFile(settings.out, form) as rows, _stoppable() as held_back:
        try:
            for records in read_records(inputs, predictor.fields, reading, trained.decoders):
                wanted = records.first(settings.max_records - rows.count) if settings.max_records else records
                prediction = predictor.predict(wanted.columns)
                with held_back():
                    rows.write(wanted.sources, prediction)
                if rows.count == settings.max_records:
                    break
        except KeyboardInterrupt:
            logger.info("stopped: what was predicted so far is written")
    logger.info("%d records predicted by %s (%d samples trained)", rows.count, trained.path, trained.state["samples"])
    return 0


@contextmanager
def _stoppable() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """SIGINT and SIGTERM raise KeyboardInterrupt, but only after what is done under the context that this gives."""
    held = told = False

    def tell(number: int, frame: FrameType | None) -> None:
        nonlocal told
        del number, frame
        told = True
        if not held:
            raise KeyboardInterrupt

    @contextmanager
    def held_back() -> Iterator[None]:
        nonlocal held
        held = True
        yield
        held = False
        if told:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, tell) for number in STOPPING}
    try:
        yield held_back
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
