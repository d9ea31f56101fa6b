"""Saving a run's state while it trains on: the copy is made at once, the writing is done by a thread.

Order of a save (trainer/sealed.py does the first half): files, manifest and folder durable → the name → older ones
pruned → `on_durable` with the positions of the oldest one that could still be resumed, which may then be committed.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from protocol.errors import CheckpointDamaged, UsageError
from trainer.checkpoint_files import (
    BEST,
    CHECKPOINTS,
    State,
    clear_leftovers,
    listed,
    load,
    set_aside,
    supersede,
    write,
)
from trainer.sealed import make_folder, remove_folder
from trainer.snapshot import snapshot


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """How many checkpoints a run keeps."""

    keep: int = 3
    """The newest so many are kept; the stream's log is held back to the oldest of them. The best is kept besides.
    Fewer are kept while the log has no room."""

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise UsageError(f"keep {self.keep} checkpoints: at least 1 is needed to resume from")


class Checkpointer:
    """Saves states into a run directory, one after another, on one writer thread.

    `on_durable(stream)` is called after each checkpoint with the `stream` entry of the oldest retained one whose
    digests hold: nothing later may be committed, so that a damaged newest one can fall back without a gap.
    `on_problem(line)` is told what went wrong and does not stop the run: a disk that is full, a folder that is gone.
    Both are called on the writer thread. What else goes wrong there is raised by the next `save`, `flush` or `close`.

    `resumed_at` is the number of samples that this life goes on from: checkpoints of more are set aside, and removed
    once the life after this one has saved something itself.
    """

    def __init__(
        self,
        run_dir: Path,
        settings: CheckpointSettings,
        on_durable: Callable[[Any], None],
        on_problem: Callable[[str], None],
        *,
        resumed_at: int | None = None,
    ) -> None:
        self._folders = {False: run_dir / CHECKPOINTS, True: run_dir / BEST}  # by whether it is the best
        self._keep = {False: settings.keep, True: 1}
        self._on_durable, self._on_problem = on_durable, on_problem
        #: The `stream` entries of the checkpoints that were written or verified in this life.
        self._streams: dict[Path, Any] = {}
        self._unreadable: set[Path] = set()
        self._pending: dict[bool, tuple[int, State, int]] = {}
        self._writing = self._closing = False
        self._fault: BaseException | None = None
        #: Samples of the newest checkpoint that this life made durable.
        self.durable: int | None = None
        self._prepare(resumed_at)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="checkpoint-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def save(self, samples: int, state: State, *, best: bool = False, alone: bool = False) -> None:
        """Have the state written as the checkpoint with this number; blocks for no longer than copying it takes.

        `alone` gives up all older ones once it is durable, for a log that has no room to wait for them.
        A state of the same kind that still waits for the writer is replaced. `state["stream"]` must be there; the
        rest is the caller's. Another save with the same number replaces the one on disk: what a validation found at
        that number belongs to it too.
        """
        assert not self._closing, "save() after close()"
        assert "stream" in state, "a state says where its stream stands"
        self._raise_fault()
        with self._changed:
            self._pending.pop(best, None)  # before the copy is made, so that memory never holds one more
        copied = snapshot(state)
        with self._changed:
            self._pending[best] = (samples, copied, 1 if alone else self._keep[best])
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything is written, or was reported as a problem; `durable` tells which."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending and not self._writing)
        self._raise_fault()

    def close(self) -> None:
        """Flush, then end the writer thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._raise_fault()

    def newest(self) -> Path | None:
        """The newest checkpoint on disk, not looked into."""
        return next(reversed(listed(self._folders[False])), None)

    def _prepare(self, resumed_at: int | None) -> None:
        try:
            for folder in self._folders.values():
                make_folder(folder)
                if not os.access(folder, os.W_OK):
                    raise UsageError(f"nothing can be written into {folder}: give another --run_dir")
                clear_leftovers(folder)
            self._outdated = [path for folder in self._folders.values() for path in set_aside(folder)]
            if resumed_at is not None:
                self._supersede(resumed_at)
        except OSError as error:
            raise UsageError(f"{error.filename} cannot be used ({error.strerror}): give another --run_dir") from error

    def _supersede(self, resumed_at: int) -> None:
        aside = supersede(self._folders[False], resumed_at)
        if resumed_at == 0:  # later on, the best so far may be one that the run saved after its last checkpoint
            aside += supersede(self._folders[True], 0)
        self._outdated = [path for path in self._outdated if path not in aside]
        if aside:
            self._on_problem(
                f"the run goes on from {resumed_at} samples; newer checkpoints are set aside until its next life: "
                f"{', '.join(str(path) for path in aside)}"
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._closing)
                if not self._pending:
                    return
                best = next(iter(self._pending))
                samples, state, keep = self._pending.pop(best)
                self._writing = True
            try:
                self._write(samples, state, keep, best=best)
            except BaseException as fault:  # noqa: BLE001  (raised where somebody hears it: in the training thread)
                with self._changed:
                    self._fault = self._fault or fault
            finally:
                del state  # its memory is free before the next copy is made
                with self._changed:
                    self._writing = False
                    self._changed.notify_all()

    def _write(self, samples: int, state: State, keep: int, *, best: bool) -> None:
        folder = self._folders[best]
        try:
            path = write(folder, samples, state)
        except OSError as error:
            what = "best checkpoint" if best else "checkpoint"
            self._on_problem(
                f"{what} at {samples} samples NOT SAVED in {folder}: {error.strerror or error}; training goes on, "
                f"the last good one is {next(reversed(listed(folder)), 'none')}"
            )
            return
        if not best:
            self.durable = samples
            self._streams[path] = state["stream"]
            self._unreadable.discard(path)
        self._prune(path, keep)
        if not best and (oldest := self._oldest_readable()) is not None:
            self._on_durable(self._streams[oldest])

    def _prune(self, written: Path, keep: int) -> None:
        others = [path for path in listed(written.parent) if path != written]
        try:
            for path in others[: max(0, len(others) - keep + 1)]:
                remove_folder(path)
                self._streams.pop(path, None)
            while self._outdated:
                remove_folder(self._outdated.pop())
        except OSError as error:
            self._on_problem(f"an old checkpoint could not be removed ({error})")

    def _oldest_readable(self) -> Path | None:
        retained = listed(self._folders[False])
        for path in self._streams.keys() - set(retained):
            self._on_problem(f"the checkpoint {path} was removed by somebody else")
            del self._streams[path]
        for path in retained:
            if path not in self._streams and path not in self._unreadable:
                self._read_stream(path)
            if path in self._streams:
                return path
        return None

    def _read_stream(self, path: Path) -> None:
        try:
            self._streams[path] = load(path)["stream"]
        except (CheckpointDamaged, UsageError, KeyError) as error:
            self._unreadable.add(path)
            self._on_problem(f"an old checkpoint cannot be resumed any more: {error}")

    def _raise_fault(self) -> None:
        with self._changed:
            fault, self._fault = self._fault, None
        if fault is not None:
            raise fault
