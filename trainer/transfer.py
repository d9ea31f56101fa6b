"""The way of a batch to the device: copies that lie under the step before, and a bound on how far ahead they run.

On CUDA a step only queues its work, so the program comes to the next batch while the device is still at this one. What
it then copies goes through a stream of its own: the copy and the step run side by side.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import torch

#: Steps that may wait on the device when the next one is begun: each holds its batch's memory.
STEPS_AHEAD: Final = 2

Columns = Mapping[str, torch.Tensor]
Transfer = Callable[[Columns], Columns]


def open_transfer(device: torch.device) -> Transfer:
    """To be called with each batch's columns just before its step; gives them on the device. On the CPU they stay."""
    return CopyStream(device) if device.type == "cuda" else _stay


class CopyStream:
    """Copies on a stream of its own; pinned memory is copied without the program waiting for it.

    A pinned column may be dropped at once, as long as torch allocated it: its memory is used again after the copy.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._ends: deque[torch.cuda.Event] = deque()

    def __call__(self, columns: Columns) -> Columns:
        """The columns, each copied when it is first looked at. Waits while `STEPS_AHEAD` earlier steps are not done."""
        while len(self._ends) >= STEPS_AHEAD:
            self._ends.popleft().synchronize()
        # "blocking": while the program waits, its core is the readers'.
        end = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        end.record(torch.cuda.current_stream(self._device))
        self._ends.append(end)
        return _Copied(columns, self._copy)

    def _copy(self, column: torch.Tensor) -> torch.Tensor:
        step = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            copied = column.to(self._device, non_blocking=True)
        step.wait_stream(self._stream)
        copied.record_stream(step)  # allocated for the one stream, used by the other
        return copied


class _Copied(Mapping[str, torch.Tensor]):
    """Columns that travel when they are first looked at: what the task does not read stays where it is."""

    def __init__(self, columns: Columns, copy: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._columns, self._copy = columns, copy
        self._copied: dict[str, torch.Tensor] = {}

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._copied:
            self._copied[name] = self._copy(self._columns[name])
        return self._copied[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns  # Mapping's own would copy

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def _stay(columns: Columns) -> Columns:
    return columns
