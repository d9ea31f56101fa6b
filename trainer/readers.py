"""The readers of one loader: the workers of a DataLoader, or a thread, hand over chunks.

`in_order=False` lets whichever reader has something go first; the order is restored by the merge.
"""

import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, Final

import torch
from torch.utils.data import DataLoader

from protocol.dealing import Positions
from protocol.memory import keep_freed_memory
from protocol.reader import Reader
from protocol.stream import StreamInfo
from trainer.dataset import Item, ReaderItems, guard_worker
from trainer.shared import ProgressBoard, Slots

PREFETCH: Final = 4
#: At 4 MiB at most; a container has 64 MiB of shared memory unless somebody asks for more.
SLOTS_PER_WORKER: Final = 4
#: DataLoader looks after its workers when nothing came for this long (by default only after 5 s).
LATE_S: Final = 1
#: How DataLoader begins to say that; it has no type of its own for it.
TIMED_OUT: Final = "DataLoader timed out"


class WorkerDied(Exception):
    """A worker process has ended without being asked to."""


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
        self._processes: set[BaseProcess] = set()
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
                timeout=LATE_S,
                # One of its own: iter(DataLoader) would draw from torch's global one and shift every dropout after it.
                generator=torch.Generator().manual_seed(0),
            )
            self._iterator = iter(loader)
        self._processes = set(multiprocessing.active_children()) - others

    def next(self) -> list[Item]:
        """The next items, none where none came in time. Raises `AllEnded`, `WorkerDied`."""
        assert self._iterator is not None
        try:
            return next(self._iterator)
        except StopIteration:
            raise AllEnded from None
        except RuntimeError as error:
            if not self.count:
                raise
            dead = [each for each in self._processes if each.exitcode]  # 0 is one that came to the end of its stream
            if dead:
                raise WorkerDied(", ".join(f"{each.name} (pid {each.pid})" for each in dead)) from error
            if not str(error).startswith(TIMED_OUT):
                raise
            return []

    def close(self) -> None:
        """End the workers or the thread."""
        if self.slots is not None:
            self.slots.close()
        self._iterator = None  # DataLoader ends its workers when its iterator goes, the thread ends with its own


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
