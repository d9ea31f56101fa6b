"""Where time goes: the stopwatch, and the real trainer with one stage slowed after the other."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from producer.dataset_source import DatasetSource
from protocol import zmq_transport
from protocol.chunk import Buffer
from protocol.codec import decode_reply
from protocol.dealing import Positions
from protocol.messages import ChunkMessage, Reply
from protocol.subscription import Waited
from tests.trainer.slowness import Pictures, SlowClassifier
from tests.trainer.streams import computed, serving
from tests.trainer.trickle import trickling
from trainer.assembly import Assembly
from trainer.commands import main
from trainer.loader import StreamLoader
from trainer.merge import Piece
from trainer.stages import STAGES, WAITING, Stages
from trainer.step import train_step
from trainer.tasks import Classification
from trainer.wording import DOING


class Clock:
    """Stands still but for what a test says."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Watched:
    """Stages, and a clock that is the test's."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.stages = Stages(self.clock)

    def spend(self, stage: str, seconds: float) -> None:
        with self.stages.of(stage):
            self.clock.now_s += seconds

    def told(self) -> dict[str, float]:
        """Seconds, without the stages that took none."""
        return {stage: seconds for stage, seconds in self.stages.seconds().items() if seconds}


@pytest.fixture
def watched() -> Watched:
    return Watched()


# --- the stopwatch ------------------------------------------------------------------------------------------------

stage_names = st.sampled_from((*STAGES, WAITING))
spans = st.integers(0, 1 << 20)
acts = st.one_of(
    st.tuples(st.just("enter"), stage_names),
    st.tuples(st.just("pass"), spans),
    st.tuples(st.just("blame"), st.tuples(spans, spans, spans)),
    st.tuples(st.just("ask"), st.none()),
)


@given(st.lists(acts, max_size=40))
def test_all_stages_together_are_the_wall_time_whatever_happens(acts: Sequence[tuple[str, Any]]) -> None:
    watched = Watched()
    began_s = asked_s = watched.clock.now_s
    for act, what in acts:
        if act == "enter":
            watched.stages.enter(what)
        elif act == "pass":
            watched.clock.now_s += what / 1024
        elif act == "blame":
            watched.stages.blame(Waited(source_s=what[0], wire_s=what[1], reader_s=what[2]))
        else:
            shares = watched.stages.since_last()
            assert sum(shares.values()) == pytest.approx(1)
            assert all(share >= -1e-9 for share in shares.values())
            asked_s = watched.clock.now_s
    assert sum(watched.stages.seconds().values()) == pytest.approx(watched.clock.now_s - began_s)
    assert list(watched.stages.seconds()) == list(STAGES)
    assert sum(watched.stages.since_last().values()) == pytest.approx(1), watched.clock.now_s - asked_s


def test_a_stage_that_is_entered_suspends_the_one_around_it(watched: Watched) -> None:
    with watched.stages.of("loader"):
        watched.clock.now_s += 1
        watched.spend("checkpoint", 4)
        watched.clock.now_s += 2
    watched.clock.now_s += 8
    assert watched.told() == {"loader": 3, "checkpoint": 4, "other": 8}


def test_a_stage_ends_where_its_work_fails(watched: Watched) -> None:
    with pytest.raises(ZeroDivisionError), watched.stages.of("validation"):
        raise ZeroDivisionError
    watched.clock.now_s += 1
    assert watched.told() == {"other": 1}


def test_waiting_is_divided_as_the_readers_say(watched: Watched) -> None:
    watched.spend(WAITING, 4)
    watched.stages.blame(Waited(source_s=1, wire_s=2, reader_s=1))
    assert watched.told() == {"source": 1, "wire": 2, "reader": 1}
    watched.spend(WAITING, 2)
    watched.stages.blame(Waited(source_s=0, wire_s=0, reader_s=0.1))
    assert watched.told() == {"source": 1, "wire": 2, "reader": 3}


def test_waiting_that_nobody_has_spoken_of_goes_to_the_source_and_later_where_the_time_went_last(
    watched: Watched,
) -> None:
    watched.spend(WAITING, 1)
    assert watched.told() == {"source": 1}
    watched.stages.blame(Waited(source_s=0, wire_s=0.5, reader_s=0))
    watched.stages.blame(Waited(source_s=0, wire_s=0, reader_s=0))  # it was not waited for at all
    watched.spend(WAITING, 1)
    assert watched.told() == {"source": 1, "wire": 1}


def test_shares_are_those_since_they_were_last_asked_for(watched: Watched) -> None:
    watched.spend("step", 3)
    watched.spend("copy", 1)
    assert watched.stages.since_last() == dict.fromkeys(STAGES, 0.0) | {"step": 0.75, "copy": 0.25}
    watched.spend("copy", 4)
    assert watched.stages.since_last() == dict.fromkeys(STAGES, 0.0) | {"copy": 1.0}
    assert watched.stages.of_all() == dict.fromkeys(STAGES, 0.0) | {"step": 0.375, "copy": 0.625}
    watched.stages.begin()
    watched.spend("loader", 1)
    assert watched.stages.of_all()["loader"] == 1


# --- the real trainer, one stage slowed after the other -----------------------------------------------------------

#: What a slowed stage takes in all, which is far more than everything else in so small a run.
SLOW_S = 2.5
BATCH = 64
STEPS = 10
RECORDS = BATCH * STEPS


@pytest.fixture(scope="module")
def warm() -> Iterator[None]:
    """The first step of a process takes seconds: torch imports much of itself only then.

    One thread for each operation, since two cores are shared with the producer.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = SlowClassifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    columns = {"image": torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "label": torch.tensor([0, 1])}
    train_step(model, optimizer, Classification(), Classification().prepare(columns, torch.device("cpu")))
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], signals_as_they_were: None, warm: None) -> "Run":
    return Run(tmp_path / "run", capsys)


