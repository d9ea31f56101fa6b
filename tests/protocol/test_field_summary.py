"""What `peek` says of the records that it shows together."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from protocol.chunk import Chunk, Ragged
from protocol.field_summary import BAR_WIDTH, bar, class_counts, summary
from protocol.schema import Field, Schema
from tests.protocol.drawn_columns import chunks

LABELLED = Schema((Field("label", "int16"),), label="label", class_names=("shoe", "[bold]coat"))


def chunk(**columns: Any) -> Chunk:
    return Chunk(0, 0, columns, 0, 0)


def shown(schema: Schema, *parts: Chunk) -> list[list[str]]:
    console = Console(width=200, markup=False, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(summary(schema, parts))
    return [re.split(r" {2,}", line.strip()) for line in captured.get().splitlines() if line.strip()]


def test_each_field_has_its_range_its_mean_its_share_of_nan_and_its_lengths() -> None:
    schema = Schema((Field("id", "int64"), Field("x", "float32", (2,)), Field("text", "uint8", (None,))))
    parts = (
        chunk(
            id=np.array([1000, 2]),
            x=np.array([[1.0, np.nan], [-3.0, 2.0]], np.float32),
            text=Ragged(np.array([1, 0], np.uint32), np.frombuffer(b"a", np.uint8)),
        ),
        chunk(
            id=np.array([3]),
            x=np.array([[0.0, np.nan]], np.float32),
            text=Ragged(np.array([3], np.uint32), np.frombuffer(b"abc", np.uint8)),
        ),
    )
    head, _, *rows = shown(schema, *parts)
    assert head == ["field", "least", "mean", "greatest", "NaN", "length"]
    assert rows[:2] == [["id", "2", "335", "1,000"], ["x", "-3", "0", "2", "33.3%"]]
    assert rows[2][-1] == "0 … 3"


def test_what_no_field_has_is_no_column() -> None:
    assert shown(LABELLED, chunk(label=np.array([1], np.int16)))[0] == ["field", "least", "mean", "greatest"]


def test_a_histogram_counts_each_class_by_its_name_the_most_frequent_first() -> None:
    parts = [chunk(label=np.array(each, np.int16)) for each in ([1, 1, 0], [1, 7])]
    assert class_counts(LABELLED, parts) == {1: 3, 0: 1, 7: 1}
    full = "█" * BAR_WIDTH
    third = bar(1 / 3)
    assert shown(LABELLED, *parts)[-3:] == [["1 [bold]coat", full, "3"], ["0 shoe", third, "1"], ["7", third, "1"]]


def test_many_classes_are_cut_with_their_number() -> None:
    assert shown(LABELLED, chunk(label=np.arange(1000, dtype=np.int16)))[-1] == ["and 980 more classes"]


@given(st.floats(0, 1))
def test_a_bar_is_as_long_as_its_share_to_an_eighth(share: float) -> None:
    eighths = "▏▎▍▌▋▊▉"
    long = sum(8 if each == "█" else 1 + eighths.index(each) for each in bar(share))
    assert abs(long - max(1, share * BAR_WIDTH * 8)) <= 0.5


@settings(max_examples=25)
@given(chunks())
@pytest.mark.filterwarnings("error")
def test_any_records_can_be_summed_up(drawn: tuple[Schema, Chunk]) -> None:
    schema, some = drawn
    assert len(shown(schema, some)) >= 2 + len(schema.fields)
