"""The run directory: who works in it, and the checkpoint that a run goes on from."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from protocol.errors import UsageError
from protocol.folder_lock import FolderLock
from trainer.checkpoint_files import CHECKPOINTS, State, load, load_newest
from trainer.parts import check_same
from trainer.sealed import make_folder


def may_go_on(run_dir: Path, resume: str) -> bool:
    """Whether there may be a checkpoint to go on from; there certainly is none for a run that is new."""
    return resume != "never" and (resume != "auto" or (run_dir / CHECKPOINTS).exists())


@contextmanager
def alone_in(run_dir: Path, resume: str, mean: dict[str, Any]) -> Iterator[tuple[Path, State] | None]:
    """What to go on from, while no other trainer can work in the run directory.

    Its newest checkpoint is only known then; a checkpoint that is named is looked at before anything is made.
    """
    named = None if resume == "auto" else _resumed(run_dir, resume, mean)
    _open(run_dir)
    try:
        lock = FolderLock(run_dir, "run", mend="stop it, or give another --run_dir")
    except OSError as error:
        raise UsageError(f"{run_dir} cannot be locked ({error.strerror}): give another --run_dir") from error
    try:
        yield _resumed(run_dir, resume, mean) if resume == "auto" else named
    finally:
        lock.release()


def stream_state(path: Path, state: State, run_dir: Path, group: str) -> dict[str, Any]:
    """A checkpoint of another run is a fork: it must not commit in that run's name."""
    own = path.resolve().is_relative_to(run_dir.resolve())
    return dict(state["stream"]) if own else {**state["stream"], "group": group}


def _open(run_dir: Path) -> None:
    try:
        make_folder(run_dir)
    except OSError as error:
        raise UsageError(f"{run_dir} cannot be used ({error.strerror}): give another --run_dir") from error
    if not os.access(run_dir, os.W_OK | os.X_OK):
        raise UsageError(f"nothing can be written into {run_dir}: give another --run_dir")


def _resumed(run_dir: Path, resume: str, mean: dict[str, Any]) -> tuple[Path, State] | None:
    if resume == "never":
        return None
    if resume == "auto":
        found = load_newest(run_dir, lambda line: print(f"trainer: {line}", file=sys.stderr, flush=True))
    else:
        path = Path(resume).expanduser()
        found = path, load(path)
    if found is not None:
        check_same(found[1], mean, found[0])
    return found
