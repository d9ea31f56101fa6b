"""A producer and a trainer as two processes: FashionMNIST as a live stream, trained, then tested.

    python examples/demo.py [--data DIR]            (make demo does this after installing)

The trainer has the terminal; the producer writes to runs/demo/producer.log. Ctrl-C lets the trainer save and commit
before the producer goes. A demo that was interrupted goes on where it was; one that came to its end begins anew.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import BinaryIO

EXAMPLES = Path(__file__).parent
PASSES = 6
STOP_TIMEOUT_S = 60.0

Process = subprocess.Popen[bytes]


class Stopped(Exception):
    """Ctrl-C, or a request to end."""


def main() -> int:
    parser = argparse.ArgumentParser(description="FashionMNIST as a live stream, trained, then tested.")
    parser.add_argument("--data", default="data", help="folder of FashionMNIST")
    data = parser.parse_args().data
    run_dir = Path("runs/demo")
    result = run_dir / "result.json"
    run_dir.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    sockets = Path(tempfile.mkdtemp(prefix="headrace-"))
    url = f"ipc://{sockets / 'stream'}"
    processes: list[Process] = []
    try:
        with (run_dir / "producer.log").open("wb") as log:
            producer = start(
                *("producer", "--source.root", data, "--bind", url, "--passes", str(PASSES), "--rate", "0"),
                *("--until", "committed"),
                log=log,
            )
        processes.append(producer)
        resume = "never" if result.exists() else "auto"
        result.unlink(missing_ok=True)
        trainer = start(
            *("trainer", "train", "--config", str(EXAMPLES / "demo.yaml"), "--stream", url),
            *("--run_dir", str(run_dir), "--resume", resume),
        )
        processes.append(trainer)
        status = wait_for(trainer, producer, run_dir / "producer.log")
        if status == 0:
            producer.wait(STOP_TIMEOUT_S)
            report(run_dir, result)
    except Stopped:
        status = 130
    finally:
        for process in reversed(processes):  # the trainer first: it saves, and commits to the producer
            end(process)
        shutil.rmtree(sockets, ignore_errors=True)
    if status == 130:
        print("stopped; what was trained is saved in runs/demo, and `make demo` goes on from there")
    return status


def start(module: str, *arguments: str, log: BinaryIO | None = None) -> Process:
    """A process group of its own: Ctrl-C reaches this program only, which then says who ends when."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)


def wait_for(trainer: Process, producer: Process, log: Path) -> int:
    while (status := trainer.poll()) is None:
        if producer.poll() not in (None, 0):
            print(log.read_text().strip().splitlines()[-1], file=sys.stderr)
            return producer.returncode
        time.sleep(0.1)
    return status


def report(run_dir: Path, result: Path) -> None:
    """The best checkpoint by validation loss on the 10,000 pictures that nothing has touched."""
    command = [sys.executable, "-m", "trainer", "evaluate", "--run_dir", str(run_dir), "--json"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result.write_text(found)
    print(f"see the run with: tensorboard --logdir {run_dir / 'tensorboard'}")
    print(f"final test accuracy: {json.loads(found)['accuracy']:.3f}")


def end(process: Process) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def stop(number: int, _frame: FrameType | None) -> None:
    # Once: the children are ending, and a second Ctrl-C must not leave them behind.
    signal.signal(number, signal.SIG_IGN)
    raise Stopped


if __name__ == "__main__":
    sys.exit(main())
