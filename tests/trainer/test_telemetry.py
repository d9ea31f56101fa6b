import io
import threading
import time
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import nn

from protocol.contact_sheet import sheet_of
from protocol.dealing import Dealing
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from trainer.batch import Batch, Block
from trainer.confusion import Confusion
from trainer.details import SHEET_WIDTH
from trainer.history import History
from trainer.jsonl_sink import JsonlSink, read_lines
from trainer.mistakes import Mistakes
from trainer.origin import Span
from trainer.report import (
    Fact,
    Histograms,
    Notice,
    Pictures,
    Progress,
    Report,
    Sink,
    Standing,
    Start,
    ValidationReport,
    Waiting,
)
from trainer.task import Outcome
from trainer.telemetry import AGES_KEPT, Telemetry, TelemetrySettings, open_telemetry, tensorboard_dir
from trainer.terminal import PlainLines

SCHEMA = Schema(
    (Field("image", "uint8", (1, 8, 8)), Field("label", "int64")), label="label", class_names=("Bag", "Coat")
)
STANDING = Standing(state="streaming", lag=5, log_end=100, ledger={"trained": 64}, balanced=True)


F = TypeVar("F", bound=Fact)


class Clock:
    """A wall clock and a monotonic one, told what time it is."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def wall_ns(self) -> int:
        return int(self.now_s * 1e9)

    def monotonic_s(self) -> float:
        return self.now_s


class Kept(Sink):
    """A sink that keeps what it was told; `full` makes it fail as a full disk does."""

    name = "kept"
    details = True

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.full = False
        self.attempts = 0

    def write(self, fact: Fact) -> None:
        self.attempts += 1
        if self.full:
            raise OSError(28, "No space left on device")
        self.facts.append(fact)

    def flush(self) -> None:
        if self.full:
            raise OSError(28, "No space left on device")

    def close(self) -> None:
        self.facts.append(Notice(samples=0, text="closed"))

    def of(self, kind: type[F]) -> list[F]:
        return [fact for fact in self.facts if isinstance(fact, kind)]


def start(samples: int = 0, *, resumed: bool = False, schema: Schema = SCHEMA) -> Start:
    info = StreamInfo(incarnation="x", schema=schema, dealing=Dealing(1, 1))
    return Start(samples=samples, resumed=resumed, run_dir="r", stream="tcp://a:1", info=info, model="M", device="cpu")


def batch(count: int = 64, *, age_s: float = 0.0, now_s: float = 1000.0, number: int = 1) -> Batch:
    columns = {
        "image": torch.arange(count * 64, dtype=torch.int64).reshape(count, 1, 8, 8).to(torch.uint8),
        "label": torch.arange(count) % 2,
    }
    return batch_of(columns, number=number, time_ns=int((now_s - age_s) * 1e9))


def batch_of(columns: dict[str, torch.Tensor], *, number: int = 1, time_ns: int = 0) -> Batch:
    count = len(next(iter(columns.values())))
    block = Block(columns, count, {0: 0})
    block.add(0, Span(0, 0, count, time_ns, time_ns))
    return Batch(block, 0, count, number)


def report(telemetry: Telemetry, samples: int = 64) -> Report:
    return telemetry.report(
        samples=samples,
        batches=1,
        train={"loss": 0.5},
        learning_rate=0.1,
        norms={"gradient": 2.0},
        stream=STANDING,
        stages={"step": 1.0},
        prequential={},
        shares={},
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def telemetry(kept: Kept, clock: Clock) -> Telemetry:
    return Telemetry([kept], wall_ns=clock.wall_ns, monotonic_s=clock.monotonic_s)


def test_a_report_says_how_old_the_newest_record_of_each_batch_was_when_it_was_trained(telemetry: Telemetry) -> None:
    telemetry.start(start())
    for age_ms in range(1, 102):
        telemetry.record(batch(age_s=age_ms / 1000))
    first = report(telemetry)
    assert first.sample_age_ms_p50 == pytest.approx(51)
    assert first.sample_age_ms_p99 == pytest.approx(100)
    telemetry.record(batch(age_s=3.0))
    second = report(telemetry)
    assert second.sample_age_ms_p50 == pytest.approx(3000)
    assert second.sample_age_ms_p99 == pytest.approx(3000)


def test_no_age_is_below_zero_and_that_two_clocks_differ_is_said_once_a_minute(
    telemetry: Telemetry, kept: Kept, clock: Clock
) -> None:
    telemetry.start(start())
    for at_s in (0.0, 1.0, 61.0):
        clock.now_s = 1000.0 + at_s
        for age_s in (2.0, -7.5, -0.5):
            telemetry.record(batch(age_s=age_s, now_s=clock.now_s))
        shown = report(telemetry)
        assert shown.sample_age_ms_p50 == 0
        assert shown.sample_age_ms_p99 == pytest.approx(2000, rel=0.1)
    said = "the producer's clock is 7.5 s ahead of this one, or more: ages below 0 count as 0"
    assert [notice.text for notice in kept.of(Notice)] == [said, said]


def test_clocks_that_differ_by_little_are_not_spoken_of(telemetry: Telemetry, kept: Kept) -> None:
    telemetry.start(start())
    telemetry.record(batch(age_s=-0.01))
    assert report(telemetry).sample_age_ms_p50 == 0
    assert kept.of(Notice) == []


def test_what_nobody_measured_is_unknown(telemetry: Telemetry) -> None:
    telemetry.start(start())
    empty = report(telemetry)
    assert (empty.sample_age_ms_p50, empty.sample_age_ms_p99, empty.samples_per_s) == (None, None, None)


def test_samples_per_second_are_those_since_the_last_report_idle_time_included(
    telemetry: Telemetry, clock: Clock
) -> None:
    telemetry.start(start())
    telemetry.record(batch())  # nobody knows how long this one took
    clock.now_s += 2
    telemetry.record(batch())
    assert report(telemetry).samples_per_s == pytest.approx(32)
    clock.now_s += 10
    telemetry.record(batch(count=100))
    assert report(telemetry).samples_per_s == pytest.approx(10)


def test_the_ages_between_two_reports_stay_bounded(telemetry: Telemetry) -> None:
    telemetry.start(start())
    for age_s in [9.0] * 10 + [1.0] * AGES_KEPT:
        telemetry.record(batch(count=1, age_s=age_s))
    assert report(telemetry).sample_age_ms_p99 == pytest.approx(1000)


def test_recording_a_step_costs_a_few_microseconds(tmp_path: Path) -> None:
    history = History()
    with Telemetry([PlainLines(io.StringIO()), JsonlSink(tmp_path / "metrics.jsonl")], history) as telemetry:
        telemetry.start(start())
        one = batch(count=1)
        telemetry.record(one)
        best_s = min(_seconds_for(telemetry, one, 2000) for _ in range(5))
    assert best_s / 2000 < 10e-6


def _seconds_for(telemetry: Telemetry, one: Batch, steps: int) -> float:
    began_s = time.perf_counter()
    for _ in range(steps):
        telemetry.record(one)
    return time.perf_counter() - began_s


def test_between_reports_displays_hear_of_progress_at_most_four_times_a_second(
    telemetry: Telemetry, kept: Kept, clock: Clock
) -> None:
    telemetry.start(start(1000, resumed=True))
    for _ in range(400):
        telemetry.record(batch(count=1))
        clock.now_s += 0.01
    progress = kept.of(Progress)
    assert 14 <= len(progress) <= 17
    assert progress[-1].samples > 1300
    assert progress[-1].samples_per_s == pytest.approx(100, rel=0.01)


def test_waiting_counts_from_when_it_was_first_said_until_a_batch_ends_it(
    telemetry: Telemetry, kept: Kept, clock: Clock
) -> None:
    for _ in range(3):
        telemetry.waiting("the producer")
        clock.now_s += 1
    telemetry.start(start())
    telemetry.waiting("the producer to come back")
    clock.now_s += 1
    telemetry.waiting("the producer to come back")
    telemetry.record(batch())
    clock.now_s += 1
    telemetry.waiting("the producer to come back")
    assert [fact.waited_s for fact in kept.of(Waiting)] == [0, 1, 0]  # this sink hears nothing before the start
    assert isinstance(kept.facts[3], Progress)


def test_notices_from_before_the_start_reach_the_files_after_it_with_the_checkpoints_samples(
    kept: Kept, clock: Clock
) -> None:
    history = History()
    telemetry = Telemetry([kept], history, monotonic_s=clock.monotonic_s)
    telemetry.notice("a checkpoint is damaged")
    assert kept.facts == []
    telemetry.start(start(640, resumed=True))
    telemetry.notice("resumed")
    assert isinstance(kept.facts[0], Start)
    expected = [Notice(samples=640, text="a checkpoint is damaged"), Notice(samples=640, text="resumed")]
    assert kept.facts[1:] == expected
    assert list(history.notices) == expected


def test_a_display_hears_everything_at_once() -> None:
    stream = io.StringIO()
    telemetry = Telemetry([PlainLines(stream)])
    telemetry.waiting("the producer")
    telemetry.notice("a checkpoint is damaged")
    telemetry.start(start(640, resumed=True))
    assert stream.getvalue().splitlines()[:2] == [
        "waiting for the producer (0 s)",
        "samples 0  a checkpoint is damaged",
    ]
    assert stream.getvalue().count("damaged") == 1


def test_a_sink_that_fails_is_named_on_the_others_once_a_minute_and_training_goes_on(clock: Clock, kept: Kept) -> None:
    other = Kept()
    telemetry = Telemetry([kept, other], monotonic_s=clock.monotonic_s)
    telemetry.start(start())
    kept.full = True
    for samples in (64, 128, 192):
        report(telemetry, samples)
    telemetry.flush()
    assert [notice.text for notice in other.of(Notice)] == [
        "kept cannot be written: [Errno 28] No space left on device; training goes on without it"
    ]
    clock.now_s += 61
    report(telemetry, 256)
    assert len(other.of(Notice)) == 2
    kept.full = False
    report(telemetry, 320)
    assert [fact.samples for fact in kept.of(Report)] == [320]
    assert [fact.samples for fact in other.of(Report)] == [64, 128, 192, 256, 320]


def test_where_every_sink_fails_training_still_goes_on(clock: Clock) -> None:
    sinks = [Kept(), Kept()]
    telemetry = Telemetry(sinks, monotonic_s=clock.monotonic_s)
    for sink in sinks:
        sink.full = True
    telemetry.start(start())
    report(telemetry)
    assert all(sink.attempts >= 2 for sink in sinks)


def test_a_fault_that_is_no_full_disk_is_not_swallowed(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry([kept])
    monkeypatch.setattr(kept, "write", lambda fact: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        telemetry.start(start())


def test_notices_may_come_from_any_thread_and_sinks_hear_one_at_a_time() -> None:
    class Alone(Kept):
        def write(self, fact: Fact) -> None:
            before = len(self.facts)
            time.sleep(0.001)
            super().write(fact)
            assert len(self.facts) == before + 1

    sink = Alone()
    telemetry = Telemetry([sink])
    telemetry.start(start())
    others = [threading.Thread(target=_notice_often, args=(telemetry,)) for _ in range(4)]
    for thread in others:
        thread.start()
    for samples in range(20):
        report(telemetry, samples)
    for thread in others:
        thread.join()
    assert (len(sink.of(Notice)), len(sink.of(Report))) == (80, 20)


def _notice_often(telemetry: Telemetry) -> None:
    for _ in range(20):
        telemetry.notice("x")


def test_a_lifes_first_batch_is_shown_as_a_contact_sheet_with_class_names(telemetry: Telemetry, kept: Kept) -> None:
    telemetry.start(start(640, resumed=True))
    one = batch()
    telemetry.record(one)
    (pictures,) = kept.of(Pictures)
    columns = {name: column[:16].numpy() for name, column in one.items()}
    assert (pictures.name, pictures.samples) == ("loader", 704)
    assert (pictures.sheet == sheet_of(SCHEMA, columns, SHEET_WIDTH)).all()


def test_pictures_are_those_that_the_task_got(telemetry: Telemetry, kept: Kept) -> None:
    telemetry.start(start())
    one = batch()
    changed = {**one, "image": one["image"].flip(-1)}
    telemetry.record(one, changed)
    (pictures,) = kept.of(Pictures)
    columns = {name: column[:16].numpy() for name, column in changed.items()}
    assert (pictures.sheet == sheet_of(SCHEMA, columns, SHEET_WIDTH)).all()
    assert (pictures.sheet != sheet_of(SCHEMA, {**columns, "image": one["image"][:16].numpy()}, SHEET_WIDTH)).any()


def test_later_sheets_are_rare(telemetry: Telemetry, kept: Kept) -> None:
    telemetry.start(start())
    one = batch(count=1000)
    for _ in range(1000):
        telemetry.record(one)
    assert [fact.samples for fact in kept.of(Pictures)] == [1000, 51_000, 102_000, 204_000, 408_000, 816_000]


def test_a_stream_without_pictures_has_no_sheets(telemetry: Telemetry, kept: Kept) -> None:
    telemetry.start(start(schema=Schema((Field("x", "float32", (8,)),))))
    telemetry.record(batch_of({"x": torch.zeros(4, 8)}))
    assert kept.of(Pictures) == []


def test_a_batch_smaller_than_a_sheet_is_shown_whole(telemetry: Telemetry, kept: Kept) -> None:
    telemetry.start(start())
    telemetry.record(batch(count=1))
    assert len(kept.of(Pictures)) == 1


def test_where_no_sink_shows_details_none_are_made(monkeypatch: pytest.MonkeyPatch, kept: Kept) -> None:
    monkeypatch.setattr(Kept, "details", False)
    telemetry = Telemetry([kept])
    telemetry.start(start())
    telemetry.record(batch())
    telemetry.details(nn.Linear(1, 1), Confusion(), Mistakes())
    telemetry.last_details()
    telemetry.graph(lambda: pytest.fail("a graph was made"))
    assert kept.of(Pictures) + kept.of(Histograms) == []


def test_a_validation_is_told_by_class_where_there_are_few_of_them(telemetry: Telemetry, kept: Kept) -> None:
    telemetry.start(start())
    for classes in (2, 31):
        confusion, told = Confusion(), torch.eye(classes)[[1, 1]]
        confusion.observe({}, Outcome(torch.zeros(()), 2, {}, told, torch.tensor([0, 1])))
        telemetry.validation(64, {"loss": 1.0}, best=True, confusion=confusion)
    few, many = kept.of(ValidationReport)
    assert (few.per_class, few.confusion) == ({"Bag": 0.0, "Coat": 1.0}, [[0, 1], [0, 1]])
    assert (many.per_class, many.confusion) == ({}, [])


def test_the_state_goes_through_a_checkpoint_that_holds_no_code(tmp_path: Path) -> None:
    telemetry = Telemetry([])
    telemetry.start(start())
    report(telemetry, 64)
    metrics = {"loss": 0.25, "accuracy": np.float64(0.5), "count": 5.0}
    telemetry.validation(64, metrics, best=True, confusion=Confusion())
    telemetry.notice("over-fitting")
    torch.save(telemetry.state_dict(), tmp_path / "state.pt")
    history = History()
    Telemetry([], history).load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert history.training.points == [(64, 0.5)]
    assert history.best is not None
    assert history.best.metrics["loss"] == 0.25
    assert [notice.text for notice in history.notices] == ["over-fitting"]


def test_leaving_the_telemetry_closes_every_sink(kept: Kept) -> None:
    with pytest.raises(RuntimeError), Telemetry([kept]):
        raise RuntimeError
    assert kept.facts == [Notice(samples=0, text="closed")]


def test_a_run_keeps_its_numbers_in_its_directory_and_touches_nothing_before_the_start(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with open_telemetry(run_dir, TelemetrySettings(display="none")) as telemetry:
        telemetry.notice("early")
        assert not run_dir.exists()
        telemetry.start(start())
        report(telemetry)
    assert [line["kind"] for line in read_lines(run_dir / "metrics.jsonl")] == ["start", "notice", "report"]
    assert len(list(tensorboard_dir(run_dir).iterdir())) == 1


def test_tensorboard_can_be_left_out(tmp_path: Path) -> None:
    with open_telemetry(tmp_path, TelemetrySettings(display="none", tensorboard=False)) as telemetry:
        telemetry.start(start())
    assert not tensorboard_dir(tmp_path).exists()
