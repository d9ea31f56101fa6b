"""What a mixed run holds out, over kills of the trainer and of a producer: as if nothing had ever died."""

from pathlib import Path

import pytest
import torch

from tests.trainer.lives import Nursery, end
from tests.trainer.mixed_run import PictureRun
from trainer.checkpoint_files import State
from trainer.held_out_before import held_out_of
from trainer.jsonl_sink import read_lines
from trainer.opening import HELD_OUT

MOST = 40
OPTIONS = ("--holdout", "0.1", "--holdout_records", str(MOST), "--validate_every", "400")


def held_out(run: PictureRun, state: State) -> list[dict[str, torch.Tensor]]:
    """The records of each stream, as the run's next life would show them."""
    kept = (held_out_of(run.run_dir / HELD_OUT, each, MOST) for each in state["stream"]["streams"])
    return [each.dataset().__getitems__(range(MOST)).columns for each in kept if each is not None]


def validations(run: PictureRun) -> list[list[dict[str, float]]]:
    """What each validation found: on the splits, on all that is held out, on what is held out of either stream."""
    names = ("held_out", *(f"held_out {url}" for url in run.url.split(",")))
    lines = (line for line in read_lines(run.run_dir / "metrics.jsonl") if line["kind"] == "validation")
    return [[line["metrics"], *(line["others"].pop(name) for name in names), line["others"]] for line in lines]


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_killed_run_holds_out_and_finds_what_one_does_that_was_never_killed(
    tmp_path: Path, nursery: Nursery, seed: int
) -> None:
    states, sets, found = [], [], []
    for kills in (0, 3):
        (folder := tmp_path / str(kills)).mkdir()
        with PictureRun(folder, nursery, seed) as run:
            for kill in range(kills):
                life = run.train(*OPTIONS)
                run.wait_for_steps(life, run.drawn.randint(3, 9))
                if kill == 1:
                    run.kill_other()
                end(life)
            states.append(run.finish_run(*OPTIONS))
            sets.append(held_out(run, states[-1]))
            found.append(validations(run))
    for name, weights in states[0]["model"].items():
        assert torch.equal(weights, states[1]["model"][name]), name
    for whole, killed in zip(*sets, strict=True):
        assert whole.keys() == killed.keys()
        assert all(torch.equal(column, killed[name]) for name, column in whole.items())
    assert found[0] == found[1]
    for _, together, one, other, rest in found[0]:
        assert together["count"] == one["count"] + other["count"]
        mean = (one["count"] * one["loss"] + other["count"] * other["loss"]) / together["count"]
        assert together["loss"] == pytest.approx(mean)
        assert rest == {}
