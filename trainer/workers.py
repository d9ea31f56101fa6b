"""The worker processes of one loader: which of them have died or stand still, and how they are ended for sure."""

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from multiprocessing import connection, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

#: They are looked after this often.
LOOK_S: Final = 0.25
#: One that was stopped and not continued for this long is given up.
STOPPED_S: Final = 5.0
#: As long as `DataLoader` itself waits for a worker that leaves.
LEAVE_S: Final = 5.0


class WorkerDied(Exception):
    """A worker process has ended without being asked to, or was stopped and is taken for dead."""


class Workers:
    """Looks after worker processes and ends them. Times are seconds of the monotonic clock.

    That one is stopped (SIGSTOP) is read from proc(5), not concluded from its silence: so one that is slow to start
    or finds no room is never blamed, nor one that was suspended together with the trainer.
    """

    def __init__(self, processes: Iterable[BaseProcess]) -> None:
        self.processes = frozenset(processes)
        self._look_at_s = 0.0
        self._stopped_since_s: dict[BaseProcess, float] = {}

    def look(self, now_s: float) -> None:
        """Look after them, if it is time to. Raises `WorkerDied` where one does not work any more."""
        if now_s < self._look_at_s:
            return
        self._look_at_s = now_s + LOOK_S
        self.check_dead()
        since_s = self._stopped_since_s
        self._stopped_since_s = {each: since_s.get(each, now_s) for each in self._stopped()}
        given_up = [each for each, begun_s in self._stopped_since_s.items() if now_s - begun_s >= STOPPED_S]
        if given_up:
            raise WorkerDied(f"{_named(given_up)}: it was stopped and did not go on")

    def check_dead(self) -> None:
        """Raise `WorkerDied` where one has ended by itself; 0 is the status of one at the end of its stream."""
        if dead := [each for each in self.processes if each.exitcode]:
            raise WorkerDied(_named(dead))

    def end(self, iterator: list[Any]) -> None:
        """Let the DataLoader's iterator go, the only thing in the list, and see to it that no worker is left.

        It says goodbye to them when it is collected. A worker that was killed or stopped may have taken a lock along
        that this needs, so then nobody is waited for, and the goodbye has a thread that may wait for ever.
        """
        if any(each.exitcode for each in self.processes) or any(self._stopped()):
            self._kill()
        if sys.is_finalizing():  # no thread starts any more, and DataLoader says no goodbye
            self._kill()
            return
        leaving = threading.Thread(target=iterator.clear, name="headrace-goodbye", daemon=True)
        leaving.start()
        leaving.join(LEAVE_S)
        self._kill()

    def _kill(self) -> None:
        for each in self.processes:
            if each.is_alive():
                each.kill()

    def _stopped(self) -> Iterator[BaseProcess]:
        for each in self.processes:
            try:
                state = Path(f"/proc/{each.pid}/stat").read_text().rpartition(") ")[2]
            except OSError:
                continue  # it has just ended
            if state.startswith("T") and each.is_alive():  # else the pid has become another's
                yield each


def die_with_parent() -> None:
    """End this process as soon as the one that started it has ended, however that was.

    Under forkserver neither PR_SET_PDEATHSIG nor getppid sees a parent that was killed; its sentinel does.
    """
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), name="headrace-guard", daemon=True).start()


def _die_with(sentinel: Any) -> None:
    connection.wait([sentinel])
    os._exit(1)


def _named(processes: Iterable[BaseProcess]) -> str:
    return ", ".join(sorted(f"{each.name} (pid {each.pid})" for each in processes))
