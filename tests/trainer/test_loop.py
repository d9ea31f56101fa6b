"""The real trainer on a stream: what it does at the ends of runs and streams, and over-fitting."""

import json
import signal
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing import plugin_event_accumulator  # type: ignore[import-untyped]
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from producer.computed_log import ComputedLog
from producer.drift import Drift, read_schedule
from producer.pace import Pace
from producer.publisher import Publisher
from producer.source import ColumnSource
from protocol.dealing import Dealing
from protocol.errors import StreamError
from protocol.quarantine import FILE, read_quarantine
from protocol.schema import Field, Schema
from tests.trainer.counting import MOMENT_FILE, Moment
from tests.trainer.lives import Forked, Nursery, Started, end, tail, wait, wait_until
from tests.trainer.numbered import NumberedPictures
from tests.trainer.streams import serving
from trainer.checkpoint_files import State, load_newest
from trainer.ledger import FATES, Ledger

pytestmark = pytest.mark.slow

THREE_STRIPES = 3 * 4096 * 850  # bytes of a log of small pictures


def begin(nursery: Nursery, folder: Path, url: str, *options: str) -> Forked:
    """A life of the run in this folder, with the default model unless it is told otherwise."""
    arguments = ["--stream", url, "--run_dir", str(folder / "run"), "--display", "plain", "--device", "cpu", *options]
    return nursery.train(arguments, folder / "trainer.log", **{MOMENT_FILE: str(folder / "moment")})


def train(nursery: Nursery, folder: Path, url: str, *options: str) -> str:
    """One life to its end; what it said."""
    life = begin(nursery, folder, url, *options)
    assert wait(life) == 0, tail(life)
    return life.log.read_text()


def newest(folder: Path) -> State:
    found = load_newest(folder / "run", pytest.fail)
    assert found is not None
    return found[1]


def pictures(folder: Path, *options: str) -> tuple[str, Started]:
    """A producer of pictures, as fast as they are read."""
    url = f"ipc://{folder}/stream"
    arguments = ["--bind", url, "--rate", "0", "--source", "tests.trainer.numbered.NumberedPictures", *options]
    return url, Started("producer", arguments, folder / "producer.log")


