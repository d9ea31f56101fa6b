import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.computed_log import ComputedLog, split_log
from producer.drift import Drift, Planned, Schedule
from producer.effects import Thin
from producer.pace import Pace
from producer.source import ColumnSource
from protocol.change import Change
from protocol.dealing import Dealing
from protocol.errors import MalformedMessage, RecordsLost
from protocol.messages import (
    Bye,
    ChunkMessage,
    Commit,
    Committed,
    Credit,
    Describe,
    Description,
    Drop,
    Dropped,
    End,
    Refusal,
    Request,
    Status,
    Subscribe,
    Welcome,
)
from protocol.schema import Field, Schema
from tests.producer.bench import A, B, Bench, live, numbered, refusal, spans, stream
from tests.protocol.drawn_messages import requests

# --- subscriptions ------------------------------------------------------------------------------------------------


def test_a_reader_is_welcome_and_gets_chunks_as_far_as_its_credit_reaches() -> None:
    bench = Bench(stream())
    welcome, status = bench.subscribe(A)
    assert welcome == Welcome(session=1, info=bench.info, log_end={0: 32, 1: 32})
    assert status == Status(session=1, next={0: 0, 1: 0}, log_end={0: 32, 1: 32}, save_soon=False)
    assert spans(bench.credit(A, {0: 6, 1: 4})) == [(0, 0, 4), (1, 0, 4), (0, 4, 2)]
    assert spans(bench.credit(A, {0: 6, 1: 4})) == []


def test_chunks_hold_the_logs_own_records() -> None:
    log = stream()
    bench = Bench(log)
    bench.subscribe(A, {1: 4})
    (chunk,) = (each for each in bench.credit(A, {1: 8}) if isinstance(each, ChunkMessage))
    assert bytes(chunk.frames[0]) == np.asarray(log.read(1, 4, 4).columns["id"]).tobytes()


def test_a_subscription_that_the_link_has_doubled_begins_nothing_anew() -> None:
    bench = Bench(stream())
    bench.subscribe(A)
    bench.credit(A, {0: 4, 1: 4})
    assert [type(each) for each in bench.subscribe(A)] == [Welcome]
    assert spans(bench.credit(A, {0: 8, 1: 4})) == [(0, 4, 4)]


def test_a_new_subscription_of_a_peer_overwrites_its_former_one() -> None:
    bench = Bench(stream())
    bench.subscribe(A)
    bench.subscribe(A, {1: 8}, session=2)
    assert refusal(bench.credit(A, {0: 4})).code == "no_session"
    assert spans(bench.credit(A, {1: 12}, session=2)) == [(1, 8, 4)]
    assert len(bench.service.sessions) == 1


def test_a_split_is_served_beside_the_stream() -> None:
    bench = Bench(stream(), {"test": split_log(numbered(5), stripe=4)})
    bench.subscribe(A, {0: 0}, split="test")
    bench.subscribe(B)
    replies = bench.credit(A, {0: 100})
    assert spans(replies) == [(0, 0, 4), (0, 4, 1)]
    assert replies[-1] == End(session=1, final={0: 5}), "nobody has to wait for the end"
    assert spans(bench.credit(B, {0: 4})) == [(0, 0, 4)]


def test_farewell_ends_the_session_that_it_names() -> None:
    bench = Bench(stream())
    bench.subscribe(A)
    bench.say(A, Bye(session=7))
    assert len(bench.service.sessions) == 1
    bench.say(A, Bye(session=1))
    assert len(bench.service.sessions) == 0


def test_a_reader_that_the_server_does_not_know_is_told_to_subscribe() -> None:
    bench = Bench(stream())
    assert bench.credit(A, {0: 4}) == [Refusal(code="no_session", text="subscribe first", session=1)]
    assert not bench.service.refused, "that is no fault of the reader's"


# --- faults of one peer are its own -------------------------------------------------------------------------------

