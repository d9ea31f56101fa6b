"""What the peers' scripts share: arguments, the training side, the clock around a loop, and a look at what arrived.

Needs numpy and torch only, since it runs in each peer's own environment. A script makes an endless iterator of batches
and hands it to `measure`, which prints one line of JSON. Warming up, preparation and verification are not measured.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import processes

Bytes = npt.NDArray[np.uint8]
Restore = Callable[[torch.Tensor], torch.Tensor]

WARM_UP_S = 0.5


class MismatchError(Exception):
    """What arrived is not what was sent; its text says how."""


def parser() -> argparse.ArgumentParser:
    """The arguments that every script takes."""
    made = argparse.ArgumentParser()
    made.add_argument("--data", type=Path, required=True, help="the folder above FashionMNIST/raw")
    made.add_argument("--batch_size", type=int, required=True)
    made.add_argument("--workers", type=int, required=True, help="of the DataLoader; 0 loads in the training process")
    made.add_argument("--seconds", type=float, required=True, help="how long to measure, after warming up")
    made.add_argument("--scratch", type=Path, required=True, help="a folder for prepared data, removed by the caller")
    return made


def training_side(data: Path) -> tuple[Bytes, Bytes]:
    """(images uint8 [N, 1, 28, 28], labels uint8 [N]), both read-only: nobody's copy changes under the others."""
    raw = data / "FashionMNIST" / "raw"
    images = np.fromfile(raw / "train-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 1, 28, 28)
    labels = np.fromfile(raw / "train-labels-idx1-ubyte", np.uint8)[8:]
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def over_and_over(loader: Iterable[Any]) -> Iterator[Any]:
    """Its batches, pass after pass."""
    while True:
        yield from loader


def measure(
    arguments: argparse.Namespace,
    batches: Iterator[Any],
    *,
    version: str,
    keys: tuple[Any, ...] = (0, 1),
    restore: Restore | None = None,
) -> None:
    """Take batches for `seconds`, verify the first and the last, print the figures as one line of JSON.

    `keys` finds images and labels in a batch, and where there is a third the send times (monotonic seconds) of its
    records. `restore` makes uint8 pictures again of what a peer delivers as something else.
    """
    image, label, *sent = keys
    first = next(batches)
    for _ in until(time.monotonic() + WARM_UP_S, batches):
        pass
    processes.forget_peaks()
    cpu_before_s, start_s = processes.cpu_s(), time.monotonic()
    records, ages_s, last = 0, [], first
    for last in until(start_s + arguments.seconds, batches):
        records += len(last[label])
        if sent:
            ages_s.append(time.monotonic() - float(last[sent[0]].max()))
    wall_s, cpu_s, peak_bytes = time.monotonic() - start_s, processes.cpu_s() - cpu_before_s, processes.peak_bytes()
    try:
        if not records:
            raise MismatchError("no batch arrived")
        verify(training_side(arguments.data), [(b[image], b[label]) for b in (first, last)], restore)
    except MismatchError as error:
        sys.exit(str(error))
    figures = {
        "records_per_s": records / wall_s,
        "records": records,
        "cpu_s_per_million": cpu_s / records * 1e6,
        "peak_bytes": peak_bytes,
        "verified": True,
        "version": version,
    }
    if ages_s:
        p50, p99 = np.quantile(ages_s, (0.5, 0.99)) * 1e3
        figures |= {"age_p50_ms": float(p50), "age_p99_ms": float(p99)}
    print(json.dumps(figures), flush=True)


def until(end_s: float, batches: Iterator[Any]) -> Iterator[Any]:
    """Batches while the monotonic clock is before `end_s`; the iterator is left where it stands."""
    while time.monotonic() < end_s:
        yield next(batches)


def verify(side: tuple[Bytes, Bytes], batches: Iterable[tuple[Any, Any]], restore: Restore | None = None) -> None:
    """Raises `MismatchError` unless every image of (images, labels) is one of the side's and bears its label."""
    known: dict[bytes, set[int]] = {}
    for picture, label in zip(*side, strict=True):
        known.setdefault(picture.tobytes(), set()).add(int(label))
    for images, labels in batches:
        pictures = check_form(images if restore is None else restore(images), labels)
        for row, label in enumerate(labels.tolist()):
            due = known.get(pictures[row].tobytes())
            if due is None:
                raise MismatchError(f"image {row} of a batch is none of the training pictures")
            if label not in due:
                raise MismatchError(f"image {row} of a batch bears label {label} where {min(due)} is due")


def check_form(images: Any, labels: Any) -> Bytes:
    """The images as an array [B, 1, 28, 28]. Raises `MismatchError` where shapes or dtypes are not as promised."""
    if not isinstance(images, torch.Tensor) or not isinstance(labels, torch.Tensor):
        raise MismatchError(f"a batch is of {type(images).__name__} and {type(labels).__name__}, not of tensors")
    if images.dtype != torch.uint8 or images.shape != (len(labels), 1, 28, 28) or not len(labels):
        raise MismatchError(f"the images of a batch are {images.dtype} {list(images.shape)}, not uint8 [B, 1, 28, 28]")
    if labels.is_floating_point() or labels.ndim != 1:
        raise MismatchError(f"the labels of a batch are {labels.dtype} {list(labels.shape)}, not integers [B]")
    return images.numpy()
