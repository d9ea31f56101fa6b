"""What a sweep's space may be, what is drawn from it, and what is said of mistakes."""

from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("optuna", reason="searched with the extra `sweep`")

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from protocol.errors import UsageError
from trainer.space import draw, grid, options, space_of, typed_bounds

LR = {"low": 1e-4, "high": 0.1, "log": True}


def test_choices_ranges_of_numbers_and_ranges_of_whole_numbers_are_told_apart() -> None:
    space = space_of({"model": {"choice": ["A", "B"]}, "optimizer.lr": LR, "batch_size": {"low": 16, "high": 64}})
    assert space == {
        "model": CategoricalDistribution(["A", "B"]),
        "optimizer.lr": FloatDistribution(1e-4, 0.1, log=True),
        "batch_size": IntDistribution(16, 64),
    }
    stepped = space_of({"a": {"low": 0, "high": 0.9, "step": 0.3}, "b": {"low": 16, "high": 64, "step": 16}})
    assert stepped == {"a": FloatDistribution(0, 0.9, step=0.3), "b": IntDistribution(16, 64, step=16)}


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({}, "nothing to search: give --space"),
        ({"a": 5}, "space: a: 5 says no values: give {choice: "),
        ({"a": {"low": 1, "high": 2, "lgo": True}}, "says no values"),
        ({"a": {"choice": [1], "low": 1}}, "says no values"),
        ({"a": {"choice": []}}, "space: a: there is nothing to choose from"),
        ({"a": {"choice": [[1, 2]]}}, "not a list"),
        ({"a": {"choice": [1, 2, 1]}}, "twice: give each once"),
        ({"a": {"low": "1", "high": 2}}, "low, high and step are numbers"),
        ({"a": {"low": 1, "high": float("inf")}}, "low, high and step are numbers"),
        ({"a": {"low": 1, "high": 2, "log": 1}}, "log is true or false"),
        ({"a": {"low": 2, "high": 2}}, "from 2 to 2 there is nothing: give a low under the high"),
        ({"a": {"low": 0, "high": 2, "log": True}}, "begins over 0"),
        ({"a": {"low": 1, "high": 3, "log": True, "step": 1}}, "has no step"),
        ({"a": {"low": 0, "high": 1, "step": 0.3}}, "no whole number of steps of 0.3"),
        ({"a": {"low": 0, "high": 1, "step": -0.5}}, "no whole number of steps"),
    ],
)
def test_a_space_that_is_none_is_a_usage_error_that_names_the_option(described: Mapping[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        space_of(described)


def test_a_grid_is_every_combination_in_the_order_in_which_it_is_written() -> None:
    space = space_of({"batch_size": {"choice": [64, 16]}, "m": {"low": 0, "high": 0.9, "step": 0.3}})
    found = [tuple(point.values()) for point in grid(space)]
    assert found == [(size, m) for size in (64, 16) for m in (0.0, 0.3, 0.6, 0.9)]
    assert grid(space_of({"w": {"low": 1, "high": 5, "step": 2}})) == [{"w": 1}, {"w": 3}, {"w": 5}]


@pytest.mark.parametrize(
    ("described", "said"),
    [({"optimizer.lr": LR}, "optimizer.lr: a grid needs a step"), ({"a": {"low": 1, "high": 20_000}}, "20,000 points")],
)
def test_a_grid_without_an_end_is_a_usage_error(described: Mapping[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        grid(space_of(described))


def test_what_is_drawn_is_of_the_space_and_is_kept() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = space_of({"optimizer.lr": LR, "w": {"low": 1, "high": 5, "step": 2}, "model": {"choice": ["A", "B"]}})
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask()
    values = dict(draw(trial, space))
    assert 1e-4 <= values["optimizer.lr"] <= 0.1
    assert values["w"] in (1, 3, 5)
    assert values["model"] in ("A", "B")
    assert draw(trial, space) == values


def test_values_are_typed_as_a_person_would() -> None:
    values = {"optimizer.lr": 1e-05, "nesterov": True, "model": "my.Net", "lr_scheduler": None}
    assert options(values) == ["--optimizer.lr=1e-05", "--nesterov=true", "--model=my.Net", "--lr_scheduler=null"]


def test_the_ends_of_a_range_and_all_choices_are_what_is_checked() -> None:
    space = space_of({"optimizer.lr": LR, "model": {"choice": ["A", "B"]}})
    assert [option for _, option in typed_bounds(space)] == [
        "--optimizer.lr=0.0001", "--optimizer.lr=0.1", "--model=A", "--model=B",
    ]  # fmt: skip
