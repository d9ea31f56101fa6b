"""The shares of several streams in a batch, and what no mix can be made of."""

from dataclasses import fields
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import UsageError
from trainer.mix import MixSettings, said, shares, urls_in
from trainer.opening import check_mix
from trainer.settings import TrainSettings

ONE, OTHER = "tcp://127.0.0.1:1", "tcp://127.0.0.1:2"

weights = st.lists(st.fractions(min_value=Fraction(1, 9), max_value=9, max_denominator=9), min_size=1, max_size=6)


@settings(max_examples=50)
@given(st.integers(1, 4096), weights)
def test_shares_are_whole_add_up_to_the_batch_and_are_less_than_one_record_off(
    batch_size: int, weights: list[Fraction]
) -> None:
    urls = [f"tcp://h:{1 + number}" for number in range(len(weights))]
    exact = [batch_size * weight / sum(weights) for weight in weights]
    try:
        whole = shares(batch_size, weights, urls)
    except UsageError as error:
        assert min(exact) < 1
        least = int(str(error).partition("--batch_size ")[2].split()[0])
        assert min(shares(least, weights, urls)) >= 1  # what is told to be given is enough
        return
    assert sum(whole) == batch_size
    assert all(abs(share - wanted) < 1 for share, wanted in zip(whole, exact, strict=True))
    assert min(whole) >= 1


def test_what_is_said_of_a_mix() -> None:
    assert said(64, [Fraction(3), Fraction(1)], [ONE, OTHER]) == f"records in a batch: 48 of {ONE}, 16 of {OTHER}"
    assert said(4, [Fraction(1), Fraction(2)], [ONE, OTHER]).endswith("(the weights, to whole records)")


def test_a_comma_parts_urls_only_where_another_one_begins() -> None:
    assert urls_in(f"{ONE},{OTHER}") == [ONE, OTHER]
    assert urls_in(f"kafka://a:9092,b:9092/topic,{ONE}") == ["kafka://a:9092,b:9092/topic", ONE]
    assert urls_in("file://monday,tuesday") == ["file://monday,tuesday"]


def test_weights_are_equal_unless_they_are_given() -> None:
    assert MixSettings().weights_of(3) == [1, 1, 1]
    assert MixSettings(weights="3, 0.5").weights_of(2) == [3, Fraction(1, 2)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stream": f"{ONE},{OTHER}", "weights": "3"}, "--weights 3: give one number for each stream, 2 in all"),
        ({"weights": "3,1"}, "--weights 3,1: give one number for each stream, 1 in all"),
        ({"weights": "3,0"}, "--weights 3,0: give numbers above 0 with commas between them, such as 3,1"),
        ({"weights": "a,b"}, "--weights a,b: give numbers above 0"),
        ({"stream": f"{ONE},{ONE}"}, "names a stream twice: give each once"),
        ({"stream": f"{ONE},tcp://nowhere"}, "'tcp://nowhere' names no host and port"),
        ({"stream": f"{ONE},{OTHER}", "weights": "99,1", "batch_size": 10}, f"the stream at {OTHER} would have none"),
        ({"stream": f"{ONE},{OTHER}", "weights": "3,1", "order": "arrival"}, "leave one of them out"),
        ({"without_after": -1.0}, "--without_after is 0 or more seconds"),
        ({"on_away": "hope"}, "--on_away is one of go_on, wait, stop, not 'hope'"),
    ],
)
def test_what_cannot_be_mixed_is_refused(options: dict[str, Any], said: str) -> None:
    def of(kind: type[Any]) -> Any:
        return kind(**{each.name: options[each.name] for each in fields(kind) if each.name in options})

    with pytest.raises(UsageError, match=said):
        check_mix(of(TrainSettings), of(MixSettings))
