"""Command lines as processes of their own: forked from one that has imported everything, since torch takes seconds.

`python -m tests.programs` is that process; it answers one line of JSON with another. What a fork runs is the whole
program (`python -m MODULE ARGUMENTS`) with its own output, folder and status.
"""

import io
import json
import os
import runpy
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[1]
PATIENCE_S = 60.0


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Poll; fails after a minute."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"waited in vain for {what}"
        time.sleep(0.005)


@dataclass(frozen=True)
class Program:
    """One program that runs, or ran."""

    pid: int
    out_file: Path
    err_file: Path
    programs: "Programs"

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self.out_file.read_text()

    @property
    def err(self) -> str:
        """What it has complained of so far."""
        return self.err_file.read_text()

    def signal(self, number: int) -> None:
        """Send a signal to it alone."""
        os.kill(self.pid, number)

    def status(self) -> int:
        """Its exit status, once it has ended; minus the number of the signal that ended it."""
        wait_until(lambda: self.programs.poll(self) is not None, f"the end of {self.out_file}")
        status = self.programs.poll(self)
        assert status is not None
        return status

    def complaint(self, status: int = 2) -> str:
        """The one line that it ends with."""
        assert self.status() == status, f"status {self.status()}:\n{self.out}\n{self.err}"
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


class Parent:
    """The process that programs are forked from."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.programs"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=PATIENCE_S)
        self._process.stdout.close()

    def ask(self, request: dict[str, Any]) -> Any:
        """One request, its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


class Programs:
    """Starts programs; those that still run at the end are killed."""

    def __init__(self, parent: Parent, folder: Path) -> None:
        self._parent, self._folder, self._count = parent, folder, 0
        self._ended: dict[int, int] = {}
        self._started: list[Program] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for program in self._started:
            if self.poll(program) is None:
                program.signal(9)
                program.status()

    def start(self, module: str, *arguments: str, cwd: Path, **environment: str) -> Program:
        """`python -m MODULE ARGUMENTS`, with these values in its environment besides what the parent has."""
        self._count += 1
        out, err = (self._folder / f"{module}-{self._count}.{name}" for name in ("out", "err"))
        out.touch()
        err.touch()
        request: dict[str, Any] = {
            "module": module,
            "arguments": arguments,
            "cwd": str(cwd),
            "out": str(out),
            "err": str(err),
        }
        request["environment"] = environment
        program = Program(int(self._parent.ask(request)), out, err, self)
        self._started.append(program)
        return program

    def poll(self, program: Program) -> int | None:
        """Its exit status; None while it runs."""
        if program.pid not in self._ended and (status := self._parent.ask({"poll": program.pid})) is not None:
            self._ended[program.pid] = status
        return self._ended.get(program.pid)


# --- the other side ----------------------------------------------------------------------------------------------


def main() -> None:
    """Answer requests until the other side has gone."""
    import torch
    import torch.utils.tensorboard  # a second of imports that the first report would wait for

    from producer.__main__ import build_parser
    from trainer.commands import main as trainer

    torch.optim.SGD([torch.zeros(1)])  # imports another second of torch
    with suppress(SystemExit), redirect_stdout(io.StringIO()):
        build_parser([])[0].parse_args([])  # what parsing looks up is kept, here and by the trainer's
        trainer(["train", "--print_config"])
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
        elif (pid := os.fork()) == 0:
            os._exit(run(**request))
        else:
            print(pid, flush=True)


def run(module: str, arguments: list[str], cwd: str, out: str, err: str, environment: dict[str, str]) -> int:
    """One program in this process, which was just forked."""
    os.environ.update(environment)
    for name in [name for name in sys.modules if is_program(name, module)]:
        del sys.modules[name]  # runpy warns of a program that was imported before
    for descriptor, file in ((0, os.devnull), (1, out), (2, err)):
        opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    sys.argv = [module, *arguments]
    status: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as left:
        status = left.code or 0
    except BaseException:  # noqa: BLE001  (as the interpreter does at the end of a program)
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    return status if isinstance(status, int) else 1


def is_program(name: str, module: str) -> bool:
    """Whether this module is what `python -m MODULE` runs: a package is not, the `__main__` in it is."""
    return name.endswith(".__main__") or (name == module and not hasattr(sys.modules[name], "__path__"))


if __name__ == "__main__":
    main()
