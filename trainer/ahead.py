"""Iterating in a thread of its own: what comes is taken when it is wanted; a bell is for those who wait for several."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

#: How often somebody who finds no room looks whether it is wanted still.
FULL_S: Final = 0.1
LEAVE_S: Final = 5.0

T = TypeVar("T")


class Over(Exception):
    """Nothing more will come."""


class Ahead(Generic[T]):
    """Iterates over `items()` at most `depth` items ahead. What that raises is raised here.

    `while_full` is called now and then, on that thread, while nothing more can be put ahead. `bell` is set whenever
    there is something to take, the end among it.
    """

    def __init__(
        self,
        items: Callable[[], Iterator[T]],
        depth: int,
        *,
        while_full: Callable[[], None] = lambda: None,
        bell: threading.Event | None = None,
    ) -> None:
        self._items, self._while_full, self._bell = items, while_full, bell
        self._ahead: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self._stopping = threading.Event()
        self._end: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="headrace-reader", daemon=True)
        self._thread.start()

    def next(self, *, wait: bool = True) -> T | None:
        """The next item; None where that does not `wait` and nothing is there. Raises `Over` at the end."""
        if self._end is not None:
            raise self._end
        try:
            item, self._end = self._ahead.get(block=wait)
        except queue.Empty:
            return None
        if self._end is not None:
            raise self._end
        return item

    def __iter__(self) -> Iterator[T]:
        """All items, as they come; the thread has ended when this has."""
        try:
            while True:
                yield self.next()  # type: ignore[misc]  # None only where T allows it
        except Over:
            return
        finally:
            self.close()

    def close(self) -> None:
        """Nothing more is wanted; the thread ends as soon as it notices."""
        self._stopping.set()
        self._thread.join(LEAVE_S)

    def _run(self) -> None:
        iterator = self._items()
        end: BaseException = Over()
        try:
            for item in iterator:
                self._put(item, None)
                if self._stopping.is_set():
                    break
        except BaseException as error:  # noqa: BLE001  (it is raised again in the thread that takes)
            end = error
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
        self._put(None, end)

    def _put(self, item: T | None, end: BaseException | None) -> None:
        while not self._stopping.is_set():
            try:
                self._ahead.put((item, end), timeout=FULL_S)
            except queue.Full:
                self._while_full()
                continue
            if self._bell is not None:
                self._bell.set()
            return
