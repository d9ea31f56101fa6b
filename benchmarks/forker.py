"""`python -m benchmarks.forker`: has imported everything and used nothing; each request is played by a fork of it.

One line of JSON in, one out. When its input ends, the cell that is being played ends too.
"""

import importlib
import json
import multiprocessing
import os
import sys
import tempfile
import traceback
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import IO, Any, Final

from benchmarks.processes import kill_session

#: For a process that has given its result to leave in order, so that its shared memory and semaphores go with it.
LEAVE_TIMEOUT_S: Final = 5.0
ERROR_CHARACTERS: Final = 300


def main() -> int:
    """Answer requests until the other side has gone."""
    preload()
    fork = multiprocessing.get_context("fork")
    for line in sys.stdin:
        request = json.loads(line)
        receive, send = fork.Pipe(duplex=False)
        with tempfile.TemporaryFile() as log, receive:
            process = fork.Process(target=play, args=(request, send, log))
            process.start()
            send.close()
            answer = outcome(process, receive, log, request["timeout_s"])
        if answer is None:
            return 0
        print(json.dumps(answer), flush=True)
    return 0


def preload() -> None:
    """Import what takes long."""
    import torch

    import trainer.loader  # noqa: F401

    torch.optim.SGD([torch.zeros(1)])  # imports another second of torch


def play(request: dict[str, Any], send: Connection, log: IO[bytes]) -> None:
    """In the fork: call the function and send its numbers, or what it raised."""
    os.setsid()
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    try:
        import torch

        torch.set_num_threads(1)
        module, _, name = request["function"].partition(":")
        numbers = getattr(importlib.import_module(module), name)(**request["arguments"])
        answer: dict[str, Any] = {"numbers": {key: float(value) for key, value in numbers.items()}}
    except BaseException as error:  # noqa: BLE001  (whatever it is, it becomes a row)
        traceback.print_exc()
        answer = {"error": one_line(f"{type(error).__name__}: {error}")}
    send.send_bytes(json.dumps(answer).encode())


def outcome(process: ForkProcess, receive: Connection, log: IO[bytes], timeout_s: float) -> dict[str, Any] | None:
    """In the parent: what the fork sent, once all its processes are gone; None where nobody waits for it any more."""
    assert process.pid is not None
    # Nothing is asked while a cell is played: only the end can come from our input.
    ready = wait([receive, process.sentinel, sys.stdin.fileno()], timeout_s)
    try:
        if not ready:
            return {"error": f"no result in {timeout_s:g} s"}
        if sys.stdin.fileno() in ready:
            return None
        if receive.poll():
            answer: dict[str, Any] = json.loads(receive.recv_bytes())
            wait([process.sentinel], LEAVE_TIMEOUT_S)
            return answer
    except EOFError:
        wait([process.sentinel], LEAVE_TIMEOUT_S)
    finally:
        kill_session(process.pid)
        process.kill()  # where it was too early to lead a session
        process.join()
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return {"error": one_line(f"died with status {process.exitcode}: {lines[-1] if lines else 'it said nothing'}")}


def one_line(text: str) -> str:
    """A message as it fits into a table."""
    return " ".join(text.split())[:ERROR_CHARACTERS]


if __name__ == "__main__":
    os._exit(main())  # taking torch apart would take a second, and nothing of it is in use
