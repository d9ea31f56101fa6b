"""On what it was measured."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

SHOWN: Final = ("torch", "numpy", "pyzmq", "msgpack")


def describe(device: str) -> Mapping[str, str]:
    """Machine and versions, by name."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.0f} GiB",
        "device": _device(device),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in SHOWN},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _device(name: str) -> str:
    if name == "cpu":
        return name
    import torch

    return f"{name}: {torch.cuda.get_device_name(name)}"