SUBSCRIBE = Subscribe(
    session=3,
    split="",
    group=None,
    durable=False,
    incarnation=None,
    positions={0: 0},
    trained={},
    committed=None,
)
FAULTS: dict[str, tuple[Request, str, str]] = {
    "no partition": (replace(SUBSCRIBE, positions={}), "range", "no partition"),
    "a partition too many": (replace(SUBSCRIBE, positions={0: 0, 2: 0}), "range", "partition 2 .* has 2"),
    "an unknown split": (replace(SUBSCRIBE, split="sound"), "unknown", "'sound'; there are: test"),
    "a long split": (replace(SUBSCRIBE, split="x" * 4000), "unknown", "there are: test"),
    "a long group": (replace(SUBSCRIBE, group="x" * 129), "range", "1 to 128 characters"),
    "committed elsewhere": (replace(SUBSCRIBE, group="g", committed={2: 0}), "range", "partition 2"),
    "committed beyond": (replace(SUBSCRIBE, group="g", committed={0: 1000}), "range", "offset 1000"),
    "trained elsewhere": (replace(SUBSCRIBE, group="g", trained={1: 0}), "range", "not subscribed to"),
    "trained beyond": (replace(SUBSCRIBE, group="g", trained={0: 1}), "range", "never received"),
    "credit elsewhere": (Credit(session=1, until={5: 9}, trained={}, durable=False), "range", "not subscribed to"),
    "trained by others": (Credit(session=1, until={}, trained={5: 9}, durable=False), "range", "not subscribed to"),
    "commit beyond": (Commit(request=4, group="g", incarnation="", positions={0: 33}), "range", "offset 33"),
    "commit elsewhere": (Commit(request=4, group="g", incarnation="", positions={2: 0}), "range", "partition 2"),
    "commit unnamed": (Commit(request=4, group="", incarnation="", positions={0: 0}), "range", "1 to 128"),
    "an unknown stream": (Commit(request=4, group="g", incarnation="x" * 4000, positions={}), "range", "for stream"),
    "unknown side": (Describe(request=4, split="sound"), "unknown", "'sound'"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_refused_to_its_sender_and_counted_and_touches_nobody_else(name: str) -> None:
    request, code, text = FAULTS[name]
    bench = Bench(stream(), {"test": split_log(numbered(5))})
    if isinstance(request, Commit) and not request.incarnation:
        request = replace(request, incarnation=bench.info.incarnation)
    for peer in (A, B):
        bench.subscribe(peer)
        bench.credit(peer, {0: 4, 1: 0})
    before = bench.service.group_states(0.0)
    said = refusal(bench.say(A, request))
    assert (said.code, said.session, said.request) == (
        code,
        getattr(request, "session", None),
        getattr(request, "request", None),
    )
    assert re.search(text, said.text)
    assert len(said.text) < 300
    assert bench.service.refused == {code: 1}
    assert bench.service.group_states(0.0) == before
    assert spans(bench.credit(B, {0: 8, 1: 4})) == [(1, 0, 4), (0, 4, 4)]


@given(st.lists(st.tuples(st.sampled_from([A, b"peer c"]), requests), max_size=12))
def test_whatever_strangers_ask_for_nothing_escapes_and_an_honest_reader_gets_everything(
    said: list[tuple[bytes, Request]],
) -> None:
    bench = Bench(stream(), linger_s=0.0)
    bench.subscribe(B)
    found = []
    for peer, request in said:
        found += spans(bench.heard(B))
        if isinstance(request, Subscribe | Commit):
            request = replace(request, incarnation=bench.info.incarnation)  # noqa: PLW2901
        bench.say(peer, request)
        bench.wait(0.3)
    bench.credit(B, {})
    found += spans(bench.credit(B, {0: 64, 1: 64}))
    assert sum(count for _, _, count in found) == 64


def test_what_is_no_message_is_refused_too() -> None:
    bench = Bench(stream())
    bench.service.refuse(A, MalformedMessage("x" * 9000))
    said = refusal(bench.heard(A))
    assert (said.code, said.session, said.request) == ("malformed", None, None)
    assert len(said.text) == 4096
    assert bench.service.refused == {"malformed": 1}


def test_only_so_many_readers_are_served_and_those_who_are_may_come_again() -> None:
    bench = Bench(stream(), most_sessions=2)
    bench.subscribe(A)
    bench.subscribe(B)
    said = refusal(bench.subscribe(b"peer c"))
    assert (said.code, said.text) == ("range", "2 readers are served already")
    assert isinstance(bench.subscribe(A, session=2)[0], Welcome)
    bench.say(B, Bye(session=1))
    assert isinstance(bench.subscribe(b"peer c")[0], Welcome)


def test_another_incarnation_is_named() -> None:
    bench = Bench(stream())
    said = refusal(bench.subscribe(A, incarnation="yesterday's"))
    assert (said.code, said.incarnation, said.session) == ("replaced", bench.info.incarnation, 1)
    assert len(bench.service.sessions) == 0


def test_a_position_beyond_the_end_of_the_stream_is_refused() -> None:
    bench = Bench(stream())
    said = refusal(bench.subscribe(A, {0: 32, 1: 33}))
    assert (said.code, said.partition) == ("beyond_end", 1)
    assert [type(each) for each in bench.subscribe(A, {0: 32, 1: 32})] == [Welcome, End]


@pytest.mark.parametrize("rate", [0.0, 1e15])
def test_a_position_to_which_no_passes_can_be_counted_is_refused_and_harms_nobody(
    monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    monkeypatch.setattr("producer.passes.COUNTED_AT_ONCE", 1 << 15)
    schema = Schema((Field("id", "int64"),), label="id")
    source = ColumnSource("numbers", schema, {"id": np.arange(64)})
    drift = Drift(Schedule((Planned(Change(what="thin", at=0), Thin(share={1: 0.5})),)), schema)
    now_s = [0.0]
    pace = Pace(rate, clock=lambda: now_s[0])
    bench = Bench(ComputedLog(source, Dealing(2, 4), pace=pace, drift=drift))
    now_s[0] += 1e6  # whatever was released by then
    bench.subscribe(A)
    far = 1 << 51
    said = refusal(bench.subscribe(B, {0: far, 1: far}))
    assert (said.code, said.session) == ("beyond_end", 1)
    assert "is far beyond what was read so far" in said.text
    commit = Commit(request=1, group="g", incarnation=bench.info.incarnation, positions={0: far, 1: far})
    assert refusal(bench.say(B, commit)).code == "range"
    assert spans(bench.credit(A, {0: 4, 1: 0})) == [(0, 0, 4)]


def test_a_position_that_retention_has_passed_is_refused_with_what_was_lost() -> None:
    log = live(100, "drop-oldest", stripes=10)
    start = log.log_start()
    bench = Bench(log)
    said = refusal(bench.subscribe(A, {0: start[0], 1: 3}))
    assert (said.code, said.partition, said.first, said.end) == ("expired", 1, 3, start[1])
    assert said.log_start == start, "a reader of one partition hears of all"
    assert isinstance(bench.subscribe(A, start)[0], Welcome)


def test_a_reader_that_retention_overtakes_is_told_and_others_go_on() -> None:
    log = live(8, "drop-oldest", stripes=10)
    bench = Bench(log)
    for peer in (A, B):
        bench.subscribe(peer)
    assert spans(bench.credit(B, {0: 4, 1: 4})) == [(0, 0, 4), (1, 0, 4)]
    log.append_columns({"id": np.arange(8, 44)})
    assert log.log_start() == {0: 4, 1: 0}
    said = refusal(bench.credit(A, {0: 4, 1: 4}))
    assert (said.code, said.partition, said.first, said.end) == ("expired", 0, 0, 4)
    assert said.log_start == log.log_start()
    assert len(bench.service.sessions) == 1
    assert spans(bench.credit(B, {0: 8, 1: 4})) == [(0, 4, 4)]


# --- groups -------------------------------------------------------------------------------------------------------


def test_what_a_group_has_trained_is_forgotten_and_after_a_checkpoint_only_what_it_commits() -> None:
    log = live(40)
    bench = Bench(log)
    bench.subscribe(A, group="run")
    bench.credit(A, {0: 100, 1: 100})
    bench.credit(A, {}, {0: 8, 1: 4})
    assert log.log_start() == {0: 8, 1: 4}
    bench.credit(A, {}, {0: 20, 1: 16}, durable=True)
    assert log.log_start() == {0: 8, 1: 4}
    assert bench.commit(A, {0: 12, 1: 8}) == [Committed(request=9, group="run")]
    assert log.log_start() == {0: 12, 1: 8}


def test_the_log_forgets_only_what_every_group_has_released() -> None:
    log = live(40)
    bench = Bench(log)
    bench.subscribe(A, group="one")
    bench.subscribe(B, group="two")
    for peer, trained in ((A, {0: 20, 1: 20}), (B, {0: 4, 1: 0})):
        bench.credit(peer, {0: 100, 1: 100})
        bench.credit(peer, {}, trained)
    assert log.log_start() == {0: 4, 1: 0}
    assert bench.say(B, Drop(request=5, group="two")) == [Dropped(request=5, group="two", known=True)]
    assert log.log_start() == {0: 20, 1: 20}
    assert bench.say(B, Drop(request=6, group="two")) == [Dropped(request=6, group="two", known=False)]


def test_a_reader_without_a_group_holds_nothing_and_releases_nothing() -> None:
    log = live(40)
    bench = Bench(log)
    bench.subscribe(A)
    bench.credit(A, {0: 100, 1: 100})
    bench.credit(A, {}, {0: 20, 1: 20})
    assert log.log_start() == {0: 0, 1: 0}
    assert bench.service.group_states(0.0) == ()


def test_nobody_releases_what_was_never_sent() -> None:
    log = live(40)
    bench = Bench(log)
    bench.subscribe(A, group="run")
    bench.credit(A, {0: 4, 1: 4}, {0: 1 << 40, 1: 1 << 40})
    assert bench.service.groups.floor() == {0: 0, 1: 0}
    bench.credit(A, {0: 4, 1: 4}, {0: 1 << 40, 1: 1 << 40})
    assert bench.service.groups.floor() == {0: 4, 1: 4}


def test_reading_a_split_moves_no_group_of_the_stream() -> None:
    log = live(40)
    bench = Bench(log, {"test": split_log(numbered(30), stripe=4)})
    bench.subscribe(A, group="run")
    bench.subscribe(B, {0: 0}, split="test", group="run")
    bench.credit(B, {0: 30})
    bench.credit(B, {0: 30}, {0: 30}, durable=True)
    assert bench.service.groups.floor() == {0: 0, 1: 0}
    assert not bench.service.group_states(0.0)[0].durable


def test_a_restarted_server_learns_from_the_subscription_what_was_trained_and_committed() -> None:
    bench = Bench(stream())
    bench.subscribe(A, {0: 20, 1: 20}, group="run", trained={0: 10, 1: 9})
    assert bench.service.groups.floor() == {0: 10, 1: 9}
    bench.subscribe(A, {0: 20, 1: 20}, group="run", durable=True, committed={0: 12, 1: 12}, session=2)
    assert bench.service.groups.floor() == {0: 12, 1: 12}


def test_a_group_outlives_its_readers_and_expires_only_if_it_never_saved() -> None:
    bench = Bench(live(40), group_time_to_live_s=600.0)
    bench.subscribe(A, group="saves", durable=True)
    bench.subscribe(B, group="never saves")
    for peer in (A, B):
        bench.say(peer, Bye(session=1))
    bench.wait(601.0)
    assert bench.service.advance(bench.now_s) == ["never saves"]
    assert [state.name for state in bench.service.group_states(bench.now_s)] == ["saves"]


def test_an_expired_group_holds_the_log_no_longer() -> None:
    log = live(40)
    bench = Bench(log)
    bench.subscribe(A, group="alive")
    bench.subscribe(B, group="silent")
    for _ in range(7):
        bench.wait(100.0)
        bench.subscribe(A, {0: 8, 1: 8}, group="alive")
    assert log.log_start() == {0: 8, 1: 8}


def test_people_learn_how_many_readers_a_group_has() -> None:
    bench = Bench(stream())
    bench.subscribe(A, {0: 0}, group="run")
    bench.subscribe(B, {1: 0}, group="run")
    (state,) = bench.service.group_states(0.0)
    assert (state.readers, state.name) == (2, "run")


def test_what_is_not_taken_is_counted() -> None:
    log = live(40)
    bench = Bench(log)
    assert bench.service.untaken() == 40
    bench.subscribe(A, {0: 8, 1: 8}, group="run")
    assert bench.service.untaken() == 24
    bench.commit(A, {0: 20, 1: 20})
    assert bench.service.untaken() == 0


def test_what_a_full_log_has_forgotten_is_not_waited_for() -> None:
    log = live(16, "drop-oldest", stripes=10)
    bench = Bench(log)
    bench.subscribe(A, group="run")
    log.append_columns({"id": np.arange(100)})
    assert log.log_start() != {0: 0, 1: 0}
    assert bench.service.untaken() == sum(log.log_end().values()) - sum(log.log_start().values())


@pytest.mark.parametrize(("count", "asks"), [(8, False), (40, True)])
def test_a_log_that_is_nearly_full_asks_for_an_early_checkpoint(count: int, asks: bool) -> None:  # noqa: FBT001
    bench = Bench(live(count, stripes=11))
    _, status = bench.subscribe(A, group="run")
    assert isinstance(status, Status)
    assert status.save_soon is asks


# --- questions ----------------------------------------------------------------------------------------------------


def test_a_description_tells_all_there_is() -> None:
    bench = Bench(stream(), {"test": split_log(numbered(5), stripe=4)})
    bench.subscribe(A, group="run")
    bench.subscribe(A, split="sound", session=2)
    bench.wait(5.0)
    (said,) = bench.say(B, Describe(request=3, split=""))
    assert isinstance(said, Description)
    assert (said.info, said.request, said.uptime_s, said.refused, said.ended) == (bench.info, 3, 5.0, 1, True)
    assert (said.log_start, said.log_end) == ({0: 0, 1: 0}, {0: 32, 1: 32})
    assert [(group.name, group.readers) for group in said.groups] == [("run", 1)]
    (said,) = bench.say(B, Describe(request=4, split="test"))
    assert isinstance(said, Description)
    assert (said.log_end, said.ended) == ({0: 5}, True)


def test_losses_are_told_as_the_log_tells_them() -> None:
    log = live(100, "drop-oldest", stripes=10)
    with pytest.raises(RecordsLost) as lost:
        log.read(0, 0, 4)
    said = refusal(Bench(log).subscribe(A, {0: 0}))
    assert (said.text, said.end) == (str(lost.value), lost.value.end)