@dataclass
class Run:
    """`python -m trainer train` in this process."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def train(self, url: str, *options: str) -> str:
        """One life to its end; what it printed."""
        arguments = ["--stream", url, "--run_dir", str(self.folder), "--display", "plain", "--device", "cpu"]
        arguments += ["--tensorboard", "false", "--model", "tests.trainer.slowness.SlowClassifier"]
        arguments += ["--max_samples", str(RECORDS), "--batch_size", str(BATCH), "--report_every", str(RECORDS // 2)]
        assert main(["train", *arguments, *options]) == 0
        return self.capsys.readouterr().out

    def facts(self, kind: str) -> list[dict[str, Any]]:
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [fact for line in lines if (fact := json.loads(line))["kind"] == kind]

    def named(self, stage: str, said: str) -> None:
        """This stage is what the time went to; the output says so in the reports and at the end."""
        (end,) = [each["text"] for each in self.facts("notice") if each["text"].startswith("time went to: ")]
        assert end.startswith(f"time went to: {stage} "), end
        assert end in said
        for report in self.facts("report"):
            assert sum(report["stages"].values()) == pytest.approx(1)
        assert f"  {DOING[stage]} " in said


def pictures(record_s: float = 0.0) -> DatasetSource:
    """In stripes of 64 records."""
    return DatasetSource(Pictures(4 * RECORDS, record_s))


@contextmanager
def slow_wire() -> Iterator[str]:
    source = pictures()
    with (
        serving(computed(source, passes=0)) as server,
        trickling(server, RECORDS * source.schema.record_bytes / SLOW_S) as url,
    ):
        yield url


@pytest.mark.slow
def test_a_slow_dataset_is_named_as_the_source(run: Run) -> None:
    with serving(computed(pictures(SLOW_S / RECORDS), passes=0)) as url:
        run.named("source", run.train(url))


@pytest.mark.slow
def test_a_low_rate_is_named_as_the_source(run: Run) -> None:
    few = 2 * BATCH  # the time of a step is no time of waiting, since records come meanwhile
    with serving(computed(pictures(), passes=0, rate=few / SLOW_S)) as url:
        limits = ["--max_samples", str(few), "--report_every", str(BATCH)]
        run.named("source", run.train(url, "--start", "latest", *limits))


@pytest.mark.slow
def test_a_slow_wire_is_named(run: Run) -> None:
    with slow_wire() as url:
        run.named("wire", run.train(url))


@pytest.mark.slow
def test_a_worker_says_what_it_waits_for() -> None:
    stages = Stages()
    with slow_wire() as url:
        loader = StreamLoader(url, batch_size=BATCH, num_workers=1, stages=stages)
        assert sum(batch.count for batch in islice(loader, STEPS)) == RECORDS
    seconds = stages.seconds()
    assert seconds["wire"] > seconds["source"]


@pytest.mark.slow
def test_a_reader_with_much_work_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(frames: Sequence[Buffer]) -> Reply:
        reply = decode_reply(frames)
        if isinstance(reply, ChunkMessage):
            time.sleep(reply.count * SLOW_S / RECORDS)
        return reply

    monkeypatch.setattr(zmq_transport, "decode_reply", slowly)
    with serving(computed(pictures(), passes=0)) as url:
        run.named("reader", run.train(url))


@pytest.mark.slow
def test_a_loader_with_much_work_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Assembly.add

    def slowly(self: Assembly, piece: Piece, after: Positions) -> None:
        time.sleep((piece.stop - piece.start) * SLOW_S / RECORDS)
        add(self, piece, after)

    monkeypatch.setattr(Assembly, "add", slowly)
    with serving(computed(pictures(), passes=0)) as url:
        run.named("loader", run.train(url))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "options"),
    [
        (
            "copy",
            ["--task", "tests.trainer.slowness.SlowClassification", "--task.prepare_s", str(SLOW_S / STEPS)],
        ),
        pytest.param("step", ["--model.step_s", str(SLOW_S / STEPS)], marks=pytest.mark.faults),
        ("checkpoint", ["--model.state_s", str(SLOW_S / STEPS), "--checkpoint_every", str(BATCH)]),
        (
            "validation",
            [
                *("--validation", "tests.trainer.slowness.Pictures", "--validation.records", str(BATCH)),
                *("--validation.record_s", str(SLOW_S / BATCH / STEPS), "--validate_every", str(BATCH)),
            ],
        ),
    ],
)
def test_a_part_of_the_users_that_is_slow_is_named(run: Run, stage: str, options: list[str]) -> None:
    with serving(computed(pictures(), passes=0)) as url:
        run.named(stage, run.train(url, *options))
