"""Where a run runs: what its numbers and its speed may depend on."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch


def environment(device: torch.device) -> dict[str, str | int]:
    """Versions, device and processors, by name."""
    found: dict[str, str | int] = {
        **dict(versions("headrace")),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": platform.platform(),
        "processors": len(os.sched_getaffinity(0)),
        "threads of an operation": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        found |= {"GPU": torch.cuda.get_device_name(device), "CUDA": torch.version.cuda or "unknown"}
    return found


def versions(*packages: str) -> Iterator[tuple[str, str]]:
    """Name and version of each that is installed; headrace may run from its folder without being so."""
    for name in packages:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
