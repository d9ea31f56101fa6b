"""Whatever dies in between, every record is trained exactly once."""

import signal
from pathlib import Path

import pytest

from tests.trainer.counted_run import MOMENTS, CountedRun, Scale
from tests.trainer.lives import Nursery, end, tail


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("rounds", "passes"), [(1, 3), pytest.param(4, 5, marks=pytest.mark.faults)])
def test_every_record_is_trained_once_a_pass_over_kills_at_every_moment(
    tmp_path: Path, nursery: Nursery, seed: int, rounds: int, passes: int
) -> None:
    """A life that misses its moment is killed as well, and tried again."""
    lives = rounds * list(MOMENTS)
    with CountedRun(tmp_path, nursery, seed, passes=passes) as run:
        run.drawn.shuffle(lives)
        by_command_line = run.drawn.randrange(len(lives))
        alive = [at for at, moment in enumerate(lives) if moment in ("step", "anywhere")]
        with_producer = set(run.drawn.sample(alive, rounds))
        for at, moment in enumerate(lives):
            run.kill_trainer(moment, command_line=at == by_command_line, with_producer=at in with_producer)
        for moment in MOMENTS:
            while not run.killed[moment]:
                assert run.killed["missed"] < len(lives), run.killed
                run.kill_trainer(moment)
        _stop_by_signal(run)
        run.finish(command_line=rounds > 1)
        print(f"killed: {dict(run.killed)}")
        assert run.killed.total() - run.killed["producer"] >= len(lives)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("orders", "rounds", "log_bytes"),
    [
        (("arrival", "stream"), 0, None),
        pytest.param(("arrival", "arrival"), 3, None, marks=pytest.mark.faults),
        pytest.param(("arrival", "stream"), 3, None, marks=pytest.mark.faults),
        pytest.param(("arrival", "stream"), 2, 60 << 20, marks=pytest.mark.faults, id="live"),
    ],
)
def test_every_record_is_trained_once_in_order_of_arrival_and_where_lives_change_the_order(
    tmp_path: Path, nursery: Nursery, seed: int, orders: tuple[str, ...], rounds: int, log_bytes: int | None
) -> None:
    moments = MOMENTS if log_bytes is None else ("start", "step", "save", "anywhere")  # a live stream has no splits
    lives = rounds * list(moments) or ["step", "save"]
    scale = Scale(records=2500 * (len(lives) + 1), size=1 << 14)  # each life takes up to 2,400, and what it is late
    with CountedRun(
        tmp_path, nursery, seed, passes=1, workers=(0, 2, 3), scale=scale, orders=orders, log_bytes=log_bytes
    ) as run:
        run.drawn.shuffle(lives)
        for moment in lives:
            run.kill_trainer(moment, with_producer=rounds > 0 and log_bytes is None and run.drawn.random() < 0.2)
        run.finish()
        print(f"killed: {dict(run.killed)}")


def _stop_by_signal(run: CountedRun) -> None:
    """One life is asked to stop: it saves, and ends with 0."""
    life = run.train()
    run.wait_for_steps(life, 3)
    assert end(life, signal.SIGTERM) == 0, tail(life)
