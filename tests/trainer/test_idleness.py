"""How a wait for records ends."""

import pytest

from protocol.errors import StreamTimeout, UsageError
from trainer.idleness import Idleness


def waiting(timeout_s: float | None, on_timeout: str = "raise") -> Idleness:
    idleness = Idleness("tcp://somewhere:1", timeout_s, on_timeout, None)
    idleness.begin()
    return idleness


def test_a_wait_without_a_limit_goes_on() -> None:
    idleness = waiting(None)
    idleness.go_on()
    assert not idleness.stopping


def test_a_wait_that_was_too_long_raises_or_ends_as_was_asked() -> None:
    with pytest.raises(StreamTimeout, match="no record came from tcp://somewhere:1 for -1 s"):
        waiting(-1.0).go_on()
    idleness = waiting(-1.0, "end")
    idleness.go_on()
    assert idleness.stopping


def test_a_record_begins_the_wait_anew() -> None:
    idleness = waiting(3600.0)
    idleness._waiting_since_s -= 3601.0
    idleness.received()
    idleness.go_on()


def test_whoever_is_told_is_told_once_a_second_and_not_each_time() -> None:
    told = []
    idleness = Idleness("tcp://somewhere:1", None, "raise", lambda: told.append(1))
    idleness.begin()
    for _ in range(3):
        idleness._said_s -= 1.0
        idleness.go_on()
        idleness.go_on()
    assert len(told) == 3


def test_another_word_for_what_to_do_is_refused() -> None:
    with pytest.raises(UsageError, match="'raise' or 'end'"):
        Idleness("tcp://somewhere:1", None, "stop", None)
