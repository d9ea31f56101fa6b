"""The study of a sweep over several lives: what it draws, takes in, prunes, and refuses."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="searched with the extra `sweep`")

from protocol.errors import UsageError
from trainer.space import Values, space_of
from trainer.study import FILE, Study, best_first
from trainer.sweep import SweepSettings
from trainer.trial import Validation

LR = {"optimizer.lr": {"low": 1e-4, "high": 0.1, "log": True}}
GRID = {"batch_size": {"choice": [4, 16]}, "optimizer.momentum": {"choice": [0.0, 0.9]}}
SHARED = {"optimizer": {"class_path": "SGD", "init_args": {"lr": 0.1}}}


def study(
    folder: Path, described: Mapping[str, Any] = LR, shared: Mapping[str, Any] = SHARED, **settings: Any
) -> Study:
    """A life of the study in a folder."""
    return Study(folder, space_of(described), shared, SweepSettings(**{"trials": 4, **settings}))


def validations(*losses: float) -> list[Validation]:
    return [Validation(1000 * number, {"loss": loss, "count": 10}) for number, loss in enumerate(losses, 1)]


def run_all(study: Study) -> list[Values]:
    """The values of each trial that is still to come, all of which end well."""
    found: list[Values] = []
    while (trial := study.next()) is not None:
        found.append(trial.params)
        study.report(trial, validations(trial.params.get("optimizer.lr", 1.0)))
        study.end(trial, "complete", 1000)
    return found


def test_a_grid_is_trained_point_by_point_over_all_lives(tmp_path: Path) -> None:
    first = study(tmp_path, GRID, sampler="grid", trials=0)
    assert first.size == 4
    trial = first.next()
    assert trial is not None
    first.end(trial, "failed", 0)
    interrupted = first.next()
    assert interrupted is not None
    second = study(tmp_path, GRID, sampler="grid", trials=0)
    values = [trial.params, *run_all(second)]
    assert values[1] == interrupted.params
    assert [tuple(each.values()) for each in values] == [(4, 0.0), (4, 0.9), (16, 0.0), (16, 0.9)]
    assert second.next() is None


def test_a_study_that_was_killed_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"trials": 5, "startup_trials": 2}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = run_all(study(tmp_path / "whole", **settings))
    killed = run_all(study(tmp_path / "killed", **{**settings, "trials": 3}))
    left = study(tmp_path / "killed", **settings).next()  # nothing more is heard of it
    assert left is not None
    assert [*killed, *run_all(study(tmp_path / "killed", **settings))] == whole
    assert len({each["optimizer.lr"] for each in whole}) == 5


def test_what_a_killed_life_has_reported_is_neither_lost_nor_reported_again(tmp_path: Path) -> None:
    first = study(tmp_path)
    trial = first.next()
    assert trial is not None
    first.report(trial, validations(0.5, 0.25))
    second = study(tmp_path)
    again = second.next()
    assert again is not None
    assert (again.number, again.params) == (trial.number, trial.params)
    second.report(again, validations(0.5))  # cut back to its checkpoint, it says less for a while
    second.report(again, validations(0.5, 0.25, 0.75))
    second.end(again, "complete", 3500)
    (outcome,) = second.outcomes()
    assert (outcome.loss, outcome.best_samples, outcome.samples) == (0.25, 2000, 3500)
    assert second.optuna.best_value == 0.25


def test_a_trial_that_was_never_better_than_the_median_is_pruned_once_enough_have_ended(tmp_path: Path) -> None:
    judged = study(tmp_path, startup_trials=2)
    verdicts = []
    for losses in ((0.9, 0.1), (0.8, 0.3), (0.7, 0.5), (0.95, 0.2)):
        trial = judged.next()
        assert trial is not None
        verdicts.append([judged.report(trial, validations(*losses[:count])) for count in (1, 2)])
        judged.end(trial, "pruned" if any(verdicts[-1]) else "complete", 2000)
    assert verdicts == [[False, False], [False, False], [False, True], [True, False]]
    assert [each.state for each in judged.outcomes()] == ["complete", "complete", "pruned", "pruned"]
    assert [each.number for each in best_first(judged.outcomes())] == [0, 1, 3, 2]


def test_without_a_pruner_nothing_is_pruned(tmp_path: Path) -> None:
    judged = study(tmp_path, startup_trials=0, pruner="none")
    for loss in (0.1, 0.9):
        trial = judged.next()
        assert trial is not None
        assert not judged.report(trial, validations(loss))
        judged.end(trial, "complete", 1000)


def test_a_study_of_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    study(tmp_path)
    study(tmp_path, trials=9, sampler="random", seed=3)  # these may differ
    others: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"optimizer.lr": {"low": 1e-3, "high": 0.1, "log": True}}, SHARED, "space: optimizer.lr"),
        ({**LR, "batch_size": {"choice": [4]}}, SHARED, "space: batch_size"),
        (LR, {**SHARED, "seed": 1}, "train: seed"),
    ]
    for described, shared, name in others:
        with pytest.raises(UsageError, match=rf"\({name}\): give these as they were, or another --sweep_dir"):
            study(tmp_path, described, shared)


def test_a_file_that_is_no_study_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(UsageError, match="cannot be read as a study: give another --sweep_dir"):
        study(tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"trials": 0}, "tpe never comes to an end: give --trials N, or --sampler grid"),
        ({"trials": -1}, "0 or more"),
        ({"trials": 1, "startup_trials": -1}, "0 or more"),
        ({"trials": 1, "parallel": 0}, "--parallel is at least 1"),
        ({"trials": 1, "seed": -1}, "--seed is from 0"),
    ],
)
def test_settings_that_make_no_sweep_are_usage_errors(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        SweepSettings(**settings)
