"""The loop that anybody would write, over a stream's records in memory: what training on the stream is held against."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from producer.computed_log import ComputedLog
from trainer.decoding import Decoder, Decoding

Columns = dict[str, torch.Tensor]


def in_stream_order(log: ComputedLog, records: int, decoders: Sequence[Decoder] = ()) -> Columns:
    """The stream's first records, one after the other, decoded."""
    decoding = Decoding(decoders)
    schema = decoding.schema(log.info.schema)
    chunks = (log.read(*log.info.dealing.locate(record), 1) for record in range(records))
    columns = [decoding.columns(chunk.columns, schema) for chunk in chunks]
    names = [field.name for field in schema.fields]
    return {name: torch.from_numpy(np.concatenate([np.asarray(each[name]) for each in columns])) for name in names}


def learn(
    loss_of: Callable[[Columns], torch.Tensor],
    optimizer: Optimizer,
    columns: Columns,
    batch_size: int,
    schedule: LRScheduler | None = None,
) -> list[float]:
    """The loss of each step."""
    losses = []
    for first in range(0, len(next(iter(columns.values()))), batch_size):
        optimizer.zero_grad()
        loss = loss_of({name: column[first : first + batch_size] for name, column in columns.items()})
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if schedule is not None:
            schedule.step()
        losses.append(loss.item())
    return losses
