"""A batch: what one optimizer step trains on, and the positions after it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from protocol.dealing import Positions


@dataclass(frozen=True, eq=False)
class Batch(Mapping[str, torch.Tensor]):
    """Records in stream order, in columns: `batch["image"]` is a tensor [count, *shape].

    The tensors own their memory. `number` counts batches from 1 over all lives of a run; `positions` are those of
    all partitions after this batch; `spans` are the (partition, offset, count) that it was made of;
    `newest_time_ns` is the event time of its newest record in nanoseconds since 1970.
    """

    columns: dict[str, torch.Tensor]
    count: int
    number: int
    positions: Positions
    spans: tuple[tuple[int, int, int], ...]
    newest_time_ns: int

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)
