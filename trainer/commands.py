"""The command lines of the trainer: what may be told, and which room it is told to."""

from collections.abc import Sequence
from typing import Any

import trainer.distillation
import trainer.transforms  # noqa: F401  (with both all ready-made tasks and transforms are known by their names alone)
from protocol.class_path import add_class, class_path_in, import_class, say_classes
from protocol.command_line import ArgumentParser, settings_of
from trainer.augmentation import AugmentationSettings, add_augment
from trainer.checkpoint import CheckpointSettings
from trainer.device import DeviceSettings
from trainer.dump import DumpSettings
from trainer.evaluation import evaluate_run
from trainer.export import ExportSettings, export_run
from trainer.initial import InitialSettings
from trainer.ledger_view import show_ledger
from trainer.optimization import OptimizationSettings
from trainer.parts import KINDS, add_model, add_optimizer, check_classes
from trainer.prediction import PredictionSettings, predict_run
from trainer.prediction_input import InputSettings
from trainer.prequential import PrequentialSettings
from trainer.reading import add_reading
from trainer.sampling import SamplingSettings
from trainer.settings import TrainSettings
from trainer.step import StepSettings
from trainer.stopping import StoppingSettings
from trainer.sweep import SweepSettings, sweep
from trainer.telemetry import TelemetrySettings
from trainer.trace import TraceSettings
from trainer.training import train
from trainer.validation_metrics import add_metrics

DESCRIPTION = """Train on a live stream, every sample exactly once, and look at what came of it.

  python -m trainer train --help
  python -m trainer sweep --help
  python -m trainer evaluate --help
  python -m trainer ledger --help
  python -m trainer predict --help
  python -m trainer export --help"""
TRAIN = """Train on a stream until it ends, a limit is reached, or Ctrl-C; killed at any moment, the same command
goes on.

Model, task, optimizer and schedule are class paths with typed arguments (--model.help CLASS and so on show them). A
YAML file (--config) may hold everything; --print_config shows what it would look like.

  python -m trainer train
  python -m trainer train --run_dir runs/adam --optimizer torch.optim.AdamW --optimizer.lr 1e-3
  python -m trainer train --run_dir runs/mine --model my_models.Wide --model.width 64 --max_samples 330000
  python -m trainer train --print_config > mine.yaml; python -m trainer train --config mine.yaml"""
SWEEP = """Look for better settings: trials of one training, each with other values, side by side on one stream, all
from its beginning; those that do badly end early. Killed at any moment, the same command goes on, and each trial from
its checkpoint.

A YAML file (--config) holds the space that is searched, by the names of the options of `trainer train`, and what all
trials share (train), as a settings file of `trainer train` does.

  python -m trainer sweep --config examples/sweep.yaml
  python -m trainer sweep --config examples/sweep.yaml --sweep_dir runs/second --seed 1 --train.batch_size 128
  python -m trainer sweep --trials 20 --space '{optimizer.lr: {low: 1e-4, high: 0.1, log: true}}'"""
EVALUATE = """The best checkpoint (by validation loss) on the held-out test records. Works offline: everything lies
in the run directory.

  python -m trainer evaluate
  python -m trainer evaluate --run_dir runs/mine --json"""
LEDGER = """Where every record of a run went, partition by partition, as its newest checkpoint has it, and whether that
adds up: position - start = trained + held out + thinned + skipped + rejected + lost + absent, and as many trained as
the checkpoint says.
With --stream it is held against the producer's log as well. Exit status 1 where a term is wrong.

  python -m trainer ledger
  python -m trainer ledger --run_dir runs/mine --stream tcp://127.0.0.1:5555
  python -m trainer ledger --json | jq .totals.lost"""
PREDICT = """What the best checkpoint of a run says of pictures, arrays or a live stream: a row for each record, with
the name of its class and all probabilities. Of a stream it reads along without a group: it trains nothing, holds
nothing back and releases nothing. Ctrl-C ends it with what was written.

  python -m trainer predict --input boot.png shirts/ --out told.csv
  python -m trainer predict --run_dir runs/mine --input images.npy --out told.jsonl
  python -m trainer predict --input tcp://127.0.0.1:5555 --start latest --format csv"""
EXPORT = """The best checkpoint of a run as one file for other programs, with a card beside it that says how to use it,
what it learnt from and how well. The task's preprocessing is inside; any number of records can be given at once. A
process of its own, which has nothing but the file, must give the same answers, else the file is not kept.

  python -m trainer export --format pt2
  python -m trainer export --run_dir runs/mine --format onnx --out wide.onnx"""
COMPONENTS = (
    TrainSettings,
    DeviceSettings,
    InitialSettings,
    SamplingSettings,
    OptimizationSettings,
    StepSettings,
    AugmentationSettings,
    DumpSettings,
    StoppingSettings,
    PrequentialSettings,
    TelemetrySettings,
    CheckpointSettings,
    TraceSettings,
)
#: Options that take a class by its path alone.
CLASSES = (*KINDS, "validation", "metrics", "augment", "decode", "collate")


