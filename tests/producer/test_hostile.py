"""An honest reader beside strangers who wish the server no good: what it keeps of its rate, and what they cost.

The rates are measured in turn with and without the stranger, so that whatever else the machine does meets both. One
that talks without end takes a core of the machine that server and reader run on; so it is held against a process that
takes as much and leaves the server alone, and against the same stranger who talks to another server of the machine: how
much of what is lost is the server's doing, the second tells.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protocol.chunk import Chunk
from protocol.codec import MAX_GROUPS
from protocol.open_reader import open_reader
from protocol.subscription import Subscription
from tests.producer.hostile import BUSY, KINDS, SPEAKING
from tests.trainer.lives import Started, born, end, tail, wait_until

pytestmark = pytest.mark.faults

ROUNDS, MEASURED_S = 3, 2.0
#: What a stranger does has its full effect after this.
SETTLED_S = 4.0
#: The promise is 0.8; server, reader and stranger share the machine's cores here, and other tests may run beside them.
LEAST_SHARE = 0.4
MOST_BYTES = 1 << 30


class Honest:
    """Reads all there is as fast as it comes, in a thread of its own, and counts."""

    def __init__(self, url: str) -> None:
        self._url, self._leaving, self.records = url, False, 0
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def rate(self) -> float:
        """Records a second, over a while."""
        before, began_s = self.records, time.monotonic()
        time.sleep(MEASURED_S)
        return (self.records - before) / (time.monotonic() - began_s)

    def leave(self) -> None:
        self._leaving = True
        self._thread.join(timeout=30)

    def _read(self) -> None:
        with open_reader(self._url) as reader:
            partitions = reader.describe(timeout_s=60).info.dealing.partitions
            for events in reader.read(Subscription(split="", positions=dict.fromkeys(range(partitions), 0))):
                self.records += sum(event.count for event in events if isinstance(event, Chunk))
                if self._leaving:
                    return


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Started]]:
    source = ["--source", "tests.trainer.numbered.NumberedRecords", "--source.records", "20000", "--source.size", "784"]
    life = Started("producer", ["--bind", "tcp://127.0.0.1:*", "--rate", "0", *source], folder / "log")
    wait_until(lambda: "fields: " in life.log.read_text(), "the producer's first lines")
    yield life.log.read_text().split(" at ")[1].split(": ")[0], life
    end(life)


@pytest.fixture(scope="module")
def producer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Started]]:
    with serving(tmp_path_factory.mktemp("producer")) as producer:
        yield producer


@pytest.fixture(scope="module")
def bystander(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of another server on the same machine, which the honest reader has nothing to do with."""
    with serving(tmp_path_factory.mktemp("bystander")) as (url, _):
        yield url


@contextmanager
def stranger(url: str, kind: str, log: Path) -> Iterator[None]:
    life = Started("tests.producer.hostile", [url, kind], log)
    try:
        wait_until(lambda: "ready" in life.log.read_text(), "the stranger")
        yield
    finally:
        assert life.poll() is None, f"the stranger has given up: {tail(life)}"
        end(life)
        log.unlink()


def resident_bytes(life: Started) -> int:
    return int(Path(f"/proc/{life.pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("kind", KINDS)
def test_an_honest_reader_keeps_its_rate_and_the_server_its_memory(
    producer: tuple[str, Started], bystander: str, tmp_path: Path, kind: str
) -> None:
    url, life = producer
    honest = Honest(url)
    wait_until(lambda: honest.records > 0, "the first records")
    beside, most = 0.0, 0
    without: defaultdict[str, float] = defaultdict(float)
    for _ in range(ROUNDS):
        if kind in SPEAKING:
            with stranger(url, BUSY, tmp_path / "busy"):
                without["a busy process"] += honest.rate()
            with stranger(bystander, kind, tmp_path / "stranger"):
                time.sleep(SETTLED_S)
                without["the same elsewhere"] += honest.rate()
        else:
            without["nobody"] += honest.rate()
        with stranger(url, kind, tmp_path / "stranger"):
            time.sleep(SETTLED_S)
            beside += honest.rate()
            most = max(most, resident_bytes(life))
            with open_reader(url) as reader:
                assert len(reader.describe(timeout_s=60).groups) <= MAX_GROUPS
    honest.leave()
    shares = {name: beside / rate for name, rate in without.items()}
    of = ", ".join(f"{share:.2f} of that beside {name}" for name, share in shares.items())
    print(f"{kind}: {beside / ROUNDS:,.0f} records/s, {of}; the server held at most {most >> 20} MiB")
    assert born(life.pid) is not None, tail(life)
    assert all(share > LEAST_SHARE for share in shares.values()), shares
    assert most < MOST_BYTES
    lines = life.log.read_text().splitlines()
    assert len(lines) < 1000, "a flood of refusals is no flood of lines"
