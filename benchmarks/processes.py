"""What the processes of one session have used, read from /proc. A cell is the leader of a session of its own."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
#: Fields of /proc/PID/stat after the name: state, session, and the times of the process and of those it has reaped.
STATE, SESSION, TIMES = 0, 3, slice(11, 15)
GONE_TIMEOUT_S: Final = 10.0
SHARED_MEMORY: Final = "/dev/shm/"  # noqa: S108  (only names that processes show there are touched)


def members(session: int) -> dict[int, list[str]]:
    """The processes of a session that live, by pid, each with its fields of /proc/PID/stat."""
    found = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it has just ended
            fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            if int(fields[SESSION]) == session and fields[STATE] not in "ZX":
                found[int(entry.name)] = fields
    return found


def cpu_s() -> float:
    """User and system time of this process's session, of what has ended and was reaped too."""
    times = [fields[TIMES] for fields in members(os.getsid(0)).values()]
    return sum(int(ticks) for each in times for ticks in each) / TICKS_A_SECOND


def memory_bytes() -> int:
    """What this process's session holds now: a page that several processes share is divided among them (PSS)."""
    return sum(_kilobytes(pid, "smaps_rollup", "Pss:") for pid in members(os.getsid(0))) << 10


def resident_bytes(pid: int) -> int:
    """What one process holds now (RSS)."""
    return _kilobytes(pid, "status", "VmRSS:") << 10


def process_cpu_s(pid: int) -> float:
    """User and system time of one process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[TIMES][:2]) / TICKS_A_SECOND


def forget_peaks() -> None:
    """Let `peak_bytes` count from now on."""
    for pid in members(os.getsid(0)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Peaks of what this session's processes held (VmHWM), added up: a page that two of them share counts twice."""
    return sum(_kilobytes(pid, "status", "VmHWM:") for pid in members(os.getsid(0))) << 10


def kill_session(session: int) -> None:
    """End every process of a session, those too that it forks meanwhile, and remove the shared memory that they held.

    Raises `TimeoutError` where one stays.
    """
    held = {name for pid in members(session) for name in _shared_memory(pid)}
    deadline_s = time.monotonic() + GONE_TIMEOUT_S
    while alive := members(session):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"processes {sorted(alive)} cannot be killed")
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    for name in held:
        Path(name).unlink(missing_ok=True)


def _shared_memory(pid: int) -> set[str]:
    """The files in shared memory that a process has mapped and that still have a name."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return set()
    names = {line[line.index(SHARED_MEMORY) :] for line in lines if SHARED_MEMORY in line}
    return {name for name in names if not name.endswith(" (deleted)")}


def _kilobytes(pid: int, file: str, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has just ended
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
