"""Training a LeNet: the very same step fed from memory and from a stream, and the whole trainer beside them."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.cell import Cell, Numbers
from benchmarks.measure import Columns, InOrder, measure, stream_order
from benchmarks.memory import shuffled, shuffles, tensors
from benchmarks.reading import pull
from benchmarks.rows.group import Group
from benchmarks.settings import Settings
from benchmarks.streams import endless, picture_source, pictures, serving
from benchmarks.whole_trainer import train
from producer.fashion_mnist import SCHEMA
from producer.source import ColumnSource
from protocol.schema import Field, Schema
from trainer.loader import StreamLoader
from trainer.model import GarmentClassifier
from trainer.supervised import INPUT, TARGET
from trainer.tasks import Classification

NAME: Final = "training"
WORKERS: Final = (0, 2)
BATCH_SIZES: Final = (4, 64, 256)
GPU_BATCH_SIZES: Final = (256, 1024)
MODELS: Final = ("LeNet", "ResNet-18")
SECONDS: Final = 1.0
TRAINER_SAMPLES: Final = 30_000
GPU_TRAINER_SAMPLES: Final = 600_000
TRAINER_ROUNDS: Final = 2
WHOLE_BATCH, GPU_WHOLE_BATCH = 64, 1024
#: What a ResNet-18 learns: random pictures, for their size alone.
COLOURED: Final = Schema((Field("id", "int64"), Field("image", "uint8", (3, 32, 32)), Field("label", "int64")))
COLOURED_COUNT: Final = 50_000


def row(model: str, fed: str, batch_size: int) -> str:
    """The name of a row."""
    return f"{model}, {fed}, batch {batch_size}"


def cells(settings: Settings) -> Sequence[Cell]:
    """By batch sizes: in memory, streamed, so that what is compared is measured one after the other."""
    on_cpu = settings.device == "cpu"
    sizes = (BATCH_SIZES[1:2] if settings.quick else BATCH_SIZES) if on_cpu else GPU_BATCH_SIZES
    times = {"seconds": settings.seconds or SECONDS, "warm_s": settings.warm_s}

    def cell(name: str, function: str, *, rounds: int = 0, **arguments: Any) -> Cell:
        arguments = {"data": settings.data, "device": settings.device, **arguments}
        return Cell(group=NAME, name=name, function=f"{__name__}:{function}", arguments=arguments, rounds=rounds)

    found = []
    for model in MODELS[:1] if on_cpu else MODELS:
        for size in sizes:
            same: dict[str, Any] = {"model": model, "batch_size": size, **times}
            found.append(cell(row(model, "in memory", size), "memory", **same))
            found += [cell(row(model, f"workers {n}", size), "streamed", workers=n, **same) for n in WORKERS]
    if not settings.quick:
        size = WHOLE_BATCH if on_cpu else GPU_WHOLE_BATCH
        whole: dict[str, Any] = {"batch_size": size, "samples": TRAINER_SAMPLES if on_cpu else GPU_TRAINER_SAMPLES}
        found.append(cell(row("python -m trainer", "workers 0", size), "whole", rounds=TRAINER_ROUNDS, **whole))
    return found


GROUP: Final = Group(
    name=NAME,
    title="Training",
    note="LeNet, SGD; normalise, forward, cross-entropy, backward, step; one thread of torch on both sides. In memory: "
    "`randperm`, gathered by index (on the device where that is a GPU). Streamed: `StreamLoader` and `mark_trained`. "
    "`python -m trainer`: the whole command with its reports and checkpoints.",
    cells=cells,
)


def memory(*, data: str, device: str, model: str, batch_size: int, seconds: float, warm_s: float) -> Numbers:
    """Fed from memory."""
    columns = records(model, data)
    del columns["id"]
    batches = trained(shuffled(tensors(columns, device), batch_size), model, device)
    check = InOrder(columns, batch_size, shuffles(len(columns["label"]), batch_size))
    return measure(batches.__next__, check, records=batch_size, seconds=seconds, warm_s=warm_s)


def streamed(  # noqa: PLR0913  (a cell's arguments, by keyword)
    *, data: str, device: str, model: str, batch_size: int, workers: int, seconds: float, warm_s: float
) -> Numbers:
    """Fed from a producer process."""
    columns = records(model, data)
    source = ColumnSource(model, SCHEMA if model == "LeNet" else COLOURED, columns)
    with serving(endless(source)) as producer:
        loader = StreamLoader(
            producer.url, batch_size=batch_size, num_workers=workers, pin_memory=device.startswith("cuda")
        )
        check = InOrder(columns, batch_size, stream_order(len(columns["id"])))
        batches = trained(iter(loader), model, device, loader)
        return pull(batches, check, loader, batch_size=batch_size, seconds=seconds, warm_s=warm_s)


def records(model: str, data: str) -> Columns:
    """What a model learns."""
    if model == "LeNet":
        return pictures(data)
    random = np.random.RandomState(0)
    return {
        "id": np.arange(COLOURED_COUNT),
        "image": random.randint(0, 256, (COLOURED_COUNT, 3, 32, 32), np.uint8),
        "label": random.randint(0, 10, COLOURED_COUNT),
    }


def network(model: str) -> nn.Module:
    """A model by its name."""
    if model == "LeNet":
        return GarmentClassifier()
    from torchvision.models import resnet18

    made: nn.Module = resnet18(num_classes=10)
    return made


def trained(
    batches: Iterator[Mapping[str, torch.Tensor]], model: str, device: str, loader: StreamLoader | None = None
) -> Generator[Mapping[str, torch.Tensor], None, None]:
    """Each batch once it was trained on, and marked where it came from a loader."""
    torch.manual_seed(0)
    place, task = torch.device(device), Classification()
    learner = network(model).to(place)
    optimizer = torch.optim.SGD(learner.parameters(), lr=1e-3, momentum=0.9)
    for batch in batches:
        prepared = task.prepare(batch, place)
        optimizer.zero_grad()
        loss = functional.cross_entropy(learner(prepared[INPUT]), prepared[TARGET])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if loader is not None:
            loader.mark_trained(batch)  # type: ignore[arg-type]  # a loader's batches are such
        yield batch


def whole(*, data: str, device: str, batch_size: int, samples: int) -> Numbers:
    """The trainer as a program."""
    with serving(endless(picture_source(data))) as producer:
        return train(producer.url, samples, "--batch_size", batch_size, "--device", device)
