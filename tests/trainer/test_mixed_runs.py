"""Two producers and a trainer as processes: whatever dies, batches keep their shares and each record comes once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.trainer.lives import Nursery, end, tail, wait
from tests.trainer.mixed_run import CaptureRun, MixedRun, PictureRun
from trainer.audit import Account
from trainer.checkpoint_files import State, load_newest


@pytest.fixture
def run(tmp_path: Path, nursery: Nursery, seed: int) -> Iterator[MixedRun]:
    with MixedRun(tmp_path, nursery, seed) as run:
        yield run


@pytest.mark.slow
def test_over_a_kill_of_the_trainer_every_batch_has_its_shares_and_every_record_comes_once(run: MixedRun) -> None:
    run.kill_trainer(run.drawn.choice(["step", "save", "anywhere"]))
    run.finish()
    assert "records in a batch: 48 of" in run.said()


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_over_kills_of_the_trainer_and_of_both_producers_shares_and_records_hold(
    tmp_path: Path, nursery: Nursery, seed: int
) -> None:
    with MixedRun(tmp_path, nursery, seed, records=3000, workers=(0, 1, 2)) as run:
        lives = 8  # fewer than can come to the end
        for life in range(lives):
            run.kill_trainer(run.drawn.choice(["start", "step", "validation", "save", "anywhere"]))
            if life % 3 == 1:
                run.kill_other()
            if life % 3 == 2:
                run.kill_producer()
        run.finish()
        print(f"killed: {dict(run.killed)}")


@pytest.mark.faults
def test_a_producer_that_dies_and_returns_is_left_out_meanwhile_and_every_record_comes_once(
    tmp_path: Path, nursery: Nursery, seed: int
) -> None:
    with MixedRun(tmp_path, nursery, seed, records=1500, rate=500, exact=False) as run:
        life = run.train("--without_after", "1", "--workers", "0")
        run.wait_for_steps(life, 5)
        end(run.other)
        run.hear(life, f"the producer at {run.other_bound} is away: going on without it, in smaller batches")
        run.wait_for_steps(life, run.moment.steps + 5)
        run.other = run.produce_other()
        run.hear(life, f"the producer at {run.other_bound} is back: its records are in the batches again")
        assert wait(life) == 0, tail(life)
        assert {wait(run.producer), wait(run.other)} == {0}
        run.assert_each_counted_once()


@pytest.mark.faults
def test_a_producer_that_comes_late_is_taken_in_and_kept_over_a_kill(
    tmp_path: Path, nursery: Nursery, seed: int
) -> None:
    with MixedRun(tmp_path, nursery, seed, records=1500, rate=500, exact=False) as run:
        end(run.other)
        options = ("--without_after", "0.5", "--workers", "0")
        life = run.train(*options)
        run.hear(life, f"no producer at {run.other_bound} yet: going on without it until there is one")
        run.wait_for_steps(life, 5)
        run.other = run.produce_other()
        run.hear(life, f"the stream at {run.other_bound} is there")
        run.wait_for_steps(life, run.moment.steps + 3)
        end(life)
        life = run.train(*options)
        assert wait(life) == 0, tail(life)
        assert {wait(run.producer), wait(run.other)} == {0}
        run.assert_each_counted_once()


@pytest.mark.faults
def test_another_stream_that_comes_late_ends_the_run_saved_and_every_record_comes_once(
    tmp_path: Path, nursery: Nursery, seed: int
) -> None:
    with MixedRun(tmp_path, nursery, seed, records=1500, rate=500, exact=False) as run:
        begun = run.train("--workers", "0")
        run.wait_for_steps(begun, 10)  # both streams are in its checkpoint
        end(begun)
        end(run.other)
        before = _newest(run)["stream"]["batches"]
        life = run.train("--without_after", "0.5", "--workers", "0")
        run.hear(life, f"no producer at {run.other_bound} yet: going on without it until there is one")
        run.wait_for_steps(life, 5)
        run.other = run.produce_other(0, "--source.first", "0")
        assert wait(life) == 1
        assert "the producer serves another stream now: expected stream" in tail(life, 1)
        assert "Traceback" not in run.said()
        assert _newest(run)["stream"]["batches"] == before + run.moment.steps, "all that was trained is saved"
        end(run.other)
        run.other = run.produce_other()
        assert wait(run.train()) == 0, run.said()
        assert {wait(run.producer), wait(run.other)} == {0}
        run.assert_each_counted_once()


@pytest.mark.faults
def test_in_arrival_order_every_record_comes_once_over_kills(tmp_path: Path, nursery: Nursery, seed: int) -> None:
    with MixedRun(tmp_path, nursery, seed, records=1500, order="arrival") as run:
        for _ in range(5):
            run.kill_trainer(run.drawn.choice(["step", "save", "anywhere"]))
            run.drawn.choice([run.kill_other, run.kill_producer])()
        life = run.train()
        assert wait(life) == 0, tail(life)
        assert {wait(run.producer), wait(run.other)} == {0}
        run.assert_each_counted_once()


@pytest.mark.faults
def test_a_killed_and_resumed_run_ends_with_the_bits_of_one_that_was_never_killed(
    tmp_path: Path, nursery: Nursery, seed: int
) -> None:
    found = []
    for kills in (0, 3):
        folder = tmp_path / str(kills)
        folder.mkdir()
        with PictureRun(folder, nursery, seed) as run:
            for _ in range(kills):
                life = run.train()
                run.wait_for_steps(life, run.drawn.randint(2, 9))
                end(life)
            found.append(run.finish_run())
    for name, weights in found[0]["model"].items():
        assert torch.equal(weights, found[1]["model"][name]), name
    assert str(found[0]["optimizer"]) == str(found[1]["optimizer"])


@pytest.mark.faults
def test_a_producer_that_dies_with_its_log_is_followed_by_the_next_and_what_was_lost_is_counted(
    tmp_path: Path, nursery: Nursery, seed: int
) -> None:
    with CaptureRun(tmp_path, nursery, seed, records=3000, exact=False) as run:
        lives = 3
        for _ in range(lives):
            life = run.train("--on_loss", "continue")
            run.wait_for_steps(life, run.moment.steps + run.drawn.randint(5, 20))
            run.kill_other()
            run.wait_for_steps(life, run.moment.steps + run.drawn.randint(5, 20))
            end(life)
        end(run.other)
        run.other = run.produce_last(lives + 1)
        life = run.train("--on_loss", "continue")
        assert wait(life) == 0, tail(life)
        assert {wait(run.producer), wait(run.other)} == {0}
        state = _newest(run)
        account = Account(state)
        account.check()
        counts, ends = state["model"]["counts"], 3 * run.records
        assert counts.max() == 1
        assert counts[:ends].sum() == ends
        last = ends + (lives + 1) * run.LIFE
        assert counts[last : last + run.records].sum() == run.records
        assert account.totals["trained"] == counts.sum() == state["samples"]
        assert account.totals["lost"] > 0
        assert all(word not in run.said() for word in ("NOT BALANCED", "Traceback"))


def _newest(run: MixedRun) -> State:
    """The last checkpoint."""
    found = load_newest(run.run_dir, pytest.fail)
    assert found is not None
    return found[1]
