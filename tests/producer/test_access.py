"""What a client may do with each right, message by message; and that reading never touches what others hold."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.messages import (
    Bye,
    Commit,
    Committed,
    Credit,
    Describe,
    Description,
    Drop,
    Dropped,
    Reply,
    Request,
    Subscribe,
    Welcome,
)
from protocol.security import EVERYTHING, NOTHING, Right
from tests.producer.bench import A, B, Bench, live, refusal, spans, stream
from tests.protocol.drawn_messages import requests

RIGHTS = {"trainer": EVERYTHING, "viewer": Right.READ, "keeper": Right.COMMIT, "nobody": NOTHING}


class Guarded(Bench):
    """Peer A is whoever `user` names."""

    user = "trainer"

    def say(self, peer: bytes, request: Request) -> list[Reply]:
        self.service.rights_of = lambda user: RIGHTS[user]
        self.service.receive(peer, request, self.now_s, self.user if peer == A else "trainer")
        return self.heard(peer)


def as_user(user: str, count: int = 64) -> Guarded:
    bench = Guarded(live(count))
    bench.user = user
    return bench


def answers(bench: Guarded) -> dict[str, type[Reply] | str]:
    """To each thing that can be asked for: the kind of the answer, or the code of the refusal."""
    asked: dict[str, Callable[[], list[Reply]]] = {
        "describe": lambda: bench.say(A, Describe(request=1, split="")),
        "commit": lambda: bench.commit(A, {0: 0}),
        "drop": lambda: bench.say(A, Drop(request=1, group="run")),
        "subscribe": lambda: bench.subscribe(A),
        "subscribe as a group": lambda: bench.subscribe(A, group="run", session=2),
    }
    found: dict[str, type[Reply] | str] = {}
    for name, ask in asked.items():
        first = ask()[0]
        found[name] = getattr(first, "code", type(first))
    return found


@pytest.mark.parametrize(
    ("user", "reads", "commits", "reads_as_a_group"),
    [
        ("trainer", True, True, True),
        ("viewer", True, False, False),
        ("keeper", False, True, False),
        ("nobody",) + 3 * (False,),
    ],
)
def test_each_right_allows_what_it_says(user: str, reads: bool, commits: bool, reads_as_a_group: bool) -> None:  # noqa: FBT001
    assert answers(as_user(user)) == {
        "describe": Description if reads else "denied",
        "commit": Committed if commits else "denied",
        "drop": Dropped if commits else "denied",
        "subscribe": Welcome if reads else "denied",
        "subscribe as a group": Welcome if reads_as_a_group else "denied",
    }


def test_a_refusal_names_the_right_that_is_missing_and_the_message_that_it_answers() -> None:
    said = refusal(as_user("viewer").commit(A, {0: 0}, request=77))
    assert (said.code, said.request) == ("denied", 77)
    assert said.text.startswith("commit needs the right to commit")
    assert "the right to read and commit" in refusal(as_user("nobody").subscribe(A, group="run")).text


def test_a_group_in_a_split_means_nothing_so_reading_is_enough() -> None:
    bench = Guarded(stream(), splits={"test": stream()})
    bench.user = "viewer"
    assert isinstance(bench.subscribe(A, split="test", group="run")[0], Welcome)
    assert len(bench.service.groups) == 0


@given(st.lists(requests, max_size=10))
@settings(max_examples=30)
def test_whatever_a_client_says_that_may_only_read_nothing_is_held_and_nothing_released(said: list[Request]) -> None:
    bench = as_user("viewer")
    bench.subscribe(B, group="run")
    bench.credit(B, {0: 32, 1: 32}, {0: 8, 1: 4})
    before = bench.service.group_states(0.0), bench.service.stream.log_start()
    for request in said:
        bench.say(A, _aimed(request, bench.info.incarnation))
        bench.say(A, Credit(session=1, until={}, trained={0: 32, 1: 32}, durable=True))
    assert (bench.service.group_states(0.0), bench.service.stream.log_start()) == before


def _aimed(request: Request, incarnation: str) -> Request:
    """At the run that another client trains."""
    match request:
        case Drop():
            return replace(request, group="run")
        case Commit():
            return replace(request, group="run", incarnation=incarnation, positions={0: 32, 1: 32})
        case Subscribe():
            positions = {0: 32, 1: 32}
            return replace(
                request, split="", group="run", incarnation=None, positions=positions, trained={}, committed=positions
            )
    return request


def test_a_session_ends_with_the_right_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = as_user("trainer")
    bench.subscribe(A, group="run")
    bench.subscribe(B)
    assert bench.service.end_denied() == []
    monkeypatch.setitem(RIGHTS, "trainer", Right.READ)
    assert bench.service.end_denied() == ["trainer"], "B reads without a group"
    assert refusal(bench.heard(A)).code == "denied"
    assert refusal(bench.credit(A, {0: 8, 1: 8})).code == "no_session"
    assert spans(bench.credit(B, {0: 4, 1: 4})) == [(0, 0, 4), (1, 0, 4)]


def test_whoever_takes_leave_needs_no_right() -> None:
    assert as_user("nobody").say(A, Bye(session=1)) == []


def test_without_keys_everybody_may_do_everything() -> None:
    bench = Bench(live(64))
    assert isinstance(bench.subscribe(A, group="run")[0], Welcome)
    assert isinstance(bench.commit(A, {0: 0})[0], Committed)
