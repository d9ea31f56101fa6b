"""Whatever offsets messages come with, every offset is passed once: as a record, as lost, or as absent."""

import json
import random
import tracemalloc
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.chunk import Chunk
from protocol.dealing import Positions
from protocol.kafka.events import KafkaEvents, runs
from protocol.kafka.messages import open_messages
from protocol.kafka.url import kafka_topic
from protocol.subscription import Absent, Event, Expired, Undecodable

if TYPE_CHECKING:
    from confluent_kafka import Message

kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

MOST = 3
#: Of each Kafka offset that has a message: how many records, None for a tombstone, -1 for no JSON at all.
Logs = dict[int, dict[int, int | None]]


@st.composite
def logs(draw: st.DrawFn) -> Logs:
    message = st.one_of(st.integers(0, MOST), st.none(), st.just(-1))
    return draw(st.dictionaries(st.integers(0, 2), st.dictionaries(st.integers(0, 12), message), min_size=1))


def message(partition: int, offset: int, count: int | None) -> "Message":
    records = [{"id": 1000 * partition + MOST * offset + index} for index in range(max(0, count or 0))]
    value = None if count is None else b"no json" if count < 0 else json.dumps(records).encode()
    return kafka.Message(  # type: ignore[no-any-return]  # it was looked for by its name
        topic="t", partition=partition, offset=offset, value=value, timestamp=(1, 5), headers=None
    )


def ids(events: list[Event], partition: int) -> Iterator[tuple[int, int]]:
    """Our offset and id of each record that is given."""
    for event in events:
        if isinstance(event, Chunk) and event.partition == partition:
            yield from enumerate(np.asarray(event.columns["id"]).tolist(), event.offset)


@given(written=logs(), drawn=st.randoms(), lost=st.booleans(), start=st.integers(0, 20), rows=st.integers(1, 4))
def test_each_offset_is_passed_once_and_in_order(
    *, written: Logs, drawn: random.Random, lost: bool, start: int, rows: int
) -> None:
    topic = kafka_topic(f"kafka://a:1/t?format=json&schema=id:int64&records_per_message={MOST}")
    positions: Positions = dict.fromkeys(written, start)
    events = KafkaEvents(
        dict(positions), open_messages(topic, iter(())), per_message=MOST, most_rows=rows, gaps_lost=lost
    )
    waiting = {p: [message(p, k, count) for k, count in sorted(log.items())] for p, log in written.items()}
    given_events: list[Event] = []
    while any(waiting.values()):
        left = [partition for partition, messages in waiting.items() if messages]
        chosen = drawn.choice(left)
        batch, waiting[chosen] = waiting[chosen][:rows], waiting[chosen][rows:]
        given_events += events.take(batch)
    for partition in written:
        given_events += events.reach(partition, 13)
    for partition, log in written.items():
        at, expected = start, 0
        for event in given_events:
            match event:
                case Chunk() | Absent() if event.partition == partition:
                    first, end = (event.offset, event.end) if isinstance(event, Chunk) else (event.first, event.end)
                case Expired() if event.lost[0].partition == partition:
                    assert lost
                    _, first, end, _ = event.lost[0]
                case Undecodable() if event.chunk.partition == partition:
                    first, end = event.chunk.offset, event.chunk.end
                    assert log[first // MOST] == -1
                case _:
                    continue
            assert first == at, "no offset is passed twice, or not at all"
            at = end
        assert at == events.positions[partition] == max(start, 13 * MOST)
        found = dict(ids(given_events, partition))
        assert all(record == 1000 * partition + offset for offset, record in found.items())
        expected = sum(MOST * k + index >= start for k, count in log.items() for index in range(max(0, count or 0)))
        assert len(found) == expected


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1))
def test_runs_are_all_messages_in_their_order_and_have_no_gap(places: list[tuple[int, int]]) -> None:
    batch = [message(partition, offset, 1) for partition, offset in places]
    found = list(runs(batch))
    assert [each for _, _, run in found for each in run] == batch
    for partition, offset, run in found:
        assert [(each.partition(), each.offset()) for each in run] == [(partition, offset + n) for n in range(len(run))]


@given(
    values=st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.recursive(
                st.one_of(st.integers(-9, 9), st.floats(), st.text(max_size=3), st.none(), st.booleans()),
                lambda inner: st.one_of(
                    st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["x", "y", "data"]), inner, max_size=3)
                ),
            )
            .map(json.dumps)
            .map(str.encode),
        ),
        max_size=8,
    ),
    how=st.sampled_from(
        ["json&schema=x:int64", "json&schema=x:float32[any]", "msgpack&schema=x:uint8[2]", "raw&schema=x:bool[2]"]
    ),
)
def test_no_value_is_more_than_its_own_fault(values: list[bytes], how: str) -> None:
    topic = kafka_topic(f"kafka://a:1/t?format={how}")
    events = KafkaEvents({0: 0}, open_messages(topic, iter(())), per_message=1, most_rows=99, gaps_lost=False)
    batch = [
        kafka.Message(topic="t", partition=0, offset=k, value=value, timestamp=(1, 5), headers=None)
        for k, value in enumerate(values)
    ]
    given_events = list(events.take(batch)) if batch else []
    assert events.positions == {0: len(values)}
    assert all(isinstance(event, Chunk | Undecodable | Absent) for event in given_events)


def events_of(how: str, values: list[bytes]) -> list[Event]:
    """The events of these values, each a message of its own."""
    topic = kafka_topic(f"kafka://a:1/t?format={how}")
    events = KafkaEvents({0: 0}, open_messages(topic, iter(())), per_message=1, most_rows=9999, gaps_lost=False)
    batch = [
        kafka.Message(topic="t", partition=0, offset=k, value=value, timestamp=(1, 5), headers=None)
        for k, value in enumerate(values)
    ]
    return list(events.take(batch))


def faults(how: str, values: list[bytes]) -> list[str]:
    """What is said of the values that cannot be read."""
    return [event.reason for event in events_of(how, values) if isinstance(event, Undecodable)]


def test_one_bad_message_leaves_the_others_together() -> None:
    found = events_of("raw&schema=x:int64", [b"no" if k == 777 else bytes(8) for k in range(2048)])
    assert sum(event.count for event in found if isinstance(event, Chunk)) == 2047
    assert [event.chunk.offset for event in found if isinstance(event, Undecodable)] == [777]
    assert len(found) <= 12  # eleven halves and the message itself


def test_half_a_sign_in_a_text_is_the_fault_of_its_message() -> None:
    (reason,) = faults("json&schema=w:text", [b'{"w": "ok"}', b'{"w": "\\ud800"}'])
    assert "field 'w': a text that is no UTF-8" in reason


@pytest.mark.parametrize("field", ["x:int64", "x:float32[2]"])
def test_a_long_text_in_place_of_a_number_takes_no_more_room_than_itself(field: str) -> None:
    values = [b'{"x": 1}' if field == "x:int64" else b'{"x": [1, 2]}'] * 255
    tracemalloc.start()
    try:
        (reason,) = faults(f"json&schema={field}", [b'{"x": "%s"}' % (b"a" * 900_000), *values])
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert "offset 0 does not fit the stream: field 'x'" in reason