def facts(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of this kind in the run's metrics."""
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [fact for line in lines if (fact := json.loads(line))["kind"] == kind]


def test_over_fitting_is_seen_said_and_stops_the_run_where_that_was_asked_for(nursery: Nursery, tmp_path: Path) -> None:
    data = ["--source.records", "2000", "--source.padding", "1", "--source.noise", "4", "--passes", "60"]
    url, producer = pictures(tmp_path, *data)
    said = train(
        nursery, tmp_path, url, "--early_stop", "5", "--validate_every", "2000", "--report_every", "2000",
        "--checkpoint_every", "0", "--optimizer", "torch.optim.SGD", "--optimizer.lr", "0.1",
        "--optimizer.momentum", "0.9", "--model", "tests.trainer.counting.DroppingClassifier",
    )  # fmt: skip
    end(producer, signal.SIGTERM)
    assert said.count("over-fitting: ") == 2  # once when it is seen, once as the reason to stop
    assert "stopped early: over-fitting: 5 validations without a loss below" in said
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    texts = [each.tensor_proto.string_val[0].decode() for each in events.Tensors("events/text_summary")]
    assert sum("over-fitting: 3 validations" in text for text in texts) == 1
    validations = facts(tmp_path, "validation")
    best = min(range(len(validations)), key=lambda at: validations[at]["metrics"]["loss"])
    assert validations[best]["best"]
    assert best < len(validations) - 5
    assert newest(tmp_path)["samples"] == validations[-1]["samples"] < 60 * 2000
    saved = next((tmp_path / "run" / "best").glob("step-*"))
    assert int(saved.name.removeprefix("step-")) == validations[best]["samples"]


def publish(first: int, count: int, url: str = "tcp://127.0.0.1:*") -> Publisher:
    """A capture program's pictures."""
    publisher = Publisher(url, partitions=2)
    columns = NumberedPictures(count, padding=1, validation=0, first=first).take(np.arange(count))
    publisher.send_columns(image=columns["image"], label=columns["label"])
    return publisher


def test_a_capture_program_that_starts_again_after_its_end_is_followed(nursery: Nursery, tmp_path: Path) -> None:
    publisher = publish(0, 300)
    life = begin(nursery, tmp_path, publisher.address)
    publisher.close(drain_timeout_s=30)
    assert wait(life) == 0, tail(life)
    assert newest(tmp_path)["samples"] == 300
    publisher = publish(300, 200)
    life = begin(nursery, tmp_path, publisher.address)
    publisher.close(drain_timeout_s=30)
    assert wait(life) == 0, tail(life)
    said = life.log.read_text()
    assert said.count("was trained to its end; stream") == 1
    assert "the stream has no validation split: training goes on without validation" in said
    state = newest(tmp_path)
    assert state["samples"] == 500
    assert [sum(each["ledger"]["trained"]) for each in state["stream"]["earlier"]] == [300]
    assert sum(state["stream"]["ledger"]["trained"]) == 200
    assert facts(tmp_path, "report")[-1]["stream"]["ledger"]["trained"] == 500


def test_a_live_stream_that_died_before_it_was_trained_is_refused_with_what_was_lost(
    nursery: Nursery, tmp_path: Path
) -> None:
    publisher = publish(0, 300)
    life = begin(nursery, tmp_path, publisher.address, "--max_samples", "128")
    assert wait(life) == 0, tail(life)
    publisher.abandon()
    other = publish(0, 300)
    life = begin(nursery, tmp_path, other.address)
    assert wait(life) == 2
    other.abandon()
    last = tail(life, 1)
    assert "belongs to another stream: expected stream" in last
    assert "lost at least 172 records: offsets 128 to 299" in last


def test_a_live_stream_that_is_replaced_under_a_run_leaves_what_was_trained_saved(
    nursery: Nursery, tmp_path: Path
) -> None:
    publisher = publish(0, 300)
    life = begin(nursery, tmp_path, publisher.address, "--report_every", "64")
    wait_until(lambda: life.log.exists() and "samples 256 " in life.log.read_text(), "256 trained samples")
    publisher.abandon()
    other = publish(0, 300, publisher.address)
    assert wait(life) == 1
    other.abandon()
    last = tail(life, 1)
    assert "the producer serves another stream now" in last
    assert "lost at least 44 records: offsets 256 to 299" in last
    assert newest(tmp_path)["samples"] == 256


def test_a_log_that_holds_less_than_the_stream_is_trained_though_no_checkpoint_is_due(
    nursery: Nursery, tmp_path: Path
) -> None:
    records = 20_000
    pictures = NumberedPictures(records, padding=1, validation=0).take(np.arange(records))
    publisher = Publisher("tcp://127.0.0.1:*", partitions=2, max_bytes=THREE_STRIPES)
    life = begin(nursery, tmp_path, publisher.address, "--checkpoint_every", "0")
    publisher.send_columns(image=pictures["image"], label=pictures["label"])  # returns only if the log is trimmed
    publisher.close(drain_timeout_s=60)
    assert wait(life) == 0, tail(life)
    assert newest(tmp_path)["samples"] == records


def test_a_log_full_of_records_that_are_left_out_is_trimmed_though_no_batch_comes(
    nursery: Nursery, tmp_path: Path
) -> None:
    records, trained = 40_000, 1024
    publisher = Publisher("tcp://127.0.0.1:*", partitions=2, max_bytes=THREE_STRIPES)
    life = begin(nursery, tmp_path, publisher.address, "--checkpoint_every", "0", "--thin", "[1, 0]")
    images = np.zeros((records, 1, 28, 28), np.uint8)
    publisher.send_columns(image=images, label=(np.arange(records) >= trained).astype(np.int64))
    publisher.close(drain_timeout_s=60)
    assert wait(life) == 0, tail(life)
    assert newest(tmp_path)["samples"] == trained


def test_a_log_that_holds_less_than_a_shuffle_window_is_said_with_the_mend(nursery: Nursery, tmp_path: Path) -> None:
    publisher = Publisher("tcp://127.0.0.1:*", partitions=2, max_bytes=THREE_STRIPES)
    life = begin(nursery, tmp_path, publisher.address, "--shuffle_window", "30000")
    images = np.zeros((30_000, 1, 28, 28), np.uint8)
    columns = {"image": images, "label": np.zeros(30_000, np.int64)}
    sending = threading.Thread(target=sends_until_closed, args=(publisher, columns))
    sending.start()
    wait_until(lambda: b"give the producer a larger log" in life.log.read_bytes(), "the mend")
    assert end(life, signal.SIGTERM) == 0, tail(life)
    publisher.abandon()
    sending.join()


def sends_until_closed(publisher: Publisher, columns: dict[str, Any]) -> None:
    with pytest.raises(StreamError, match="closed"):
        publisher.send_columns(**columns)


def test_a_limit_ends_the_run_and_a_higher_one_goes_on_from_there(nursery: Nursery, tmp_path: Path) -> None:
    url, producer = pictures(tmp_path, "--source.records", "500", "--passes", "2")
    assert "the limit is reached: saved at 320 samples" in train(nursery, tmp_path, url, "--max_samples", "300")
    said = train(nursery, tmp_path, url, "--max_samples", "640", "--workers", "2")
    assert "resumed from" in said
    assert "the limit is reached: saved at 640 samples" in said
    assert "the stream has ended: all of it was trained, 1,000 samples" in train(nursery, tmp_path, url)
    again = train(nursery, tmp_path, url)  # there is nothing left to do
    assert again.count("all of it was trained, 1,000 samples") == 2
    end(producer, signal.SIGTERM)
    steps = [fact["samples"] for fact in facts(tmp_path, "validation")]
    assert steps == sorted(set(steps))
    assert newest(tmp_path)["samples"] == 1000


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.faults), 2])
def test_a_stop_on_a_silent_stream_is_obeyed_within_seconds(nursery: Nursery, tmp_path: Path, workers: int) -> None:
    url, producer = pictures(tmp_path, "--source.records", "500")
    task = ["--task", "tests.trainer.counting.WatchedClassification", "--workers", str(workers)]
    moment = Moment(tmp_path / "moment")
    life = begin(nursery, tmp_path, url, *task)
    wait_until(lambda: moment.steps >= 2 or life.poll() is not None, "steps")
    end(producer)  # no record will come
    steps = -1
    while steps != moment.steps:
        steps = moment.steps
        time.sleep(0.5)
    asked_s = time.monotonic()
    assert end(life, signal.SIGTERM) == 0, tail(life)
    assert "stopped by SIGTERM: saved at" in life.log.read_text()
    assert newest(tmp_path)["samples"] == steps * 64
    assert time.monotonic() - asked_s < 8  # the commit waits a little for a producer that is away


