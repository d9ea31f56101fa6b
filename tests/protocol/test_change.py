"""A change of a stream: when it is, and how that is told."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.change import Change, in_words
from protocol.dealing import Dealing
from protocol.errors import PeerError
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from protocol.values import MAX_NUMBER
from tests.protocol.drawn_messages import changes

INFO = StreamInfo(incarnation="i", schema=Schema((Field("x", "int8"),)), dealing=Dealing(2, 4))


def shares(change: Change, end: int) -> list[float]:
    """What each record is changed by, told one at a time by the words of the specification."""
    found = []
    for record in range(end):
        since = record - change.at
        if change.every and since >= 0:
            since %= change.every
        if since < 0 or (change.until is not None and since >= change.until - change.at):
            found.append(0.0)
            continue
        step = max(1, change.over // 100)
        found.append((since // step * step + 1) / (change.over + 1) if since < change.over else 1.0)
    return found


@given(changes, st.integers(0, 50))
def test_the_share_of_changed_records_is_what_is_told(change: Change, first: int) -> None:
    told = shares(change, 700)
    assert change.share(np.arange(first, 700)).tolist() == told[first:]


@given(changes, st.integers(0, 600))
def test_the_share_is_steady_up_to_the_record_that_is_named(change: Change, record: int) -> None:
    told, end = shares(change, 2000), change.steady(record)
    assert end > record
    assert len(set(told[record:end])) == 1
    if change.settled is not None:
        assert len(set(told[change.settled :])) <= 1


@given(changes, st.integers(0, 600), st.integers(0, 600))
def test_a_change_is_told_where_it_begins_and_where_it_ends(change: Change, first: int, records: int) -> None:
    present = [share > 0 for share in shares(change, 1300)]
    turned = [n for n in range(first, first + records) if present[n] != (n > 0 and present[n - 1])]
    told = dict(change.turns(first, first + records))
    for begins in (True, False):
        last = [n for n in turned if present[n] is begins][-1:]
        known = [n for n, words in told.items() if ("begins" in words) is begins]
        without_a_break = change.until is not None and change.every == change.until - change.at
        assert without_a_break or known == last, "of one that comes again, the last time"


def test_one_that_comes_with_every_record_is_told_twice_in_any_range() -> None:
    change = Change(what="x", at=0, until=1, every=1)
    assert len(list(change.turns(0, MAX_NUMBER))) == 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"what": ""}, "1 to 4096 characters"),
        ({"at": -1}, "from 0 to 2.63 - 1"),
        ({"at": MAX_NUMBER + 1}, "from 0 to 2.63 - 1"),
        ({"at": 5, "until": 5}, "end .until 5. before it has begun"),
        ({"until": 9, "over": 10}, "end after 9 records, before it has come whole"),
        ({"until": 9, "every": 8}, "come again .every 8. before it has ended, 9 records later"),
        ({"every": 8}, "give until as well"),
    ],
)
def test_what_cannot_be_is_refused_on_both_sides_of_the_wire(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Change(**{"what": "x", "at": 0, **wrong})
    told = Change(what="x", at=0).to_wire() | wrong
    with pytest.raises(PeerError):
        StreamInfo.from_wire(INFO.to_wire() | {"changes": [told]})


def test_a_stream_of_which_nothing_is_told_has_no_changes() -> None:
    wire = INFO.to_wire()
    assert "changes" not in wire
    assert StreamInfo.from_wire(wire).changes == ()


@pytest.mark.parametrize("wrong", [3, [3], [{}], [Change(what="x", at=0).to_wire()] * 65])
def test_what_is_no_list_of_changes_is_refused(wrong: Any) -> None:
    with pytest.raises(PeerError):
        StreamInfo.from_wire(INFO.to_wire() | {"changes": wrong})


def test_people_read_from_when_to_when() -> None:
    assert in_words(Change(what="x", at=20_000)) == "from 20,000"
    change = Change(what="x", at=20_000, until=30_000, over=5000, every=40_000)
    assert in_words(change) == "from 20,000 to 29,999, gradually over 5,000, again every 40,000"
