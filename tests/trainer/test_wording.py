from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.change import Change
from protocol.dealing import Dealing
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from trainer.stages import STAGES
from trainer.wording import (
    BLOCKS,
    DOING,
    age,
    busiest,
    describe,
    ledger_terms,
    metric_names,
    one_line,
    sparkline,
    time_went,
)


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [
        (0.04, "0.0 ms"),
        (1.24, "1.2 ms"),
        (340.2, "340 ms"),
        (-2.5, "-2.5 ms"),
        (12_000, "12 s"),
        (-3_500, "-3.5 s"),
        (600_000, "10 min"),
        (11_160_000, "3.1 h"),
        (432_000_000, "5.0 d"),
        (86_400_000 * 12_000, "12,000 d"),
    ],
)
def test_an_age_is_said_in_the_unit_that_suits_it(milliseconds: float, said: str) -> None:
    assert age(milliseconds) == said


def test_a_stream_is_described_by_classes_sizes_and_splits() -> None:
    info = StreamInfo(
        incarnation="x",
        schema=Schema((Field("label", "int64"),), label="label", class_names=("a", "b")),
        dealing=Dealing(8, 1024),
        splits={"validation": 5000, "test": 10_000},
        records_per_pass=55_000,
        source="FashionMNIST",
    )
    assert describe(info) == "FashionMNIST, 2 classes, 55,000 a pass, validation 5,000, test 10,000"


def test_a_stream_that_drifts_says_how_many_changes_it_has() -> None:
    info = StreamInfo(
        incarnation="x",
        schema=Schema((Field("x", "int64"),)),
        dealing=Dealing(1, 1),
        changes=(Change(what="dusk", at=5), Change(what="rain", at=9)),
        source="Camera",
    )
    assert describe(info) == "Camera, 2 changes"
    assert describe(replace(info, changes=info.changes[:1])) == "Camera, 1 change"


def test_a_bare_stream_is_described_too() -> None:
    info = StreamInfo(incarnation="x", schema=Schema((Field("x", "int64"),)), dealing=Dealing(1, 1))
    assert describe(info) == "a stream"


@given(st.text())
def test_text_from_anywhere_becomes_one_printable_line(text: str) -> None:
    line = one_line(text + "x" * 400 + text)
    assert line.isprintable()
    assert len(line) <= 500


def test_an_escape_sequence_from_a_producer_does_not_reach_the_terminal() -> None:
    assert one_line("a\x1b[2Jb\nc") == "a [2Jb c"


def test_metrics_come_with_loss_and_accuracy_first_and_without_the_count() -> None:
    assert metric_names({"count": 1, "top5": 1, "accuracy": 1}, {"loss": 1, "f1": 1}) == [
        "loss",
        "accuracy",
        "top5",
        "f1",
    ]


def test_what_is_usually_zero_in_the_ledger_is_said_only_where_it_is_not() -> None:
    ledger = {"received": 0, "trained": 5, "held_out": 2, "skipped": 0, "lost": 0, "buffered": 0}
    assert ledger_terms(ledger) == [("received", 0), ("trained", 5), ("held out", 2), ("buffered", 0)]


def test_a_sparkline_falls_with_the_loss_by_factors() -> None:
    points = [(samples, 0.5**samples) for samples in range(8)]
    assert sparkline(points, 8, (0, 8), (0.5**7, 1.0)) == BLOCKS[::-1]


def test_a_sparkline_leaves_room_for_what_was_not_measured_yet_and_repeats_what_was() -> None:
    assert sparkline([(4, 1.0), (7, 3.0)], 8, (0, 8), (1.0, 3.0)) == "    ▁▁▁█"


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(-5, 5)), min_size=1), st.integers(1, 60))
def test_a_sparkline_is_as_wide_as_asked(points: list[tuple[int, float]], width: int) -> None:
    values = [value for _, value in points]
    assert len(sparkline(points, width, (0, 100), (min(values), max(values)))) == width


def test_what_took_most_of_the_time_is_said_in_words() -> None:
    assert busiest({"step": 0.3, "source": 0.615, "loader": 0.085}) == "waiting for the stream 62 %"
    assert set(DOING) == set(STAGES)


def test_where_the_time_went_is_said_the_largest_first_and_without_crumbs() -> None:
    shares = {"source": 0.2, "wire": 0.0, "loader": 0.004, "step": 0.706, "copy": 0.09}
    assert time_went(shares) == "time went to: step 71 %, source 20 %, copy 9 %"
