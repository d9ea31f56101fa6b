from protocol.subscription import Waited
from protocol.waits import Waits


def said(waits: Waits, now_s: float, *, source_s: float, heard: bool = True, alone: bool = False) -> Waited:
    waited = waits.take(now_s, source_s=source_s, heard=heard, alone=alone)
    assert waited is not None
    return waited


def test_what_the_server_did_not_wait_for_is_the_wires() -> None:
    waits = Waits(10.0)
    waits.add(polled_s=0.5, worked_s=0.25)
    waits.add(polled_s=0.25, worked_s=0.0)
    assert said(waits, 11.0, source_s=0.5) == Waited(source_s=0.5, wire_s=0.25, reader_s=0.25)
    waits.add(polled_s=1.0, worked_s=0.0)
    assert said(waits, 12.0, source_s=0.5) == Waited(source_s=0.0, wire_s=1.0, reader_s=0.0)


def test_a_reader_waits_for_the_source_no_longer_than_it_waits() -> None:
    waits = Waits(0.0)
    waits.add(polled_s=0.25, worked_s=0.75)
    assert said(waits, 1.0, source_s=1.0) == Waited(source_s=0.25, wire_s=0.0, reader_s=0.75)


def test_it_is_said_once_a_second() -> None:
    waits = Waits(0.0)
    waits.add(polled_s=0.5, worked_s=0.0)
    assert waits.take(0.9, source_s=0.0, heard=True, alone=False) is None
    assert said(waits, 1.0, source_s=0.0).wire_s == 0.5
    assert waits.take(1.9, source_s=0.0, heard=True, alone=False) is None


def test_a_message_that_is_long_under_way_tells_when_it_has_come() -> None:
    waits = Waits(0.0)
    waits.add(polled_s=3.0, worked_s=0.0)
    assert waits.take(3.0, source_s=0.0, heard=False, alone=False) is None
    waits.add(polled_s=1.0, worked_s=0.0)
    assert said(waits, 4.0, source_s=3.5) == Waited(source_s=3.5, wire_s=0.5, reader_s=0.0)


def test_while_the_server_does_not_answer_the_producer_is_waited_for() -> None:
    waits = Waits(0.0)
    waits.add(polled_s=5.0, worked_s=0.0)
    assert said(waits, 5.0, source_s=0.0, heard=False, alone=True) == Waited(source_s=5.0, wire_s=0.0, reader_s=0.0)