def main(arguments: Sequence[str]) -> int:
    """Parse and obey."""
    usage = "python -m trainer train|sweep|evaluate|ledger|predict|export [options]"
    parser = ArgumentParser(prog="python -m trainer", usage=usage, description=DESCRIPTION)
    commands = parser.add_subcommands(required=True)
    say_classes(arguments, *CLASSES)
    training = _train_parser(arguments)
    commands.add_subcommand("train", training, help="train on a stream")
    commands.add_subcommand("sweep", _sweep_parser(), help="train with many settings, and find the best")
    evaluation = _evaluate_parser(arguments)
    commands.add_subcommand("evaluate", evaluation, help="the best checkpoint on the test records")
    commands.add_subcommand("ledger", _ledger_parser(), help="where the records of a run went, and whether it adds up")
    commands.add_subcommand("predict", _predict_parser(), help="what the best checkpoint says of pictures or a stream")
    commands.add_subcommand("export", _export_parser(), help="the best checkpoint as a file for other programs")
    config = parser.parse_args(list(arguments))
    if config.subcommand == "evaluate":
        return evaluate_run(config.evaluate, evaluation.make)
    if config.subcommand == "ledger":
        return show_ledger(config.ledger)
    if config.subcommand == "predict":
        asked = config.predict
        return predict_run(asked.input, settings_of(PredictionSettings, asked), settings_of(InputSettings, asked))
    if config.subcommand == "export":
        return export_run(settings_of(ExportSettings, config.export))
    if config.subcommand == "sweep":
        return sweep(config.sweep, _trial_settings)
    return train(config.train, training.make)


def _train_parser(arguments: Sequence[str]) -> ArgumentParser:
    check_classes(arguments)
    parser = ArgumentParser(usage="python -m trainer train [options]", description=TRAIN)
    parser.add_argument("--config", metavar="FILE", action="config", help="a YAML file of these settings")
    add_model(parser, arguments)
    add_optimizer(parser, arguments)
    text = "class path of a map-style dataset to validate on, before the stream's own splits"
    own = class_path_in(arguments, "validation")
    if own is not None:
        add_class(parser, "validation", import_class(own, "--validation"), text)
    else:
        parser.add_argument("--validation", metavar="CLASS", type=str | None, default=None, help=text)
    add_metrics(parser, arguments)
    add_augment(parser, arguments)
    add_reading(parser)
    for settings in COMPONENTS:
        parser.add_class_arguments(settings, None)
    return parser


def _sweep_parser() -> ArgumentParser:
    parser = ArgumentParser(usage="python -m trainer sweep [options]", description=SWEEP)
    parser.add_argument("--config", metavar="FILE", action="config", help="a YAML file of these settings")
    parser.add_class_arguments(SweepSettings, None)
    text = "what varies: for each option of `trainer train` {choice: [a, b]} or {low: a, high: b, log: true, step: c}"
    parser.add_argument("--space", metavar="YAML", type=dict, default={}, help=text)
    text = "what all trials share, as a settings file of `trainer train` holds it; also --train.OPTION"
    parser.add_argument("--train", metavar="YAML", type=dict, default={}, help=text)
    return parser


def _trial_settings(options: Sequence[str]) -> tuple[Any, str]:
    """The settings of a training, and the same as YAML. Raises `UsageError`."""
    parser = _train_parser(options)
    config = parser.parse_args(list(options))
    for component in COMPONENTS:
        settings_of(component, config)
    return config, parser.dump(config)


def _evaluate_parser(arguments: Sequence[str]) -> ArgumentParser:
    parser = ArgumentParser(usage="python -m trainer evaluate [options]", description=EVALUATE)
    parser.add_argument("--run_dir", type=str, default="runs/default", help="folder of the run")
    parser.add_argument("--batch_size", type=int, default=1000, help="records of one step")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:N")
    add_metrics(parser, arguments)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _ledger_parser() -> ArgumentParser:
    parser = ArgumentParser(usage="python -m trainer ledger [options]", description=LEDGER)
    parser.add_argument("--run_dir", type=str, default="runs/default", help="folder of the run")
    parser.add_argument(
        "--stream", metavar="URL", type=str, default="", help="hold it against the log that is served there"
    )
    parser.add_argument("--keys", metavar="DIR", type=str, default="", help="folder of this client's keys")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=5.0, help="to wait for the producer")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _predict_parser() -> ArgumentParser:
    parser = ArgumentParser(usage="python -m trainer predict --input WHAT… [options]", description=PREDICT)
    text = "pictures (JPEG, PNG), folders of them, .npy or .npz files, or the URL of a stream"
    parser.add_argument("--input", metavar="WHAT", nargs="+", type=str, required=True, help=text)
    for settings in (PredictionSettings, InputSettings):
        parser.add_class_arguments(settings, None)
    return parser


def _export_parser() -> ArgumentParser:
    parser = ArgumentParser(usage="python -m trainer export --format FORMAT [options]", description=EXPORT)
    parser.add_class_arguments(ExportSettings, None)
    return parser
