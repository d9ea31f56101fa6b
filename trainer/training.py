"""`python -m trainer train`: settings become parts, the parts become a run, and the run is obeyed and shown."""

import logging
import os
import shlex
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from protocol.command_line import located, settings_of
from protocol.errors import (
    AccessDenied,
    PeerError,
    RecordsLost,
    StreamError,
    StreamReplaced,
    StreamTimeout,
    UsageError,
)
from protocol.open_reader import silent_mend
from trainer.augmentation import Augmentation, AugmentationSettings
from trainer.checkpoint import Checkpointer, CheckpointSettings
from trainer.checkpoint_files import State
from trainer.collation import Pad
from trainer.device import DeviceSettings, open_device, pins_memory
from trainer.dump import Dump, DumpSettings
from trainer.environment import environment
from trainer.every import Every
from trainer.initial import InitialSettings, take_weights
from trainer.loading import Loader
from trainer.loop import Intervals, Training
from trainer.mix import MixSettings
from trainer.opening import check_mix, open_loader
from trainer.optimization import OptimizationSettings
from trainer.parts import assemble, fitting, meaning, plain_settings
from trainer.prequential import Prequential, PrequentialSettings
from trainer.readers import prepare_workers
from trainer.report import Start
from trainer.rng import seed_generators
from trainer.run_dir import alone_in, may_go_on, stream_state
from trainer.sampling import SamplingSettings
from trainer.settings import TrainSettings
from trainer.splits import fetch_splits
from trainer.stages import Stages
from trainer.step import StepSettings
from trainer.stopping import Stopping, StoppingSettings
from trainer.telemetry import Telemetry, TelemetrySettings, open_telemetry, tensorboard_dir
from trainer.trace import TraceSettings, open_trace
from trainer.transfer import open_transfer
from trainer.validation_metrics import ValidationMetrics
from trainer.validation_sets import ValidationSets, validation_sets


def train(config: Any, make: Callable[[Any], Any]) -> int:
    """Train as the settings say; `make` makes the objects in them. What can be refused is refused before waiting."""
    settings = settings_of(TrainSettings, config)
    stopping, shown = settings_of(StoppingSettings, config), settings_of(TelemetrySettings, config)
    kept, traced = settings_of(CheckpointSettings, config), settings_of(TraceSettings, config)
    tested, sampling = settings_of(PrequentialSettings, config), settings_of(SamplingSettings, config)
    augmented, dumped = settings_of(AugmentationSettings, config), settings_of(DumpSettings, config)
    mix = settings_of(MixSettings, config)
    check_mix(settings, mix)
    intervals = Intervals(
        report=Every(settings.report_every),
        validate=Every(settings.validate_every),
        checkpoint=Every(settings.checkpoint_every),
        max_samples=settings.max_samples,
    )
    placed, step = settings_of(DeviceSettings, config), settings_of(StepSettings, config)
    device = open_device(placed)
    pin_memory = pins_memory(placed, device)
    if settings.workers:
        prepare_workers()
    seed_generators(settings.seed)
    made = make(config)
    initial = settings_of(InitialSettings, config)
    parts = assemble(made, device, step, settings_of(OptimizationSettings, config))
    metrics = ValidationMetrics(made.metrics, device)
    stages = Stages()
    augmentation = Augmentation(made.augment, made.task, augmented, seed=settings.seed, device=device, stages=stages)
    mean = meaning(config)
    run_dir = Path(settings.run_dir).expanduser()
    taken = "" if may_go_on(run_dir, settings.resume) else take_weights(parts.model, initial)
    alone = alone_in(run_dir, settings.resume, mean)
    with alone as resumed, open_telemetry(run_dir, shown) as telemetry, _notices(telemetry):
        group = f"{run_dir.resolve().name}-{os.urandom(4).hex()}"
        loader = open_loader(
            settings,
            mix,
            state=None if resumed is None else stream_state(*resumed, run_dir, group),
            run_dir=run_dir,
            group=group,
            on_wait=lambda _waited_s: telemetry.waiting(f"a producer at {settings.stream}"),
            pin_memory=pin_memory,
            stages=stages,
            sampling=sampling,
            decode=made.decode,
            collate=made.collate,
        )
        if resumed is None and (taken := taken or take_weights(parts.model, initial)):
            telemetry.notice(taken)
        _connect(loader, settings)
        check_parts(loader, step)
        validation = _validation(made, loader, run_dir, settings, telemetry)
        with Checkpointer(
            run_dir,
            kept,
            partial(_commit_or_say, loader, telemetry=telemetry),
            telemetry.notice,
            resumed_at=0 if resumed is None else resumed[1]["samples"],
        ) as checkpointer:
            run = Training(
                parts=parts,
                loader=loader,
                device=device,
                transfer=open_transfer(device),
                augmentation=augmentation,
                dump=Dump(dumped, run_dir, loader.info.schema),
                accumulate=step.accumulate,
                skip_nan=step.on_nan == "skip",
                clip_norm=step.clip_norm,
                telemetry=telemetry,
                checkpointer=checkpointer,
                stopping=Stopping(stopping),
                prequential=Prequential(tested),
                intervals=intervals,
                validation=validation,
                metrics=metrics,
                meaning=mean,
                stages=stages,
                trace=open_trace(traced, run_dir, device, telemetry.notice),
            )
            loader.on_idle = run.idle
            _begin(run, settings, run_dir, config, resumed)
            _obey_signals(run)
            _run(run)
    return 0


# --- before the first step ---------------------------------------------------------------------------------------


