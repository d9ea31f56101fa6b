import json
import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.dealing import Dealing
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from trainer.jsonl_sink import JsonlSink, cut_back, read_lines
from trainer.report import Changed, Fact, Notice, Progress, Report, Standing, Start, ValidationReport, Waiting

INFO = StreamInfo(incarnation="x", schema=Schema((Field("x", "int64"),)), dealing=Dealing(1, 1))


def start(samples: int, *, resumed: bool) -> Start:
    return Start(
        samples=samples, resumed=resumed, run_dir="runs/x", stream="tcp://a:1", info=INFO, model="M", device="cpu"
    )


def report(samples: int, loss: float = 0.5) -> Report:
    stream = Standing(state="streaming", lag=3, log_end=samples + 3, ledger={"trained": samples}, balanced=True)
    return Report(
        samples=samples,
        batches=1,
        train={"loss": loss, "count": 64.0},
        learning_rate=0.1,
        samples_per_s=None,
        sample_age_ms_p50=1.0,
        sample_age_ms_p99=2.0,
        stream=stream,
        stages={"step": 0.75, "source": 0.25},
    )


def write(path: Path, *facts: Fact) -> None:
    sink = JsonlSink(path, wall_s=lambda: 1000.0)
    for fact in facts:
        sink.write(fact)


def test_each_fact_is_one_line_with_its_kind_its_samples_and_the_time(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    write(
        path,
        start(0, resumed=False),
        Progress(samples=32, samples_per_s=None),
        report(64),
        ValidationReport(samples=64, metrics={"loss": 0.4}, best=True),
        Notice(samples=64, text="the producer\nis away"),
        Waiting(text="x", waited_s=1.0),
        Changed(samples=64, text="dusk begins", record=60, partition=3, offset=12),
    )
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["kind"], line["samples"], line["time"]) for line in lines] == [
        ("start", 0, 1000.0),
        ("report", 64, 1000.0),
        ("validation", 64, 1000.0),
        ("notice", 64, 1000.0),
        ("change", 64, 1000.0),
    ]
    assert lines[0]["info"] == INFO.to_wire()
    assert lines[1]["stream"] == {
        "state": "streaming",
        "lag": 3,
        "log_end": 67,
        "ledger": {"trained": 64},
        "balanced": True,
        "streams": [],
    }
    assert lines[1]["stages"] == {"step": 0.75, "source": 0.25}
    assert lines[2]["metrics"] == {"loss": 0.4}
    assert lines[3]["text"] == "the producer\nis away"
    assert (lines[4]["text"], lines[4]["record"], lines[4]["partition"], lines[4]["offset"]) == (
        "dusk begins",
        60,
        3,
        12,
    )


def test_a_number_that_is_not_finite_is_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, report(64, math.nan), report(128, math.inf))
    assert [line["train"]["loss"] for line in read_lines(path)] == [None, None]


def test_settings_of_any_kind_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    settings = {"run_dir": Path("a"), "betas": (0.9, 0.99), "class": dict, "on": True, "k": None}
    fact = Start(samples=0, resumed=False, run_dir="", stream="", info=INFO, model="", device="", settings=settings)
    write(path, fact)
    assert next(read_lines(path))["settings"] == {
        "run_dir": "a",
        "betas": [0.9, 0.99],
        "class": "<class 'dict'>",
        "on": True,
        "k": None,
    }


def test_a_resumed_life_cuts_off_what_a_killed_one_wrote_beyond_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, start(0, resumed=False), report(64), report(128), report(192))
    write(path, start(128, resumed=True), report(192, 0.1), report(256))
    assert [(line["kind"], line["samples"]) for line in read_lines(path)] == [
        ("start", 0),
        ("report", 64),
        ("report", 128),
        ("start", 128),
        ("report", 192),
        ("report", 256),
    ]


def test_a_life_that_resumed_nothing_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, start(0, resumed=False), report(64))
    write(path, start(0, resumed=False), report(32))
    assert [line["samples"] for line in read_lines(path)] == [0, 32]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(st.integers(0, 2000), st.integers(0, 400))
def test_a_file_torn_at_any_byte_goes_on_with_its_whole_lines(tmp_path: Path, torn: int, samples: int) -> None:
    path = tmp_path / "metrics.jsonl"
    path.unlink(missing_ok=True)
    write(path, *(report(64 * n) for n in range(5)))
    whole = path.read_bytes()
    path.write_bytes(whole[:torn])
    kept = [json.loads(line) for line in whole[:torn].split(b"\n")[:-1]]
    write(path, start(samples, resumed=True))
    assert list(read_lines(path))[:-1] == [line for line in kept if line["samples"] <= samples]


def test_a_line_that_was_torn_just_before_its_end_does_not_swallow_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, report(64), report(128))
    path.write_bytes(path.read_bytes()[:-1])
    write(path, start(128, resumed=True))
    assert [line["kind"] for line in read_lines(path)] == ["report", "start"]


def test_a_line_that_is_unreadable_after_a_power_loss_does_not_keep_the_run_from_going_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, report(64), report(128))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\0" * 50 + b"\n" + b"7\n" + second)
    cut_back(path, 128)
    assert path.read_bytes() == first + second


def test_reading_passes_over_the_line_that_is_just_being_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, report(64))
    with path.open("ab") as file:
        file.write(b'{"kind": "rep')
    assert [line["samples"] for line in read_lines(path)] == [64]


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """The nearest thing to a full disk that needs no root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_that_finds_no_room_leaves_nothing_torn_and_the_next_one_that_does_stands(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JsonlSink(path)
    sink.write(report(64))
    with files_limited_to(path.stat().st_size + 10), pytest.raises(OSError, match="no room"):
        sink.write(report(128))
    assert [line["samples"] for line in read_lines(path)] == [64]
    sink.write(report(192))
    assert [line["samples"] for line in read_lines(path)] == [64, 192]


def test_a_file_that_could_not_be_cut_back_at_the_start_is_cut_back_with_the_next_fact(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, report(64), report(128))
    obstacle = tmp_path / "metrics.jsonl.tmp"
    obstacle.mkdir()
    sink = JsonlSink(path)
    with pytest.raises(OSError, match="directory"):
        sink.write(start(64, resumed=True))
    obstacle.rmdir()
    sink.write(report(96))
    assert [line["samples"] for line in read_lines(path)] == [64, 96]
