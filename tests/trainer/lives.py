"""Real processes for the fault tests: producers and lives of a trainer, what is theirs, and what they leave behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

ROOT = Path(__file__).parents[2]
SHARED_MEMORY = Path("/dev/shm")
POLL_S = 0.0005
PATIENCE_S = 100.0


def environment(**extra: str) -> dict[str, str]:
    """That of every process: one thread each, since the tests share two cores."""
    return {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **extra}


def wait_until(condition: Callable[[], bool], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Poll quickly; a moment that is waited for may last a few milliseconds only."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {patience_s:g} s in vain for {what}"
        time.sleep(POLL_S)


def wait_until_none(left: Callable[[], Collection[object]], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """The same until nothing is left; says what is."""
    try:
        wait_until(lambda: not left(), what, patience_s=patience_s)
    except AssertionError as error:
        raise AssertionError(f"{error}; still there: {left()}") from None


class Life(Protocol):
    """One process, from its start to its end."""

    pid: int
    log: Path

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""


class Started:
    """A life that was started with a command line of its own."""

    def __init__(self, module: str, arguments: Sequence[str], log: Path, **extra: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env={**os.environ, **environment(**extra)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.poll()


class Forked:
    """A life that a nursery has forked."""

    def __init__(self, nursery: "Nursery", pid: int, log: Path) -> None:
        self._nursery, self.pid, self.log = nursery, pid, log
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None and born(self.pid) is None:  # looking costs less than asking, and is done often
            self._status = self._nursery.ask({"poll": self.pid})["status"]
        return self._status


class Nursery:
    """Forks lives of a trainer from a process that has imported torch already."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.trainer.nursery"],
            cwd=ROOT,
            env={**os.environ, **environment()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.forkserver = int(self._answer()["forkserver"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=PATIENCE_S)
        self._process.stdout.close()

    def train(self, arguments: Sequence[str], log: Path, **extra: str) -> Forked:
        """A new life of `python -m trainer train`, whose log is there when this returns."""
        log.touch()
        request = {"arguments": ["train", *arguments], "log": str(log), "environment": environment(**extra)}
        return Forked(self, int(self.ask(request)["pid"]), log)

    def clear(self) -> None:
        """End what a test that has failed may have left, so that it cannot disturb the next one."""
        self.ask({"clear": True})
        wait_until_none(lambda: survivors(family(self.forkserver)), "the workers of lives that have ended")

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request, its answer."""
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def wait(life: Life, *, patience_s: float = PATIENCE_S) -> int:
    """The exit status, once there is one."""
    deadline_s = time.monotonic() + patience_s
    while (status := life.poll()) is None:
        assert time.monotonic() < deadline_s, f"still running after {patience_s:g} s:\n{tail(life)}"
        time.sleep(0.005)
    return status


def end(life: Life, number: signal.Signals = signal.SIGKILL) -> int:
    """Send a signal to this process alone and see it gone."""
    os.kill(life.pid, number)
    return wait(life)


def tail(life: Life, lines: int = 30) -> str:
    """The last lines that a life has said."""
    return "\n".join(life.log.read_text(errors="replace").splitlines()[-lines:])


# --- what belongs to a life ---------------------------------------------------------------------------------------


def children() -> dict[int, list[int]]:
    """The children of every process of this machine, by its pid."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # it has just ended
        found.setdefault(parent, []).append(int(entry.parent.name))
    return found


def born(pid: int) -> str | None:
    """Tells a process from a later one with the same pid; None where it is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def family(*pids: int) -> dict[int, str]:
    """All descendants of these processes and when they were born."""
    tree, waiting, found = children(), list(pids), {}
    while waiting:
        for child in tree.get(waiting.pop(), ()):
            waiting.append(child)
            if (moment := born(child)) is not None:
                found[child] = moment
    return found


def survivors(processes: dict[int, str]) -> list[int]:
    """Those that still live."""
    return [pid for pid, moment in processes.items() if born(pid) == moment]


def shared_memory() -> set[str]:
    """The names under /dev/shm."""
    return {path.name for path in SHARED_MEMORY.iterdir()}


def orphaned(names: Iterable[str]) -> set[str]:
    """Those names under /dev/shm that no living process has mapped or open; others may be testing beside us.

    They are told by their inodes: a semaphore is mapped under another name than it has.
    """
    inodes = {name: inode for name in names if (inode := _inode(SHARED_MEMORY / name)) is not None}
    held = set().union(*map(_held, Path("/proc").glob("[0-9]*"))) if inodes else set()
    return {name for name, inode in inodes.items() if inode not in held}


def _held(process: Path) -> set[int | None]:
    """Inodes of what a process has mapped from shared memory or open; none where it has ended."""
    try:
        mapped = [line.split() for line in (process / "maps").read_text().splitlines() if "/dev/shm/" in line]
        return {int(line[4]) for line in mapped} | {_inode(each) for each in (process / "fd").iterdir()}
    except OSError:
        return set()


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
