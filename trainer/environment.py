"""Where a run runs: what its numbers and its speed may depend on."""

import os
import platform
from importlib.metadata import version

import numpy as np
import torch


def environment(device: torch.device) -> dict[str, str | int]:
    """Versions, device and processors, by name."""
    found: dict[str, str | int] = {
        "headrace": version("headrace"),
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
