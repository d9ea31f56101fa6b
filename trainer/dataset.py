"""A stream as an `IterableDataset`, sharded over the DataLoader's workers by partition.

Worker k of n reads the partitions p with p mod n == k over a connection of its own, made inside `__iter__` (a ZeroMQ
context does not survive the start of a worker).
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from protocol.chunk import Chunk, value_of
from protocol.dealing import Positions
from protocol.errors import DataFault, HeadraceError, UsageError
from protocol.memory import keep_freed_memory
from protocol.messages import STREAM
from protocol.open_reader import check_url
from protocol.reader import Reader
from protocol.stream import StreamInfo
from protocol.subscription import Event, Subscribed, Subscription, Undecodable
from trainer.ahead import Ahead
from trainer.along import Along
from trainer.decoding import Decoder
from trainer.reading import Reading
from trainer.shared import ProgressBoard, Slots, SlottedChunk
from trainer.workers import die_with_parent

#: Lists of items; each has at most a few chunks.
THREAD_DEPTH = 4
#: Of a silent stream a reader says something this often.
ITEM_S = 0.25


@dataclass(frozen=True)
class Failed:
    """A reader has failed. It travels as an item, since DataLoader would re-raise another type in the main process."""

    error: HeadraceError


#: What a reader hands to the loader.
Item = Event | SlottedChunk | Failed


class ReaderItems(IterableDataset[list[Item]]):
    """What the readers of one training run hand to its loader: chunks in stream order and what else they heard.

    What came together is handed over together; an empty list is the sign of life of a silent stream. In a worker chunks
    travel through `slots`; in the main process (`num_workers=0`) a thread reads.
    """

    def __init__(
        self,
        connect: Callable[[], Reader],
        info: StreamInfo,
        positions: Positions,
        group: str,
        board: ProgressBoard,
        slots: Slots | None,
    ) -> None:
        self._connect, self._info, self._positions = connect, info, positions
        self._group, self._board, self._slots = group, board, slots
        self._reader: Reader | None = None

    def __iter__(self) -> Iterator[list[Item]]:
        worker = get_worker_info()
        if worker is None or self._slots is None:
            yield from self.ahead()
            return
        for items in self._items(worker.id, worker.num_workers):
            yield from self._slotted(worker.id, self._slots, items)
            if self._slots.closed:
                return

    def ahead(self, bell: threading.Event | None = None) -> Ahead[list[Item]]:
        """All partitions, read by a thread of this process."""
        return Ahead(lambda: self._items(0, 1), THREAD_DEPTH, while_full=self._stay, bell=bell)

    def _slotted(self, worker: int, slots: Slots, items: list[Item]) -> Iterator[list[Item]]:
        """The items with their chunks in slots; what is slotted does not wait for those that find no room yet."""
        ready: list[Item] = []
        for item in items:
            for part in slots.parts(item) if isinstance(item, Chunk) else (item,):
                if not isinstance(part, Chunk) or not slots.fits(part):
                    ready.append(part)  # as it is: a single record larger than a slot, too
                    continue
                if ready and not slots.room(worker):
                    yield ready
                    ready = []
                slotted = slots.put(worker, part, self._stay)
                if slotted is None:
                    return
                ready.append(slotted)
        yield ready

    def _stay(self) -> None:
        if self._reader is not None:
            self._reader.stay()

    def _items(self, reader: int, readers: int) -> Iterator[list[Item]]:
        owned = self._info.dealing.owned(reader, readers)
        asked = Subscription(
            split=STREAM,
            positions={partition: self._positions[partition] for partition in owned},
            incarnation=self._info.incarnation,
            group=self._group,
            pass_lost=True,  # what is done about it is the loader's to say
            partitions=self._info.dealing.partitions,
        )
        yield []  # a sign of life before the connection is made
        try:
            with self._connect() as self._reader:
                for events in self._reader.read(asked, progress=lambda: self._board.of(owned), idle_s=ITEM_S):
                    self._check_fields(events)
                    yield list(events)
        except HeadraceError as error:
            yield [Failed(error)]
        finally:
            self._reader = None

    def _check_fields(self, events: list[Event]) -> None:
        """Raise `UsageError` where a topic shows this reader other fields than it has shown the loader."""
        known = self._info.schema
        for event in events:
            if isinstance(event, Subscribed) and (shown := event.info.schema).fields != known.fields:
                now = f"a message shows other fields ({shown.fields_text}) than one before it ({known.fields_text})"
                raise UsageError(f"{now}: declare them (schema= of the topic's URL)")


class StreamDataset(IterableDataset[dict[str, torch.Tensor]]):
    """The samples of a stream, for any `DataLoader`: `DataLoader(StreamDataset(url), batch_size=64)`.

    Each sample is a dict of tensors, one a field. With workers, each reads its own share of the partitions and
    DataLoader mixes the shares as they come. Nothing here knows what has been trained: a restart begins anew at
    `start` ('earliest' or 'latest'). For every sample exactly once, use `StreamLoader`. `keys` is a client's folder of
    keys, for a producer that has some; the right to read is enough. `decode` as in `StreamLoader`.

    Partitions that the stream gets meanwhile are read from their first record on, by the worker whose share they are.
    DataLoader waits for none that has no share, so where there are more workers than partitions, those end at once;
    then a stream that gets partitions raises `StreamError`, since nobody might read them.
    """

    def __init__(
        self,
        url: str,
        *,
        start: str = "earliest",
        connect_timeout_s: float | None = 60.0,
        keys: str | Path = "",
        decode: Sequence[Decoder] = (),
    ) -> None:
        check_url(url)
        if start not in ("earliest", "latest"):
            raise UsageError(f"start is 'earliest' or 'latest', not {start!r}")
        self._reading = Reading(url=url, keys=keys, decoders=decode)
        self._start, self._connect_timeout_s = start, connect_timeout_s

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        worker = get_worker_info()
        share = (0, 1) if worker is None else (worker.id, worker.num_workers)
        with self._reading.open() as stream:
            description = stream.describe(timeout_s=self._connect_timeout_s)
            begin = description.log_start if self._start == "earliest" else description.log_end
            positions = {partition: begin[partition] for partition in description.info.dealing.owned(*share)}
            if not positions:
                return
            asked = Subscription(split=STREAM, positions=positions, incarnation=description.info.incarnation)
            for events in Along(self._reading, stream, description, asked, share=share).events():
                for event in events:
                    match event:
                        case Chunk():
                            yield from _samples(event)
                        case Undecodable():
                            raise DataFault(event.reason)


def _samples(chunk: Chunk) -> Iterator[dict[str, torch.Tensor]]:
    for row in range(chunk.count):
        sample: dict[str, torch.Tensor] = {}
        for name, column in chunk.columns.items():
            sample[name] = torch.from_numpy(np.array(value_of(column, row)))
        yield sample


def guard_worker(_worker: int) -> None:
    """`worker_init_fn`: a worker leaves Ctrl-C to the main process, and dies with it however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    die_with_parent()
