"""Which device the model trains on, and whether it computes the same bits each time."""

import os
import shutil
from dataclasses import dataclass
from typing import Literal

import torch

from protocol.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """Where the model is trained."""

    device: str = "auto"
    """`auto` (CUDA where there is one, else the processor), `cpu`, `cuda` or `cuda:N`."""

    deterministic: bool = False
    """Use only operations that give the same bits each time: needed on CUDA for repeatable runs, and slower there."""

    threads: int = 0
    """Processor threads of one operation; 0 leaves it to torch. Small models are as fast with 1, which leaves the other
    cores to the readers; the bits of a run depend on it."""

    pin_memory: bool | Literal["auto"] = "auto"
    """Whether batches lie in pinned memory, which CUDA copies from while it computes; `auto`: where the model is on
    CUDA."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise UsageError(f"{self.threads} threads: give 1 or more, or 0 to leave it to torch")


def open_device(settings: DeviceSettings) -> torch.device:
    """The device that the settings name, with an index where it is CUDA.

    To be called before anything else uses CUDA: `deterministic` sets what cuBLAS reads when it is first used.
    Raises `UsageError` for a name that is no device, and for one that is not here.
    """
    device = _resolve(settings.device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    return device


def pins_memory(settings: DeviceSettings, device: torch.device) -> bool:
    """Whether batches lie in pinned memory. Raises `UsageError` where that is asked for and nothing copies from it."""
    if settings.pin_memory == "auto":
        return device.type == "cuda"
    if settings.pin_memory and device.type != "cuda":
        raise UsageError(
            f"--pin_memory true is of use for CUDA only, and this run trains on {device}: give auto or false"
        )
    return settings.pin_memory


def check_compiler(device: torch.device) -> None:
    """Raise `UsageError` where torch.compile would find no compiler, which it says at the first batch in many words."""
    if device.type == "cpu":
        kind, variable, names = "C++", "CXX", ["g++"]
    else:
        kind, variable, names = "C", "CC", ["gcc", "clang"]
    if variable in os.environ:
        names = [os.environ[variable]]
    if not any(map(shutil.which, names)):
        raise UsageError(f"--compile needs a {kind} compiler, and there is no {' or '.join(names)} here: install one")


def _resolve(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"{name!r} names no device: give auto, cpu, cuda or cuda:N") from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise UsageError(f"headrace trains on cpu and cuda, not on {device.type!r}: give auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        built = torch.backends.cuda.is_built()  # type: ignore[no-untyped-call]
        reason = "torch finds no CUDA device" if built else "this torch was built without CUDA"
        raise UsageError(f"the device {name!r} is not here ({reason}): give auto or cpu")
    count = torch.cuda.device_count()
    index = torch.cuda.current_device() if device.index is None else device.index  # type: ignore[redundant-expr]
    if index >= count:
        raise UsageError(f"the device {name!r} is not here: there are {count}, cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", index)
