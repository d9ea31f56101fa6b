"""The readers of one loader: the workers of a DataLoader, or a thread, hand over chunks.

`in_order=False` lets whichever reader has something go first; the order is restored by the merge.
"""

import multiprocessing
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import Any, Final

import torch
from torch.utils.data import DataLoader

from protocol.dealing import Positions
from protocol.memory import keep_freed_memory
from protocol.reader import Reader
from protocol.stream import StreamInfo
from trainer.ahead import Ahead, Over
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

    `workers` 0 reads in a thread of this process. Where somebody waits for several streams at once, `bell` is set
    whenever there is something to take, and `next` does not wait.
    """

    def __init__(  # noqa: PLR0913  (made in one place, from what that has)
        self,
        connect: Callable[[], Reader],
        info: StreamInfo,
        positions: Positions,
        group: str,
        board: ProgressBoard,
        workers: int,
        *,
        bell: threading.Event | None = None,
    ) -> None:
        keep_freed_memory()
        self.count = min(workers, info.dealing.partitions)
        self.slots: Slots | None = None
        self.workers = Workers(())
        self._iterator: Iterator[list[Item]] | None = None
        self._ahead: Ahead[list[Item]] | None = None
        self.waits = bell is None
        if not self.count:
            self._ahead = ReaderItems(connect, info, positions, group, board, None).ahead(bell)
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
        if bell is not None:  # a DataLoader can only be waited for
            self._ahead = Ahead(partial(_all_of, self._iterator), 1, bell=bell)

    def next(self) -> list[Item] | None:
        """The next items, None where nothing came in time. Raises `AllEnded`, `WorkerDied`."""
        self.workers.look(time.monotonic())  # the others may have much to say while one is dead
        try:
            if self._ahead is not None:
                return self._ahead.next(wait=self.waits)
            assert self._iterator is not None
            if (items := _in_time(self._iterator)) is not None:
                return items
        except (Over, StopIteration):
            raise AllEnded from None
        self.workers.check_dead()  # not above, where its traceback would keep the iterator from being collected
        return None

    def close(self) -> None:
        """End the workers or the thread."""
        if self.slots is not None:
            self.slots.close()
        if self._ahead is not None:
            self._ahead.close()
        iterator, self._iterator, self._ahead = [self._iterator], None, None
        if self.count:
            self.workers.end(iterator)


def _in_time(iterator: Iterator[list[Item]]) -> list[Item] | None:
    """The next of a DataLoader, None where nothing came in time or a worker is gone."""
    try:
        return next(iterator)
    except RuntimeError as error:
        if not str(error).startswith((TIMED_OUT, WORKER_GONE)):
            raise
    return None


def _all_of(iterator: Iterator[list[Item]]) -> Iterator[list[Item]]:
    """All of a DataLoader; an empty list, which says nothing, where nothing came in time."""
    while True:
        try:
            items = _in_time(iterator)
        except StopIteration:
            return
        yield items or []


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
