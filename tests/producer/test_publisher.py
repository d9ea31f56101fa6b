"""`Publisher`: a capture program's records reach every trainer, and leaving says what became of them."""

import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producer.publisher import Publisher
from protocol.errors import DataFault, LogFull, NotDrained, RecordsLost, StreamError, StreamReplaced, UsageError
from protocol.schema import Field, Schema
from tests.trainer.streams import group, groups, ids
from trainer.batch import Batch
from trainer.loader import StreamLoader

ROOT = Path(__file__).parents[2]

CAPTURE = """
import sys
import numpy as np

def camera():
    for number in range(300):
        yield np.full((8, 8), number % 256, np.uint8), number % 10

from producer import Publisher                      # in the capture program
with Publisher("URL") as stream:   # leaving it cleanly ends the stream and waits until all was taken
    for frame, label in camera():
        stream.send(image=frame, label=label)

assert "torch" not in sys.modules
print("all was taken")
"""

TRAINING = """
from trainer import StreamLoader                    # in the training program
loader = StreamLoader("URL", batch_size=64)
for batch in loader:
    step(batch["image"], batch["label"])
    loader.mark_trained(batch)                      # what state_dict() will say has been trained
"""


@pytest.fixture
def url() -> str:
    """An address that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


@contextmanager
def program(text: str) -> Iterator["subprocess.Popen[str]"]:
    """A capture program in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def train(url: str, *, mark: bool = True, slowly_s: float = 0.0, **options: Any) -> list[Batch]:
    """All batches of the stream."""
    loader = StreamLoader(url, batch_size=10, **options)
    batches = []
    for batch in loader:
        batches.append(batch)
        time.sleep(slowly_s)
        if mark:
            loader.mark_trained(batch)
    return batches


