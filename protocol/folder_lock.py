"""A folder that one process at a time may write, and who that is.

The lock is the kernel's (flock, through filelock), so that it is free at once when its process is gone, however it
went. Who holds it stands in a file beside it, since older filelocks empty the locked file when they try.
"""

import json
import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from protocol.errors import UsageError


class FolderLock:
    """Holds `folder` until `release`; `name` tells locks of several kinds apart.

    Raises `UsageError` with pid and host of the process that holds it, and the `mend`, after `patience_s`.
    """

    def __init__(self, folder: Path, name: str, *, mend: str, patience_s: float = 0.0) -> None:
        self._owner = folder / f"{name}.owner"
        self._lock = FileLock(folder / f"{name}.lock", thread_local=False)
        try:
            self._lock.acquire(timeout=patience_s, poll_interval=0.05)
        except Timeout as error:
            raise UsageError(f"{folder} is in use by {owner(self._owner)}: {mend}") from error
        _write(self._owner, {"pid": os.getpid(), "host": socket.gethostname()})

    def release(self) -> None:
        """Let another process have it; a second time does nothing."""
        if self._lock.is_locked:
            self._owner.unlink(missing_ok=True)
            self._lock.release()


def is_held(folder: Path, name: str) -> bool:
    """Whether a process holds the lock at this moment; where nobody may write, nobody does."""
    file = folder / f"{name}.lock"
    if not file.exists() or not os.access(file, os.W_OK):
        return False
    lock = FileLock(file, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def owner(file: Path) -> str:
    """Who wrote the owner file, for people."""
    try:
        said = json.loads(file.read_text())
        return f"process {int(said['pid'])} on {said['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _write(file: Path, content: dict[str, object]) -> None:
    """As a whole, so that nobody reads half of it."""
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(content))
    beside.replace(file)
