"""A process that has imported torch once and forks one trainer after another: `python -m tests.trainer.nursery`.

Each line that it reads is a request, each line that it writes the answer; tests/trainer/lives.py is the other side.
It has no threads, so that a fork is whole. What a forked life shares with the others is the forkserver, which would
import torch anew for each of them; its resource tracker is its own, as it is for a trainer that was started by hand:
else the semaphores of a killed life would stay until the last one has ended.

Imported by each worker as its main module, so nothing heavy stands at the top.
"""

import io
import json
import os
import signal
import sys
import traceback
from contextlib import redirect_stdout, suppress
from multiprocessing import forkserver, resource_tracker, util
from typing import Any


def main() -> None:
    """Answer requests until the other side has gone."""
    import torch
    import torch.utils.tensorboard  # a second of imports that the first report would wait for

    from trainer.commands import main as command
    from trainer.readers import prepare_workers

    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1)])  # the first optimizer imports torch's compiler
    with suppress(SystemExit), redirect_stdout(io.StringIO()):
        command(["train", "--print_config"])  # what parsing looks up is kept
    prepare_workers()
    answer({"forkserver": forkserver._forkserver._forkserver_pid})  # type: ignore[attr-defined]
    living: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            living.discard(pid)
            answer({"status": os.waitstatus_to_exitcode(status) if pid else None})
        elif "clear" in request:
            end(living)
            answer({})
        elif (pid := os.fork()) == 0:
            os._exit(live(request))
        else:
            living.add(pid)
            answer({"pid": pid})
    end(living)


def end(living: set[int]) -> None:
    """Kill and forget those that run still."""
    for pid in living:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    living.clear()


def answer(reply: dict[str, Any]) -> None:
    """One line."""
    print(json.dumps(reply), flush=True)


def live(request: dict[str, Any]) -> int:
    """One life of a trainer in this process, which was just forked."""
    settle(request)
    from protocol.command_line import run
    from trainer.__main__ import main as command

    sys.argv = ["trainer", *request["arguments"]]
    try:
        status = run(command)
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 1
    except BaseException:  # noqa: BLE001  (as Python itself does at the top)
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    util._exit_function()  # type: ignore[attr-defined]  # what multiprocessing does when a program ends
    return status


def settle(request: dict[str, Any]) -> None:
    """Make what was forked a process of its own: its output, its settings, its resource tracker."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(request["environment"])
    tracker = resource_tracker._resource_tracker
    if tracker._fd is not None:  # type: ignore[attr-defined]
        os.close(tracker._fd)  # type: ignore[attr-defined]
    tracker._fd = tracker._pid = None  # type: ignore[attr-defined]
    # The one that it shares runs; waiting for it as for a child of its own would fail.
    forkserver.ensure_running = resource_tracker.ensure_running
    forkserver._forkserver.ensure_running = resource_tracker.ensure_running  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
