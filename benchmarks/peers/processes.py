"""The processes of one session as /proc shows them: what they used, what they hold, and their end.

A peer's script is started in a session of its own, so all that it starts can be found, measured and ended.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SHARED_MEMORY = "/dev/shm/"  # noqa: S108  (only names that processes show there are touched)
PATIENCE_S = 10.0

# A process may go between being listed and being read; then its files do, or reading them fails.
_GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True)
class _Process:
    pid: int
    zombie: bool
    cpu_s: float
    """Its own time and that of the children it has waited for."""


def cpu_s() -> float:
    """CPU seconds of this session so far, of the ended processes too where somebody waited for them."""
    return sum(process.cpu_s for process in _session(os.getsid(0)))


def forget_peaks() -> None:
    """Let `peak_bytes` count from now on."""
    for process in _session(os.getsid(0)):
        with suppress(*_GONE):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Peaks of resident memory of this session's processes, summed: a page that two of them share counts twice."""
    total = 0
    for process in _session(os.getsid(0)):
        with suppress(*_GONE):
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1]) * 1024
    return total


def running(session: int) -> list[int]:
    """The ids of its processes that have not ended."""
    return [process.pid for process in _session(session) if not process.zombie]


def end(session: int) -> None:
    """Kill every process of the session, wait until all are gone, and remove the shared memory that they held."""
    held = {name for pid in running(session) for name in _shared_memory(pid)}
    deadline_s = time.monotonic() + PATIENCE_S
    while pids := running(session):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"processes {pids} do not end although they were killed")
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    for name in held:
        Path(name).unlink(missing_ok=True)


def _session(session: int) -> Iterator[_Process]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(*_GONE):
            # The name of the program, in brackets, may hold spaces and brackets of its own.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                ticks = sum(int(field) for field in fields[11:15])
                yield _Process(int(folder.name), fields[0] in "ZX", ticks / TICKS_PER_S)


def _shared_memory(pid: int) -> set[str]:
    """The files in shared memory that a process has mapped and that still have a name."""
    with suppress(*_GONE, PermissionError):
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        names = {line[line.index(SHARED_MEMORY) :] for line in lines if SHARED_MEMORY in line}
        return {name for name in names if not name.endswith(" (deleted)")}
    return set()
