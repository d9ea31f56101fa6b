"""A log that is nearly full: a checkpoint first, then the older ones, and nothing twice that cannot help."""

from trainer.room import STILL_FULL_S, Room


def test_what_was_not_enough_costs_the_older_checkpoints_and_is_not_done_again() -> None:
    room = Room()
    assert room.make(10, 0.0) is False
    assert room.make(10, 1.0) is True, "asked again soon: it was not enough"
    assert room.make(10, 2.0) is None, "it waits for another group, or for more than was trained"
    assert room.make(11, 3.0) is True, "more was trained"


def test_a_log_that_fills_slowly_costs_no_older_checkpoint() -> None:
    room = Room()
    assert [room.make(batches, batches * (STILL_FULL_S + 1)) for batches in range(4)] == [False] * 4