# --- records that must not be trained on --------------------------------------------------------------------------

SPOILT_RECORDS, BATCH = 3000, 20
SPOILT = Schema((Field("id", "int64"), Field("label", "int8"), Field("value", "float32")), "label", (), (0, 9))


def spoilt(values: Collection[int], labels: Collection[int] = ()) -> ComputedLog:
    """Records in the order of their ids: the value of some is NaN, the label of others out of range."""
    value, label = np.ones(SPOILT_RECORDS, np.float32), np.zeros(SPOILT_RECORDS, np.int8)
    value[list(values)], label[list(labels)] = np.nan, 99
    source = ColumnSource("spoilt", SPOILT, {"id": np.arange(SPOILT_RECORDS), "label": label, "value": value})
    return ComputedLog(source, Dealing(4, 32), passes=1, shuffle=False)


def count(nursery: Nursery, folder: Path, url: str) -> Forked:
    """A life that counts what it is trained on and does without what cannot be."""
    counting = ["--model", "tests.trainer.counting.CountingModel", "--model.records", str(SPOILT_RECORDS)]
    return begin(
        nursery, folder, url, *counting, "--model.ballast", "1", "--task", "tests.trainer.counting.CountingNumbers",
        "--batch_size", str(BATCH), "--checkpoint_every", "200", "--on_nan", "skip", "--on_bad_record", "quarantine",
    )  # fmt: skip


