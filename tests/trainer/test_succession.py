"""Another stream in the place of the one that a run has read."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producer.memory_log import MemoryLog
from producer.publisher import Publisher
from protocol.beginning import Beginning
from protocol.dealing import Dealing
from protocol.errors import RecordsLost, StreamError, StreamReplaced
from protocol.open_reader import open_reader
from tests.protocol.topic import Topic
from tests.trainer.arriving import loader_of
from tests.trainer.mixing import numbered
from tests.trainer.streams import computed, serving
from tests.trainer.thousand import take
from trainer import asking
from trainer.loader import StreamLoader
from trainer.mixed_loader import MixedLoader
from trainer.one_stream import Terms
from trainer.reading import Reading
from trainer.sampling import SamplingSettings
from trainer.succession import Succession


def train_live(url: str, state: dict[str, Any] | None) -> StreamLoader:
    """Train a live stream to its end, from a state on."""
    loader = StreamLoader(url, batch_size=10)
    if state is not None:
        loader.load_state_dict(state)
    loader.state_dict()  # from here on the producer waits for a commit
    take(loader, 1000)
    loader.commit(loader.state_dict())
    return loader


def publish(first: int, count: int) -> tuple[Publisher, threading.Thread]:
    """A live stream that is about to end, closed in a thread of its own."""
    publisher = Publisher("tcp://127.0.0.1:*", partitions=2)
    publisher.send_columns(id=np.arange(first, first + count))
    closing = threading.Thread(target=publisher.close)
    return publisher, closing


def test_a_live_stream_that_was_trained_to_its_end_is_followed_by_the_next(caplog: pytest.LogCaptureFixture) -> None:
    publisher, closing = publish(0, 50)
    closing.start()
    loader = train_live(publisher.address, None)
    closing.join()
    publisher, closing = publish(50, 30)
    closing.start()
    with caplog.at_level("INFO"):
        following = train_live(publisher.address, loader.state_dict())
    closing.join()
    assert following.position.batches == 8
    assert [each.ledger.totals()["trained"] for each in following.position.earlier] == [50]
    assert following.position.totals()["trained"] == 80
    assert following.position.ledger.totals()["trained"] == 30
    assert "was trained to its end" in caplog.text
    old = loader.state_dict()["incarnation"]
    assert old in caplog.text
    loader.commit({**loader.state_dict(), "incarnation": "of a stream before"})  # nobody keeps it: no error


def test_another_stream_is_refused_by_both_names_with_what_was_lost() -> None:
    publisher, _ = publish(0, 50)
    loader = StreamLoader(publisher.address, batch_size=10)
    take(loader, 2)
    state = loader.state_dict()
    publisher.abandon()
    other, _ = publish(0, 50)
    resumed = StreamLoader(other.address, batch_size=10)
    resumed.load_state_dict(state)
    with pytest.raises(StreamReplaced):
        resumed.connect()
    with pytest.raises(StreamReplaced) as caught:  # it is no less wrong the second time
        resumed.connect()
    other.abandon()
    assert caught.value.expected == state["incarnation"]
    assert caught.value.found not in ("", caught.value.expected)
    assert str(caught.value.found) in str(caught.value)
    assert sum(lost.end - lost.first for lost in caught.value.lost) == 30
    assert "partition 0 lost at least 30 records: offsets 20 to 49" in str(caught.value)


def test_a_stream_that_is_replaced_while_it_is_read_is_refused() -> None:
    publisher, _ = publish(0, 20)
    loader = StreamLoader(publisher.address, batch_size=10)
    address = publisher.address
    batches = iter(loader)
    loader.mark_trained(next(batches))
    publisher.abandon()
    other = MemoryLog(publisher._log.info.schema, Dealing(2, 1024))  # type: ignore[union-attr]
    with serving(other, url=address), pytest.raises(StreamReplaced) as caught:
        list(batches)
    assert caught.value.expected == loader.info.incarnation
    assert "partition 0 lost at least 10 records: offsets 10 to 19" in str(caught.value)


def test_positions_that_retention_has_passed_are_refused_with_their_number() -> None:
    publisher = Publisher("tcp://127.0.0.1:*", partitions=2, max_bytes=1 << 23, full="drop-oldest")
    publisher.send_columns(id=np.arange(10), payload=np.zeros((10, 1 << 15), np.uint8))
    loader = StreamLoader(publisher.address, batch_size=5)
    take(loader, 1)
    state = loader.state_dict()
    publisher.send_columns(id=np.arange(1000), payload=np.zeros((1000, 1 << 15), np.uint8))
    start = publisher._log.log_start()  # type: ignore[union-attr]
    resumed = StreamLoader(publisher.address, batch_size=5)
    resumed.load_state_dict(state)
    with pytest.raises(RecordsLost) as caught:
        take(resumed, 1)
    publisher.abandon()
    lost = caught.value
    assert (lost.first, lost.end) == (state["positions"][lost.partition], start[lost.partition])


def test_in_a_mix_the_others_go_on_while_nobody_says_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "AWAY_AFTER_S", 0.2)
    topics = []
    for name, records in (("replaced", range(20)), ("other", range(100, 400))):
        (tmp_path / name).mkdir()
        topics.append(Topic(tmp_path / name, 2))
        topics[-1].write(0, records)
    replaced, other = topics
    other.end()
    mix = MixedLoader([loader_of(each.folder, on_loss="continue") for each in topics], without_after_s=0.1)
    came: list[int] = []
    for batch in mix:
        mix.mark_trained(batch)
        mix.check_ledger()
        came += batch["id"].tolist()
        if batch.number == 2:
            replaced.tell(0)
            replaced.replace()
            replaced.write(1, range(20, 40))
        if len(set(came) & set(range(100, 400))) >= 200 and not replaced.ended:
            assert not set(came) & set(range(20, 40))
            replaced.tell(None)
            replaced.end()
    assert len(came) == len(set(came))
    assert set(came) >= {*range(10), *range(20, 40), *range(100, 400)}
    assert mix.position.totals()["trained"] + mix.position.totals()["lost"] == 340
    assert mix.position.ended


def test_the_stream_that_is_read_may_be_back_and_no_other_of_the_run_may_follow_it() -> None:
    terms = Terms(
        reading=Reading(url="tcp://127.0.0.1:1"),
        batch_size=5,
        order="stream",
        on_loss="continue",
        sampling=SamplingSettings(),
        seed=0,
        quarantine=None,
        held_out=None,
        owned=False,
        pin_memory=False,
    )
    described = []
    for first in (0, 100):
        with serving(computed(numbered(20, first=first))) as url, open_reader(url) as reader:
            described.append(reader.describe(timeout_s=30))
    read, other = described
    succession = Succession(terms, Beginning())
    succession.begin(read, None, durable=False)
    succession.taken = lambda: {read.info.incarnation, other.info.incarnation}
    replaced = StreamReplaced(read.info.incarnation, "another that was there for a moment")
    succession.follow(read, replaced)
    assert succession.now is not None
    assert succession.now.info.incarnation == read.info.incarnation
    with pytest.raises(StreamError, match="serves a stream now that this run reads already"):
        succession.follow(other, replaced)
