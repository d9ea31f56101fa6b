"""The readers of one loader: the workers of a DataLoader, or a thread, hand over chunks.

`in_order=False` lets whichever reader has something go first; the order is restored by the merge.
"""

import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import Any, Final

import torch
from torch.utils.data import DataLoader

from protocol.dealing import Positions
from protocol.memory import keep_freed_memory
from protocol.reader import Reader
from protocol.stream import StreamInfo
from trainer.dataset import Item, ReaderItems, guard_worker
from trainer.shared import ProgressBoard, Slots
from trainer.workers import LOOK_S, Workers

PREFETCH: Final = 4
#: At 4 MiB at most.
SLOTS_PER_WORKER: Final = 4
#: How DataLoader begins to say that nothing came in time, and that a worker is dead; it has no types for them.
TIMED_OUT: Final = "DataLoader timed out"
WORKER_GONE: Final = "DataLoader worker (pid"


class AllEnded(Exception):
    """Every reader has come to its end."""


class Readers:
    """Starts the readers at `positions`, each with a connection that it makes by `connect`.

    `workers` 0 reads in a thread of this process.
    """

    def __init__(
        self,
        connect: Callable[[], Reader],
        info: StreamInfo,
        positions: Positions,
        group: str,
        board: ProgressBoard,
        workers: int,
    ) -> None:
        keep_freed_memory()
        self.count = min(workers, info.dealing.partitions)
        self.slots: Slots | None = None
        self.workers = Workers(())
        if not self.count:
            self._iterator: Iterator[list[Item]] | None = iter(
                ReaderItems(connect, info, positions, group, board, None)
            )
            return
        self.slots = Slots(self.count, SLOTS_PER_WORKER, info.schema, info.dealing.stripe)
        items = ReaderItems(connect, info, positions, group, board, self.slots)
        others = set(multiprocessing.active_children())
        with warnings.catch_warnings():
            # More workers than cores is no mistake here: readers wait for the network most of the time.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            loader = DataLoader(
                items,
                batch_size=None,
                num_workers=self.count,
                collate_fn=_as_it_is,
                in_order=False,
                multiprocessing_context=_forkserver(),
                prefetch_factor=PREFETCH,
                worker_init_fn=guard_worker,
                timeout=LOOK_S,  # by default it looks after its workers only after 5 s
                # One of its own: iter(DataLoader) would draw from torch's global one and shift every dropout after it.
                generator=torch.Generator().manual_seed(0),
            )
            self._iterator = iter(loader)
        self.workers = Workers(set(multiprocessing.active_children()) - others)

    def next(self) -> list[Item] | None:
        """The next items, None where nothing came in time. Raises `AllEnded`, `WorkerDied`."""
        assert self._iterator is not None
        self.workers.look(time.monotonic())  # the others may have much to say while one is dead
        try:
            return next(self._iterator)
        except StopIteration:
            raise AllEnded from None
        except RuntimeError as error:
            if not self.count or not str(error).startswith((TIMED_OUT, WORKER_GONE)):
                raise
        self.workers.check_dead()  # not above, where its traceback would keep the iterator from being collected
        return None

    def close(self) -> None:
        """End the workers or the thread."""
        if self.slots is not None:
            self.slots.close()
        iterator, self._iterator = [self._iterator], None
        if self.count:
            self.workers.end(iterator)


def prepare_workers() -> None:
    """Start what workers will be forked from, so that it imports torch while this process does other things."""
    _forkserver()
    forkserver.ensure_running()


def _forkserver() -> BaseContext:
    """Workers fork from a server that has imported torch once; each costs 0.5 s otherwise."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "trainer.dataset"])
    return context


def _as_it_is(item: Any) -> Any:
    return item