def test_what_cannot_be_trained_on_is_passed_over_and_counted_over_a_kill(nursery: Nursery, tmp_path: Path) -> None:
    rejected = [0, 7, 8, 700, 1999, SPOILT_RECORDS - 1]
    good = [record for record in range(SPOILT_RECORDS) if record not in rejected]
    batches = [good[at : at + BATCH] for at in range(0, len(good), BATCH)]
    skipped = [batches[0], batches[30], batches[100], batches[-1]]
    moment = Moment(tmp_path / "moment")
    values = [skipped[0][3], skipped[1][0], skipped[1][-1], skipped[2][5], skipped[3][-1]]
    with serving(spoilt(values, rejected)) as url:
        life = count(nursery, tmp_path, url)
        wait_until(lambda: moment.steps >= 60, "60 steps")
        assert end(life, signal.SIGKILL) == -signal.SIGKILL
        life = count(nursery, tmp_path, url)
        assert wait(life) == 0, tail(life)
    state, said = newest(tmp_path), life.log.read_text()
    counts = state["model"]["counts"].tolist()
    untrained = sorted([*rejected, *(record for batch in skipped for record in batch)])
    assert [record for record, times in enumerate(counts) if times != 1] == untrained
    assert sum(counts) == state["samples"] == SPOILT_RECORDS - len(untrained)
    ledger = Ledger.from_state(state["stream"]["ledger"])
    ledger.check(state["stream"]["positions"], {}, {})
    fates = {"trained": state["samples"], "skipped": sum(map(len, skipped)), "rejected": len(rejected)}
    assert ledger.totals() == dict.fromkeys(FATES, 0) | fates
    assert state["batches"] == len(batches)
    assert {each["record"]["id"].item() for each in read_quarantine(tmp_path / "run" / FILE)} == set(rejected)
    assert "batch 1 was skipped: its loss or a gradient is no number; 20 records so far" in said
    assert "a record was rejected and is in " in said
    assert f"skipped {ledger.totals()['skipped']}  rejected {len(rejected)}" in said


def test_the_changes_of_a_stream_are_told_once_each_over_a_kill(nursery: Nursery, tmp_path: Path) -> None:
    (tmp_path / "changes.yaml").write_text(
        "[{change: invert, at: 300, until: 900}, {change: swap, classes: [1, 2], at: 700, over: 500}]"
    )
    source = NumberedPictures(padding=1, validation=0)
    drift = Drift(read_schedule(tmp_path / "changes.yaml"), source.schema)
    options = ["--batch_size", "32", "--checkpoint_every", "512"]
    with serving(ComputedLog(source, Dealing(2, 64), passes=1, pace=Pace(2000), drift=drift)) as url:
        life = begin(nursery, tmp_path, url, *options)
        wait_until(lambda: "changes at record 700" in life.log.read_text(), "the change behind the checkpoint")
        assert end(life, signal.SIGKILL) == -signal.SIGKILL
        life = begin(nursery, tmp_path, url, *options)
        assert wait(life) == 0, tail(life)
    wanted = {
        320: "the stream changes at record 300: invert begins",
        704: "the stream changes at record 700: swap {classes: [1, 2]} begins, gradually over 500 records",
        928: "the stream changes at record 900: invert ends",
    }
    told = facts(tmp_path, "change")
    assert [(each["samples"], each["text"]) for each in told] == list(wanted.items())
    assert [(each["record"], each["partition"], each["offset"]) for each in told] == [
        (at, *Dealing(2, 64).locate(at)) for at in (300, 700, 900)
    ]
    events = plugin_event_accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    texts = [(each.step, each.tensor_proto.string_val[0].decode()) for each in events.Tensors("events/text_summary")]
    for samples, text in wanted.items():
        shown = text.replace("[", "\\[").replace("]", "\\]")
        assert [step for step, said in texts if shown in said] == [samples]
        assert f"samples {samples}  {text}" in life.log.read_text()


def test_a_run_that_would_skip_everything_ends_with_its_last_good_checkpoint(nursery: Nursery, tmp_path: Path) -> None:
    with serving(spoilt(range(400, SPOILT_RECORDS))) as url:
        life = count(nursery, tmp_path, url)
        assert wait(life) == 1, tail(life)
    assert life.log.read_text().count("was skipped: ") == 1, "said at most once in ten seconds"
    last = tail(life, 1)
    assert "no number in 100 batches in a row at 400 samples; the last good checkpoint is " in last
    assert newest(tmp_path)["samples"] == 400
