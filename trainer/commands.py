"""The command lines of the trainer: what they are told becomes parts, and the parts run."""

import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from protocol.class_path import class_path_in, import_class
from protocol.command_line import ArgumentParser
from protocol.errors import StreamTimeout, UsageError
from trainer.checkpoint import Checkpointer, CheckpointSettings
from trainer.checkpoint_files import State, load, load_best, load_newest
from trainer.device import DeviceSettings, open_device
from trainer.every import Every
from trainer.holdout import Holdout
from trainer.loader import StreamLoader
from trainer.loop import Intervals, Training, commit_or_say
from trainer.parts import add_model, add_optimizer, assemble, check_same, meaning
from trainer.report import Start
from trainer.rng import seed_generators
from trainer.settings import TrainSettings
from trainer.splits import SPLITS, TEST, VALIDATION, Batches, batches_of, batches_of_own, fetch_splits
from trainer.stopping import Stopping, StoppingSettings
from trainer.telemetry import Telemetry, TelemetrySettings, open_telemetry, tensorboard_dir
from trainer.validation import evaluate

DESCRIPTION = "Train on a live stream, every sample exactly once, and look at what came of it."
TRAIN = """Train on a stream until it ends, a limit is reached, or Ctrl-C; killed at any moment, the same command
goes on.

Model, task, optimizer and schedule are class paths with typed arguments, such as --optimizer torch.optim.AdamW
--optimizer.lr 1e-3. A YAML file (--config) may hold them all; --print_config shows what it would look like."""
EVALUATE = """The best checkpoint (by validation loss) on the held-out test records. Works offline: everything lies
in the run directory."""
FLAT = (DeviceSettings, StoppingSettings, TelemetrySettings, CheckpointSettings)


def main(arguments: Sequence[str]) -> int:
    """Parse and obey."""
    parser = ArgumentParser(prog="python -m trainer", description=DESCRIPTION)
    commands = parser.add_subcommands(required=True)
    commands.add_subcommand("train", _train_parser(arguments), help="train on a stream")
    commands.add_subcommand("evaluate", _evaluate_parser(), help="the best checkpoint on the test records")
    config = parser.parse_args(list(arguments))
    if config.subcommand == "evaluate":
        return _evaluate(config.evaluate)
    return _train(_train_parser(arguments), config.train)


def _train_parser(arguments: Sequence[str]) -> ArgumentParser:
    parser = ArgumentParser(description=TRAIN)
    parser.add_argument("--config", action="config", help="a YAML file of these settings")
    parser.add_class_arguments(TrainSettings, None)
    for settings in FLAT:
        parser.add_class_arguments(settings, None)
    add_model(parser)
    add_optimizer(parser)
    own = class_path_in(arguments, "validation")
    if own is not None:
        parser.add_subclass_arguments(import_class(own, "--validation"), "validation", required=True)
    else:
        parser.add_argument(
            "--validation", type=str | None, default=None, help="class path of a map-style dataset to validate on"
        )
    return parser


def _evaluate_parser() -> ArgumentParser:
    parser = ArgumentParser(description=EVALUATE)
    parser.add_argument("--run_dir", type=str, default="runs/default", help="folder of the run")
    parser.add_argument("--batch_size", type=int, default=1000, help="records of one step")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


# --- train -------------------------------------------------------------------------------------------------------


def _train(parser: ArgumentParser, config: Any) -> int:
    settings = _of(TrainSettings, config)
    device = open_device(_of(DeviceSettings, config))
    seed_generators(settings.seed)
    made = parser.make(config)
    run_dir = Path(settings.run_dir).expanduser()
    resumed = _resumed(run_dir, settings.resume)
    mean = meaning(config)
    if resumed is not None:
        check_same(resumed[1]["meaning"], mean, str(resumed[0]))
    with open_telemetry(run_dir, _of(TelemetrySettings, config)) as telemetry, _notices(telemetry):
        loader = StreamLoader(
            settings.stream,
            batch_size=settings.batch_size,
            num_workers=settings.workers,
            group=f"{run_dir.name}-{os.urandom(4).hex()}",
            start=settings.start,
            connect_timeout_s=settings.connect_timeout or None,
            idle_timeout_s=settings.idle_timeout or None,
            on_timeout="end",
            on_wait=lambda _waited_s: telemetry.waiting(f"a producer at {settings.stream}"),
            pin_memory=device.type == "cuda",
        )
        if resumed is not None:
            loader.load_state_dict(resumed[1]["stream"])
        _connect(loader, settings)
        parts = assemble(made, device)
        validation = _validation(made, loader, run_dir, settings, telemetry)
        with Checkpointer(
            run_dir,
            _of(CheckpointSettings, config),
            partial(commit_or_say, loader, telemetry=telemetry),
            telemetry.notice,
            resumed_at=0 if resumed is None else resumed[1]["samples"],
        ) as checkpointer:
            run = Training(
                parts=parts,
                loader=loader,
                device=device,
                telemetry=telemetry,
                checkpointer=checkpointer,
                stopping=Stopping(_of(StoppingSettings, config)),
                intervals=Intervals(
                    report=Every(settings.report_every),
                    validate=Every(settings.validate_every),
                    checkpoint=Every(settings.checkpoint_every),
                    max_samples=settings.max_samples,
                ),
                validation=validation,
                meaning=mean,
            )
            loader.on_idle = run.idle
            if resumed is not None:
                run.load_state_dict(resumed[1])
                telemetry.load_state_dict(resumed[1]["telemetry"])
            telemetry.start(_start(run, settings, run_dir, config, resumed=resumed is not None))
            _obey_signals(run)
            if resumed is not None:
                telemetry.notice(f"resumed from {resumed[0]} at {run.samples:,} samples")
            else:
                run.save_first()
            run.run()
    return 0