def _connect(loader: Loader, settings: TrainSettings) -> None:
    try:
        loader.connect()
    except StreamTimeout as error:
        bind = settings.stream if len(loader.streams) == 1 else "URL"
        raise UsageError(f"{error}: {silent_mend(bind)}, or wait longer (--connect_timeout)") from error
    except AccessDenied as error:
        raise UsageError(str(error)) from error
    except StreamReplaced as error:
        mend = (
            "give another --run_dir, or --resume never to begin anew, or --on_loss continue to go on with this stream"
        )
        raise UsageError(f"the run in {settings.run_dir} belongs to another stream: {error}: {mend}") from error


def check_parts(loader: Loader, step: StepSettings) -> None:
    """Raise `UsageError` where batches of this stream cannot be parted into micro-batches."""
    if step.accumulate > 1 and loader.info.schema.ragged and not isinstance(loader.reading.collate, Pad):
        name = type(loader.reading.collate).__name__
        raise UsageError(f"--accumulate parts a batch by records, as what {name} makes cannot be: leave it out")


def _validation(
    made: Any, loader: Loader, run_dir: Path, settings: TrainSettings, telemetry: Telemetry
) -> ValidationSets:
    info = loader.info
    try:
        held = fetch_splits(loader.reading, info, run_dir, lambda _waited_s: telemetry.waiting("the held-out records"))
    except OSError as error:
        mend = "make room, or give another --run_dir"
        raise UsageError(f"the held-out records cannot be kept in {run_dir} ({error.strerror}): {mend}") from error
    batch_size = settings.validation_batch_size
    sets = validation_sets(held, lambda: loader.held_out_by_stream, made.validation, info.schema, batch_size)
    if not sets.fixed and not loader.holds_out:
        telemetry.notice("the stream has no validation split: training goes on without validation")
    return sets


def _begin(
    run: Training, settings: TrainSettings, run_dir: Path, config: Any, resumed: tuple[Path, State] | None
) -> None:
    """Go on from the checkpoint, if there is one, and say what this life is."""
    if resumed is not None:
        with fitting(resumed[0]):
            run.load_state_dict(resumed[1])
        run.telemetry.load_state_dict(resumed[1]["telemetry"])
    folder = str(tensorboard_dir(run_dir))
    run.telemetry.start(
        Start(
            samples=run.samples,
            resumed=resumed is not None,
            run_dir=str(run_dir),
            stream=settings.stream,
            info=run.loader.info,
            model=type(run.parts.model).__name__,
            device=str(run.device),
            settings=plain_settings(config),
            environment=environment(run.device),
            expected_samples=settings.max_samples or None,
            tensorboard=f"tensorboard --logdir {shlex.quote(folder)}" if config.tensorboard else "",
        ),
        lambda: run.loader.position.streams,
    )
    if resumed is not None:
        run.telemetry.notice(f"resumed from {resumed[0]} at {run.samples:,} samples")
    else:
        run.save_first()


class _notices(logging.Handler):  # noqa: N801  (used as a context, like contextlib's)
    """While a run is shown, what the modules log becomes its notices."""

    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__(logging.INFO)
        self._telemetry = telemetry

    def emit(self, record: logging.LogRecord) -> None:
        self._telemetry.notice(record.getMessage())

    def __enter__(self) -> None:
        logger = logging.getLogger("trainer")
        logger.addHandler(self)
        logger.propagate = False

    def __exit__(self, *exc: object) -> None:
        logger = logging.getLogger("trainer")
        logger.removeHandler(self)
        logger.propagate = True


def _commit_or_say(loader: Loader, stream: Any, telemetry: Telemetry) -> None:
    """After a checkpoint became durable, on the writer's thread: a producer that is away hears of it later."""
    try:
        loader.commit(stream)
    except StreamTimeout:
        telemetry.notice("a checkpoint could not be committed: the producer is away; it hears of it when it is back")
    except PeerError as error:  # another stream has taken its place: the readers meet it too, and say what is lost
        telemetry.notice(f"a checkpoint could not be committed: {error}")


# --- while it runs -----------------------------------------------------------------------------------------------


def _obey_signals(run: Training) -> None:
    """The first SIGINT or SIGTERM saves and ends; the second ends at once."""
    told: list[int] = []

    def obey(number: int, frame: FrameType | None) -> None:
        del frame
        if told:
            os._exit(128 + number)
        told.append(number)
        run.stop(f"stopped by {signal.Signals(number).name}")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, obey)


def _run(run: Training) -> None:
    """A model that fails at its very first batch does not fit the stream: that is no bug of headrace."""
    trained = run.loader.position.batches
    try:
        run.run()
    except StreamReplaced as error:
        mend = "for the new stream give --on_loss continue, another --run_dir, or --resume never"
        raise StreamError(f"the producer serves another stream now: {error}; {_saved(run)}; {mend}") from error
    except RecordsLost as error:
        mend = "to go on behind them give --on_loss continue"
        raise StreamError(f"the log forgot records before they were trained: {error}; {_saved(run)}; {mend}") from error
    except (RuntimeError, ValueError, TypeError) as error:
        if run.loader.position.batches > trained:
            raise
        if trained == 0:
            _give_up_group(run)
        schema = run.loader.info.schema
        fields = ", ".join(f"{each.name} {each.dtype}{list(each.shape) or ''}" for each in schema.fields)
        model = type(run.parts.model).__name__
        mend = "give a --model and a --task that take these records"
        raise UsageError(f"{model} fails on its first batch of {fields}: {located(error)}: {mend}") from error


def _saved(run: Training) -> str:
    saved = run.checkpointer.durable == run.samples
    return "what was trained is saved" if saved else "what was trained is NOT SAVED"


def _give_up_group(run: Training) -> None:
    """The run has not begun, so nothing of the stream is held back for it."""
    try:
        run.loader.drop_group()
    except (StreamTimeout, PeerError) as error:
        run.telemetry.notice(f"the producer still holds the stream for {run.loader.group}: {error}")
