"""A producer that is killed takes its memory log with it: what of it was not trained is in the ledger, and said."""

import random
import signal
import socket
from pathlib import Path

import pytest
import torch

from protocol.dealing import Dealing
from protocol.open_reader import open_reader
from tests.trainer.counting import MOMENT_FILE, Moment
from tests.trainer.lives import Life, Nursery, Started, born, end, tail, wait, wait_until
from trainer.audit import Account
from trainer.checkpoint_files import State, load_newest

pytestmark = pytest.mark.slow


RECORDS, LAST, BATCH = 8000, 600, 50


class Run:
    """A run on the streams of one producer after the other; each gives records of its own."""

    def __init__(self, folder: Path, nursery: Nursery, lives: int) -> None:
        self.nursery, self.folder, self.records = nursery, folder, lives * RECORDS
        self.moment = Moment(folder / "moment")
        self.log = folder / "trainer.log"
        self.log.touch()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        #: Which life of the producer has served a stream.
        self.lives: dict[str, int] = {}
        self.trainer: Life | None = None
        self.producer: Started | None = None

    def produce(self, life: int, *, last: bool = False) -> None:
        """The producer with this number; only the last one ends its stream."""
        count, ends = (LAST, "true") if last else (RECORDS, "false")
        source = ["--source", "tests.trainer.capture.Capture", "--source.first", str(life * RECORDS)]
        source += ["--source.count", str(count), "--source.ends", ends, "--until", "committed"]
        self.producer = Started("producer", ["--bind", self.url, *source], self.folder / "producer.log")
        with open_reader(self.url) as reader:
            self.lives[reader.describe(timeout_s=60).info.incarnation] = life

    def train(self, *options: object) -> Life:
        arguments = ["--stream", self.url, "--run_dir", str(self.folder / "run"), "--batch_size", str(BATCH)]
        arguments += ["--model", "tests.trainer.counting.CountingModel", "--model.records", str(self.records)]
        arguments += ["--task", "tests.trainer.counting.Counting", "--display", "plain", "--tensorboard", "false"]
        arguments += ["--report_every", "500", "--checkpoint_every", "500", *map(str, options)]
        self.moment.begin()
        self.trainer = self.nursery.train(arguments, self.log, **{MOMENT_FILE: str(self.folder / "moment")})
        return self.trainer

    def await_steps(self, steps: int) -> None:
        """The trainer has begun so many more."""
        life, wanted = self.trainer, self.moment.steps + steps
        assert life is not None
        wait_until(lambda: self.moment.steps >= wanted or born(life.pid) is None, f"{steps} steps")
        assert life.poll() is None, tail(life)

    def kill_producer(self) -> None:
        assert self.producer is not None
        end(self.producer)

    def close(self) -> None:
        for life in (self.trainer, self.producer):
            if life is not None and life.poll() is None:
                end(life)

    def newest(self) -> State:
        found = load_newest(self.folder / "run", print)
        assert found is not None
        return found[1]

    def check(self, lives: int) -> Account:
        """Each record was trained once at most; the ledger has those that came as trained, and the others as lost."""
        state = self.newest()
        counts, account = state["model"]["counts"], Account(state)
        account.check()
        assert counts.max() == 1
        assert counts.sum() == state["samples"]
        assert len(account.streams) == lives
        for stream in account.streams:
            first = self.lives[stream.incarnation] * RECORDS
            dealing = Dealing(len(stream.positions), state["stream"]["stripe"])
            trained = dict.fromkeys(stream.positions, 0)
            for record in torch.nonzero(counts[first : first + RECORDS]).flatten().tolist():
                partition, offset = dealing.locate(record)
                assert offset < stream.positions[partition]
                trained[partition] += 1
            for partition, position in stream.positions.items():
                fates = stream.ledger.fates(partition)
                assert (fates["trained"], fates["lost"]) == (trained[partition], position - trained[partition])
        return account


def test_a_run_whose_producer_was_killed_stops_with_what_is_lost_and_goes_on_where_that_is_asked_for(
    tmp_path: Path, nursery: Nursery
) -> None:
    run = Run(tmp_path, nursery, 2)
    try:
        run.produce(0)
        stopped = run.train()
        run.await_steps(10)
        run.kill_producer()
        run.produce(1, last=True)
        assert wait(stopped) == 1
        last = tail(stopped, 1)
        assert "the producer serves another stream now: expected stream" in last
        assert "partition 0 lost at least " in last
        assert last.endswith(
            "; what was trained is saved; "
            "for the new stream give --on_loss continue, another --run_dir, or --resume never"
        )
        account = run.check(1)
        assert account.totals["lost"] == 0, "what is lost is counted by the life that goes on without it"
        resumed = run.train("--on_loss", "continue")
        assert wait(resumed) == 0, tail(resumed)
        account = run.check(2)
        assert account.streams[1].ledger.totals()["trained"] == LAST
        assert account.totals["lost"] > 0
        assert f"stream {account.streams[1].incarnation} follows the stream" in run.log.read_text()
    finally:
        run.close()


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_run_goes_on_over_many_killed_producers_and_trainers(tmp_path: Path, nursery: Nursery, seed: int) -> None:
    lives, drawn = 12, random.Random(seed)
    run = Run(tmp_path, nursery, lives)
    try:
        for life in range(lives):
            run.produce(life, last=life == lives - 1)
            if life % 3 == 0:
                if run.trainer is not None:
                    end(run.trainer, drawn.choice([signal.SIGKILL, signal.SIGTERM]))
                run.train("--on_loss", "continue", "--workers", drawn.choice([0, 1, 2, 3]))
            if life < lives - 1:
                run.await_steps(drawn.randint(12, 60))
                run.kill_producer()
        assert run.trainer is not None
        assert wait(run.trainer) == 0, tail(run.trainer)
        account = run.check(len(Account(run.newest()).streams))
        assert len(account.streams) > lives // 2
        print(f"{len(account.streams)} streams: {account.totals}")
    finally:
        run.close()
