"""Rows 3 and 5 for the inlet: its producer is killed while a writer pushes, and the writer while it pushes."""

import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from protocol.log_folder import LogFolder
from protocol.messages import STREAM
from protocol.stored_log import StoredLog
from tests.faults.conftest import Row
from tests.programs import ROOT
from tests.trainer.lives import Started, end, tail, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

KILLS = 50
#: Lines that a writer is given in a hundredth of a second, and those of a file.
PIECE, LINES = 100, 600_000


class Inlet:
    """A producer with an inlet and a log on disk, over many lives."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._urls = folder, [f"tcp://127.0.0.1:{free_port()}" for _ in range(2)]
        self.producer = self._start()

    @property
    def url(self) -> str:
        return self._urls[0]

    def kill(self) -> None:
        end(self.producer)
        self.producer = self._start()

    def write(self, lines: int) -> subprocess.Popen[str]:
        """A writer; it reads a file of so many lines, or (0) what it is given."""
        file = self._folder / "lines"
        if lines and not file.exists():
            file.write_text("".join(line(number) for number in range(lines)))
        command = [sys.executable, str(ROOT / "examples/clients/push.py"), self.url, "writer"]
        if not lines:
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with file.open() as opened:
            return subprocess.Popen(command, stdin=opened, stdout=subprocess.PIPE, text=True)

    def counts(self) -> Counter[int]:
        """How often each number lies in the log."""
        end(self.producer)
        counts: Counter[int] = Counter()
        with LogFolder(self._folder / "log") as folder:
            for chunk in StoredLog(folder, STREAM).chunks():
                counts.update(np.asarray(chunk.columns["n"]).tolist())
        return counts

    def _start(self) -> Started:
        inlet, bind = self._urls
        arguments = ["--inlet", inlet, "--bind", bind, "--log.path", str(self._folder / "log")]
        return Started("producer", [*arguments, "--status_every_s", "0"], self._folder / "producer.log")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def line(number: int) -> str:
    return json.dumps({"n": number, "text": "x" * (number % 50)}) + "\n"


@pytest.fixture
def inlet(tmp_path: Path) -> Iterator[Inlet]:
    inlet = Inlet(tmp_path)
    yield inlet
    if inlet.producer.poll() is None:
        end(inlet.producer)


def test_a_producer_that_is_killed_while_a_writer_pushes_has_each_record_once(
    inlet: Inlet, seed: int, row: Row
) -> None:
    drawn, given, stop = random.Random(seed), 0, threading.Event()
    writer = inlet.write(0)
    assert writer.stdin is not None
    stdin = writer.stdin

    def give() -> None:
        nonlocal given
        while not stop.wait(0.01):
            stdin.write("".join(map(line, range(given, given + PIECE))))
            given += PIECE
        stdin.close()

    giving = threading.Thread(target=give)
    giving.start()
    log = Path(inlet.producer.log)
    for _ in range(KILLS):
        said = log.stat().st_size
        wait_until(lambda said=said: "serving inlet" in log.read_text()[said:], "the next life")  # type: ignore[misc]
        time.sleep(drawn.uniform(0, 0.5))
        inlet.kill()
    stop.set()
    giving.join()
    assert writer.stdout is not None
    with writer.stdout:
        assert writer.stdout.read() == f"{given} records are durable\n", tail(inlet.producer)
    assert writer.wait() == 0
    assert inlet.counts() == Counter(range(given)), "not all once"
    caused = f"producer with an inlet (disk log) SIGKILLed {KILLS} times while a writer pushes"
    row(3, caused, f"{given:,} records, each once in its log")


def test_a_writer_that_is_killed_while_it_pushes_and_starts_again_has_pushed_each_record_once(
    inlet: Inlet, seed: int, row: Row
) -> None:
    drawn = random.Random(seed)
    for _ in range(KILLS):
        writer = inlet.write(LINES)
        time.sleep(drawn.uniform(0.2, 0.6))
        assert writer.poll() is None, "it was done before: give it more lines"
        writer.kill()
        writer.communicate()
    writer = inlet.write(LINES)
    assert writer.communicate()[0] == f"{LINES} records are durable\n", tail(inlet.producer)
    assert inlet.counts() == Counter(range(LINES)), "not all once"
    row(5, f"writer of an inlet SIGKILLed {KILLS} times and started again", f"{LINES:,} records, each once in the log")
