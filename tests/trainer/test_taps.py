"""Several streams in one iteration."""

import threading

from tests.trainer.mixing import numbered
from tests.trainer.streams import computed, serving
from trainer.loader import StreamLoader
from trainer.taps import Taps


def test_in_arrival_order_streams_that_have_something_take_turns() -> None:
    bell = threading.Event()
    with serving(computed(numbered(300))) as one, serving(computed(numbered(100))) as other:
        taps = Taps([StreamLoader(url, batch_size=4) for url in (one, other)], bell)
        taps.open(0)
        taps.open(1)
        turns = []
        for _ in range(10):
            while taps.waited_for:
                bell.clear()
                taps.poll()
                assert not taps.waited_for or bell.wait(10)
            turns += [part.stream for part in taps.take(taps.next_turn())]
        taps.close()
    assert turns == [0, 1] * 5