class Training(threading.Thread):
    """A run that goes on beside the test."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(daemon=True)
        self._url, self._options = url, options
        self.batches: list[Batch] = []
        self.start()

    def run(self) -> None:
        self.batches = train(self._url, **self._options)

    def ids(self) -> list[int]:
        """What it has seen when it has ended."""
        self.join(30)
        assert not self.is_alive()
        return ids(self.batches)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


# --- the ends of a stream -----------------------------------------------------------------------------------------


def test_the_five_lines_run_as_they_stand(url: str) -> None:
    pictures, labels = [], []

    def step(image: Any, label: Any) -> None:
        pictures.extend(image[:, 3, 3].tolist())
        labels.extend(label.tolist())

    with program(CAPTURE.replace("URL", url)) as capture:
        exec(TRAINING.replace("URL", url), {"step": step})
        said, _ = capture.communicate(timeout=30)
    assert pictures == [number % 256 for number in range(300)]
    assert labels == [number % 10 for number in range(300)]
    assert (said.strip(), capture.returncode) == ("all was taken", 0)


def test_leaving_waits_until_everything_is_marked() -> None:
    with Publisher("tcp://127.0.0.1:*", partitions=2) as publisher:
        training = Training(publisher.address, slowly_s=0.05)
        publisher.send_columns(id=np.arange(100))
        sent_s = time.monotonic()
    assert time.monotonic() - sent_s >= 0.5
    assert training.ids() == list(range(100))


def test_leaving_waits_for_the_commit_of_a_run_that_keeps_checkpoints() -> None:
    publisher = Publisher("tcp://127.0.0.1:*", partitions=2)
    publisher.send_columns(id=np.arange(100))
    loader = StreamLoader(publisher.address, batch_size=10)
    loader.state_dict()
    closing = threading.Thread(target=publisher.close)
    closing.start()
    for batch in loader:
        loader.mark_trained(batch)
    closing.join(0.5)
    assert closing.is_alive()
    loader.commit(loader.state_dict())
    closing.join(10)
    assert not closing.is_alive()


def test_what_was_not_taken_within_the_time_that_was_given_is_counted() -> None:
    publisher = Publisher("tcp://127.0.0.1:*", partitions=2)
    publisher.send_columns(id=np.arange(100))
    loader = StreamLoader(publisher.address, batch_size=10, group="half")
    batches = iter(loader)
    for _ in range(4):
        loader.mark_trained(next(batches))
    batches.close()  # type: ignore[attr-defined]  # what was marked is said once more
    wait_for(lambda: sum(group(publisher.address, "half").trained.values()) == 40)
    with pytest.raises(NotDrained, match=r"60 records were not taken within 0\.3 s") as caught:
        publisher.close(drain_timeout_s=0.3)
    assert caught.value.remaining == 60


def test_without_any_trainer_nothing_is_taken() -> None:
    with (
        pytest.raises(NotDrained, match="5 records were not taken"),
        Publisher("tcp://127.0.0.1:*", drain_timeout_s=0.2) as publisher,
    ):
        publisher.send_columns(id=np.arange(5))


def test_a_trainer_whose_producer_left_too_early_ends_with_a_warning_and_not_with_an_error(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.link.COMMIT_TIMEOUT_S", 0.5)
    publisher = Publisher("tcp://127.0.0.1:*", partitions=2)
    publisher.send_columns(id=np.arange(30))
    loader = StreamLoader(publisher.address, batch_size=10)
    batches = iter(loader)
    first = next(batches)
    with pytest.raises(NotDrained):
        publisher.close(drain_timeout_s=0.5)
    seen = [first]
    loader.mark_trained(first)
    for batch in batches:
        seen.append(batch)
        loader.mark_trained(batch)
    assert ids(seen) == list(range(30))
    assert loader.position.ended
    assert "the producer left before it heard that everything was trained" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    "end", [pytest.param("sys.exit('broken')", marks=pytest.mark.faults), "os.kill(os.getpid(), signal.SIGTERM)"]
)
def test_a_program_that_breaks_off_is_away_and_another_stream_after_it_is_refused(url: str, end: str) -> None:
    text = f"""
    import os, signal, sys, time
    from producer import Publisher
    with Publisher({url!r}, partitions=2) as stream:
        for number in range(30):
            stream.send(id=number)
        sys.stdin.readline()
        {end}
    """
    away: list[str] = []
    loader = StreamLoader(url, batch_size=10, num_workers=0)
    loader.on_idle = lambda: away.append(loader.position.state)
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(text)], cwd=ROOT, stdin=subprocess.PIPE) as first:
        batches = iter(loader)
        loader.mark_trained(next(batches))
        assert first.stdin is not None
        first.stdin.close()
        assert first.wait(10) != 0
    failed: list[BaseException] = []

    def go_on() -> None:
        try:
            for batch in batches:
                if batch.number < 3:  # what came last is never trained
                    loader.mark_trained(batch)
        except StreamError as error:
            failed.append(error)

    training = threading.Thread(target=go_on)
    training.start()
    wait_for(lambda: any(state.startswith("away") for state in away))
    assert not loader.position.ended
    with Publisher(url, partitions=2, drain_timeout_s=0) as other:
        other.send_columns(id=np.arange(5))
        training.join(20)
        other.abandon()
    assert isinstance(failed[0], StreamReplaced)
    assert "partition 0 lost at least 10 records: offsets 20 to 29" in str(failed[0])


# --- groups and room ----------------------------------------------------------------------------------------------


def test_several_groups_read_independently_and_completely() -> None:
    with Publisher("tcp://127.0.0.1:*", partitions=3) as publisher:
        publisher.send_columns(id=np.arange(50))  # before anybody listens
        runs = [
            Training(publisher.address),
            Training(publisher.address, slowly_s=0.02, group="slow"),
            Training(publisher.address, group="third"),
        ]
        for number in range(50, 200):
            publisher.send(id=number)
        wait_for(lambda: len(groups(publisher.address)) == len(runs))  # who comes after the end comes too late
    for run in runs:
        assert run.ids() == list(range(200))


def record_of(number: int) -> dict[str, Any]:
    """Stripes of 64 such records, so that a small log has room for a few of them."""
    return {"id": number, "payload": np.zeros(1 << 15, np.uint8)}


def test_a_full_log_makes_the_sender_wait_for_commits() -> None:
    publisher = Publisher("tcp://127.0.0.1:*", partitions=2, max_bytes=8 << 20)
    sent: list[int] = []

    def send() -> None:
        for number in range(600):
            publisher.send(**record_of(number))
            sent.append(number)

    publisher.send(**record_of(-1))
    loader = StreamLoader(publisher.address, batch_size=50)
    loader.state_dict()
    sending = threading.Thread(target=send)
    sending.start()
    seen: list[int] = []
    for batch in loader:
        seen += batch["id"].tolist()
        loader.mark_trained(batch)
        if len(seen) == 150:
            time.sleep(0.5)
            held = len(sent)
            assert held < 256  # nothing was committed: four stripes at most are there
        if len(seen) >= 150:
            loader.commit(loader.state_dict())
        if len(seen) == 600:
            break
    sending.join(10)
    assert not sending.is_alive()
    assert len(sent) == 600
    assert seen == list(range(-1, 599))
    assert sum(publisher.dropped.values()) == 0
    publisher.abandon()


def test_drop_oldest_counts_exactly_what_nobody_had_trained() -> None:
    publisher = Publisher("tcp://127.0.0.1:*", partitions=2, max_bytes=8 << 20, full="drop-oldest")
    for number in range(100):
        publisher.send(**record_of(number))
    loader = StreamLoader(publisher.address, batch_size=20, group="slow")
    batches = iter(loader)
    for _ in range(3):
        loader.mark_trained(next(batches))
    state = loader.state_dict()
    batches.close()  # type: ignore[attr-defined]
    loader.commit(state)
    for number in range(100, 1000):
        publisher.send(**record_of(number))
    resumed = StreamLoader(publisher.address, batch_size=20)
    resumed.load_state_dict(state)
    with pytest.raises(RecordsLost) as caught:
        next(iter(resumed))
    fresh = StreamLoader(publisher.address, batch_size=20)
    left = next(iter(fresh))["id"].tolist()
    lost, dropped = caught.value, publisher.dropped
    publisher.abandon()
    assert left[0] - 60 == sum(dropped.values())
    assert {each.partition: each.records for each in lost.lost} == dropped
    assert not any(each.at_least for each in lost.lost)


# --- mistakes -----------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_said_with_the_mend(url: str) -> None:
    first = Publisher(url)
    with pytest.raises(UsageError, match="is in use: stop the other producer"):
        Publisher(url)
    first.abandon()


def test_a_record_that_does_not_fit_is_refused_and_the_stream_goes_on() -> None:
    with Publisher("tcp://127.0.0.1:*") as publisher:
        training = Training(publisher.address)
        publisher.send(id=0, weight=0.5)
        with pytest.raises(DataFault):
            publisher.send(id="one", weight=0.5)
        with pytest.raises(DataFault):
            publisher.send(id=1)
        publisher.send(id=1, weight=1.5)
    assert training.ids() == [0, 1]


def test_a_declared_schema_lets_trainers_come_before_the_first_record() -> None:
    schema = Schema((Field("id", "int64", ()),))
    with Publisher("tcp://127.0.0.1:*", schema=schema) as publisher:
        loader = StreamLoader(publisher.address, batch_size=10, connect_timeout_s=5)
        assert loader.info.schema == schema
        training = Training(publisher.address)
        publisher.send(id=3)
    assert training.ids() == [3]


def test_nothing_can_be_sent_after_the_end() -> None:
    publisher = Publisher("tcp://127.0.0.1:*")
    publisher.send(id=0)
    publisher.abandon()
    publisher.abandon()
    with pytest.raises(UsageError, match="was closed"):
        publisher.send(id=1)


def test_a_stream_of_nothing_ends_at_once() -> None:
    with Publisher("tcp://127.0.0.1:*"):
        pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_fails_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher("tcp://127.0.0.1:*")
    publisher.send(id=0)

    def fail(now_s: float) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(publisher._server, "turn", fail)
    with pytest.raises(StreamError, match="serving has failed"):
        publisher.close()


def test_a_socket_file_does_not_outlive_its_stream(tmp_path: Path) -> None:
    publisher = Publisher(f"ipc://{tmp_path}/stream")
    publisher.send(id=0)
    assert [path.name for path in tmp_path.iterdir()] == ["stream"]
    publisher.abandon()
    assert list(tmp_path.iterdir()) == []


def test_signals_are_left_to_the_program() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    publisher = Publisher("tcp://127.0.0.1:*")
    publisher.send(id=0)
    publisher.abandon()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


# --- a log on disk -----------------------------------------------------------------------------------------------


def test_a_stream_on_disk_goes_on_in_its_next_life_and_a_run_on_it_too(tmp_path: Path, url: str) -> None:
    with Publisher(url, path=tmp_path, partitions=2) as first:
        for number in range(30):
            first.send(id=number)
        first.send(id=30, wait=True)
        assert first.durable == 31
        first.abandon()
    second = Publisher(url, path=tmp_path, partitions=2)  # what a record is, the folder knows
    assert second.durable == 31
    training = Training(url)
    second.send_columns(id=np.arange(31, 100), wait=True)
    assert second.durable == 100
    second.close()
    assert training.ids() == list(range(100))


def test_a_durable_group_is_kept_for_though_the_producer_is_back_before_it(tmp_path: Path, url: str) -> None:
    first = Publisher(url, path=tmp_path, partitions=1)
    first.send_columns(id=np.arange(3 * 4096), wait=True)
    away, state = StreamLoader(url, batch_size=100, group="away"), {}
    for batch in away:
        away.mark_trained(batch)
        state = away.state_dict()  # from here on the group holds the log
        wait_for(lambda: group(url, "away").durable)
        break
    first.abandon()
    second = Publisher(url, path=tmp_path, partitions=1)
    assert [each.name for each in groups(url)] == ["away"], "it has said nothing in this life"
    other = StreamLoader(url, batch_size=3 * 4096, group="other")
    for batch in other:
        other.mark_trained(batch)  # would all be forgotten but for the group that is away
        other.check_ledger()  # what was marked is counted at the latest when somebody asks
        wait_for(lambda: sum(group(url, "other").trained.values()) == 3 * 4096)
        break
    back = StreamLoader(url, batch_size=100)
    back.load_state_dict(state)
    assert next(iter(back))["id"].tolist() == list(range(100, 200))
    second.abandon()


def test_a_full_disk_log_that_fails_raises_where_the_record_is_sent(tmp_path: Path, url: str) -> None:
    frame = np.zeros(1 << 21, np.uint8)
    stream = Publisher(url, path=tmp_path, partitions=1, max_bytes=10 << 20, full="fail")
    for _ in range(4):
        stream.send(frame=frame, wait=True)
    with pytest.raises(LogFull, match="is full"):
        stream.send(frame=frame, wait=True)
    assert stream.durable == 4
    stream.abandon()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"full": "sometimes"}, "choose one of block"),
        ({"max_bytes": -1}, "are 0 or more"),
        ({"max_bytes": 10}, "is too small: give at least"),
    ],
)
def test_a_log_that_cannot_be_is_refused_and_the_address_is_free_again(
    tmp_path: Path, url: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        Publisher(url, path=tmp_path, schema=Schema((Field("id", "int64"),)), **options)
    Publisher(url).abandon()