def _of(kind: type[Any], config: Any) -> Any:
    """The settings of one component, and only its own."""
    return kind(**{name: config[name] for name in kind.__dataclass_fields__})


def _resumed(run_dir: Path, resume: str) -> tuple[Path, State] | None:
    if resume == "never":
        return None
    if resume != "auto":
        return Path(resume), load(Path(resume))
    return load_newest(run_dir, lambda line: print(f"trainer: {line}", file=sys.stderr, flush=True))


def _connect(loader: StreamLoader, settings: TrainSettings) -> None:
    try:
        loader.connect()
    except StreamTimeout as error:
        raise UsageError(f"{error}: start one (python -m producer --bind {settings.stream}), or wait longer") from error


def _validation(
    made: Any, loader: StreamLoader, run_dir: Path, settings: TrainSettings, telemetry: Telemetry
) -> Batches | None:
    info = loader.info
    held = fetch_splits(settings.stream, info, run_dir, lambda _waited_s: telemetry.waiting("the held-out records"))
    if made.validation is not None:
        return batches_of_own(made.validation, info.schema, settings.validation_batch_size)
    if VALIDATION in held:
        return batches_of(held[VALIDATION], settings.validation_batch_size)
    telemetry.notice("the stream has no validation split: training goes on without validation")
    return None


def _start(run: Training, settings: TrainSettings, run_dir: Path, config: Any, *, resumed: bool) -> Start:
    return Start(
        samples=run.samples,
        resumed=resumed,
        run_dir=str(run_dir),
        stream=settings.stream,
        info=run.loader.info,
        model=type(run.parts.model).__name__,
        device=str(run.device),
        settings=config.as_dict(),
        expected_samples=settings.max_samples or None,
        tensorboard=f"tensorboard --logdir {shlex.quote(str(tensorboard_dir(run_dir)))}",
    )


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


def _obey_signals(run: Training) -> None:
    """The first SIGINT or SIGTERM saves and ends; the second ends at once."""

    def obey(number: int, frame: FrameType | None) -> None:
        del frame
        if run.stop_asked:
            os._exit(128 + number)
        run.stop(f"stopped by {signal.Signals(number).name}")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, obey)


# --- evaluate ----------------------------------------------------------------------------------------------------


def _evaluate(config: Any) -> int:
    run_dir = Path(config.run_dir).expanduser()
    device = open_device(DeviceSettings(device=config.device))
    path, state = _best(run_dir)
    parser = ArgumentParser()
    add_model(parser)
    made = parser.make(parser.parse_object({name: state["meaning"][name] for name in ("model", "task")}))
    made.model.load_state_dict(state["model"])
    test = Holdout.open(run_dir / SPLITS / TEST)
    names = test.schema.class_names
    found = evaluate(made.model.to(device), made.task, batches_of(test, config.batch_size), device, names)
    if config.json:
        figures = {**found.figures, "per_class": found.per_class, "checkpoint": str(path), "samples": state["samples"]}
        print(json.dumps(figures))
        return 0
    print(f"{path} ({state['samples']:,} samples trained) on {len(test):,} test records")
    for name, value in found.figures.items():
        print(f"  {name:<12} {value:.4f}" if name != "count" else f"  {name:<12} {value:.0f}")
    for name, value in found.per_class.items():
        print(f"    {name:<14} {value:.3f}")
    return 0


def _best(run_dir: Path) -> tuple[Path, State]:
    def say(line: str) -> None:
        print(f"trainer: {line}", file=sys.stderr, flush=True)

    found = load_best(run_dir, say)
    if found is None and (found := load_newest(run_dir, say)) is not None:
        say("the run was never validated, so its newest checkpoint stands in for the best")
    if found is None:
        raise UsageError(f"{run_dir} holds no checkpoint: train first, or give another --run_dir")
    return found
