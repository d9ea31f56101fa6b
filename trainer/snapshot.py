"""A copy of a run's state that what trains on cannot change, in values that a checkpoint can hold."""

from collections import OrderedDict
from copy import copy
from typing import Any

import numpy as np
import torch

from protocol.errors import UsageError

#: What `torch.load(weights_only=True)` gives back as it was. Exact types: a subclass would be stored by its class.
PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device)


def snapshot(state: dict[str, Any]) -> dict[str, Any]:
    """A deep copy with every tensor on the CPU in memory of its own; containers keep their types.

    Tensors on CUDA are copied side by side and waited for once. numpy's numbers become Python's. Raises `UsageError`
    for a value that a checkpoint could not give back, by its place: better now than when the run is resumed.
    """
    streams: set[torch.cuda.Stream] = set()
    copied: dict[str, Any] = _copy(state, "state", streams)
    for stream in streams:
        stream.synchronize()
    return copied


def _copy(value: Any, place: str, streams: set[torch.cuda.Stream]) -> Any:
    kind = type(value)
    if isinstance(value, torch.Tensor):
        return _copy_tensor(value.detach(), streams)
    if kind in PLAIN:
        return value
    if isinstance(value, np.generic):
        return _copy(value.item(), place, streams)
    if kind is dict:
        return {_key(key, place): _copy(each, f"{place}[{key!r}]", streams) for key, each in value.items()}
    if kind is OrderedDict:
        ordered = copy(value)  # with what modules hang on to theirs (the versions in `_metadata`)
        for key, each in value.items():
            ordered[_key(key, place)] = _copy(each, f"{place}[{key!r}]", streams)
        return ordered
    if kind in (list, tuple):
        return kind(_copy(each, f"{place}[{index}]", streams) for index, each in enumerate(value))
    raise UsageError(
        f"a checkpoint cannot hold {place}, a {kind.__module__}.{kind.__qualname__}: "
        "keep tensors, numbers, texts, lists and dicts in what is saved"
    )


def _key(key: Any, place: str) -> Any:
    if type(key) in (*PLAIN, tuple):
        return key
    raise UsageError(f"a checkpoint cannot hold the key {key!r} of {place}: use texts or numbers")


def _copy_tensor(tensor: torch.Tensor, streams: set[torch.cuda.Stream]) -> torch.Tensor:
    if tensor.device.type == "cuda" and tensor.layout == torch.strided:
        streams.add(torch.cuda.current_stream(tensor.device))
        host = torch.empty_like(tensor, device="cpu", pin_memory=True)
        return host.copy_(tensor, non_blocking=True)
    return tensor.to("cpu", copy=True)
