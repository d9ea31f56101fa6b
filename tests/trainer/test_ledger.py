"""The ledger balances, and a record that is missing in any of its rooms is noticed."""

from typing import Any

import pytest

from protocol.errors import LedgerUnbalanced
from trainer.ledger import FATES, Fate, Ledger

START = {0: 10, 1: 20}
COUNTS: dict[Fate, int] = {
    "trained": 40,
    "held_out": 5,
    "thinned": 6,
    "skipped": 4,
    "rejected": 3,
    "lost": 2,
    "absent": 8,
}
CAME = sum(COUNTS.values()) - COUNTS["lost"] - COUNTS["absent"]
BUFFERED, UNMARKED = 7, 6


def ledger_of(**missing: int) -> Ledger:
    """Partition 1 has met every fate; one record too few where that is asked for."""
    ledger = Ledger(START)
    ledger.receive(1, CAME + BUFFERED + UNMARKED - missing.get("received", 0))
    for fate, count in COUNTS.items():
        ledger.count(fate, 1, count - missing.get(fate, 0))
    return ledger


def check(ledger: Ledger, **missing: int) -> None:
    ledger.check(
        {0: 10, 1: 20 + sum(COUNTS.values()) - missing.get("position", 0)},
        {0: 0, 1: BUFFERED - missing.get("buffered", 0)},
        {1: UNMARKED - missing.get("unmarked", 0)},
    )


def test_it_balances() -> None:
    check(ledger_of())


@pytest.mark.parametrize("term", [*FATES, "received"])
def test_a_record_that_was_counted_too_few_is_noticed(term: str) -> None:
    assert term == "received" or term in COUNTS
    with pytest.raises(LedgerUnbalanced, match="partition 1: "):
        check(ledger_of(**{term: 1}))


@pytest.mark.parametrize("term", ["position", "buffered", "unmarked"])
def test_a_record_that_is_missing_where_it_is_compared_is_noticed(term: str) -> None:
    with pytest.raises(LedgerUnbalanced, match="partition 1: "):
        check(ledger_of(), **{term: 1})


def test_a_record_that_was_counted_twice_is_noticed() -> None:
    ledger = ledger_of()
    ledger.count("trained", 0, 1)
    with pytest.raises(LedgerUnbalanced, match=r"partition 0: 0 records have passed, but .*'trained': 1"):
        check(ledger)


def test_what_is_consumed_is_compared_with_what_was_received() -> None:
    ledger = ledger_of()
    ledger._consumed[1] -= 1
    with pytest.raises(LedgerUnbalanced, match="partition 1: 71 records were received"):
        check(ledger)


def test_the_fates_go_on_over_lives_and_what_was_received_begins_anew() -> None:
    before = ledger_of()
    state: dict[str, Any] = before.state_dict()
    after = Ledger.from_state(state)
    assert after.start == START
    assert after.totals() == before.totals() == COUNTS
    positions = {0: 10, 1: 20 + sum(COUNTS.values())}
    after.check(positions, {}, {})
    after.receive(0, 3)
    after.count("trained", 0, 3)
    after.check({**positions, 0: 13}, {}, {})
    assert before.totals() == COUNTS


def test_what_is_thrown_away_to_be_read_again_was_not_received() -> None:
    ledger = Ledger({0: 0})
    ledger.receive(0, 8)
    ledger.receive(0, -8)
    ledger.check({0: 0}, {}, {})
