"""Runs to be asked: one that is trained in the test's own process, and checkpoints of any model as it was made."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from producer.computed_log import split_log
from producer.source import ColumnSource, Source, Subset
from protocol.dealing import Dealing
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from tests.trainer.streams import computed, serving
from trainer.checkpoint_files import BEST, write
from trainer.commands import main

CLASSES = ("ankle", "bag", "coat", "dress")
RECORDS, VALIDATION, TEST = 640, 128, 120
PICTURES = Schema(
    (Field("id", "int64"), Field("image", "uint8", (1, 28, 28)), Field("label", "int64")),
    label="label",
    class_names=CLASSES,
    label_range=(0, len(CLASSES) - 1),
)


def stripes(records: int, seed: int) -> dict[str, Any]:
    """Noise in which the brightest stripe is the label; every ninth label is another."""
    drawn = np.random.RandomState(seed)
    label = drawn.randint(0, len(CLASSES), records)
    image = drawn.randint(0, 160, (records, 1, 28, 28)).astype(np.uint8)
    for row, number in enumerate(label):
        image[row, 0, 7 * number : 7 * number + 7] += 60
    label[::9] = (label[::9] + 1) % len(CLASSES)
    return {"id": np.arange(records), "image": image, "label": label}


def pictures() -> Source:
    """The stream, with its splits."""
    sizes = (RECORDS, VALIDATION, TEST)
    train, validation, test = (ColumnSource("stripes", PICTURES, stripes(n, seed)) for seed, n in enumerate(sizes))
    return Subset(train, np.arange(RECORDS), splits={"validation": validation, "test": test})


def train(run_dir: Path, source: Source, *options: str) -> Path:
    """The directory of a run that has trained a pass of the source."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    threads = torch.get_num_threads()
    shown = ("--display", "plain", "--tensorboard", "false", "--device", "cpu", "--threads", "1")
    with serving(computed(source), splits={name: split_log(split) for name, split in source.splits().items()}) as url:
        assert main(["train", "--stream", url, "--run_dir", str(run_dir), *shown, *options]) == 0
    for number, handler in handlers.items():
        signal.signal(number, handler)
    torch.set_num_threads(threads)
    return run_dir


def saved(run_dir: Path, model: nn.Module, schema: Schema, task: str, **arguments: Any) -> Path:
    """The directory of a run whose best checkpoint is this model, made without arguments; nothing was trained."""
    kind = type(model)
    state = {
        "samples": 0,
        "meaning": {
            "model": {"class_path": f"{kind.__module__}.{kind.__qualname__}"},
            "task": {"class_path": task, "init_args": arguments},
        },
        "info": StreamInfo(incarnation="none", schema=schema, dealing=Dealing(1, 1)).to_wire(),
        "model": model.state_dict(),
    }
    folder = run_dir / BEST
    folder.mkdir(parents=True)
    write(folder, 0, state)
    return run_dir
