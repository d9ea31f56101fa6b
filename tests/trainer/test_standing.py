"""How each of several streams stands: as the loader says it, and as reports, Prometheus and TensorBoard show it."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from protocol.exposition import Family
from protocol.subscription import Away
from tests.trainer.numbered import NumberedRecords
from tests.trainer.streams import computed, serving
from tests.trainer.test_jsonl_sink import report, start
from trainer.jsonl_sink import JsonlSink, read_lines
from trainer.loader import StreamLoader
from trainer.mix import names_of
from trainer.mixed_loader import MixedLoader
from trainer.prometheus_sink import PrometheusSink
from trainer.report import Progress, Report, StreamStanding, Waiting
from trainer.sampling import SamplingSettings
from trainer.standing import Shares, standing
from trainer.tensorboard_layout import report_scalars

NOBODY = "tcp://127.0.0.1:1"
ONE, OTHER = "tcp://a:1", "kafka://b:2/clicks"


@pytest.fixture(scope="module")
def streams() -> Iterator[tuple[str, str]]:
    """900 records and 300, as fast as they are read."""
    much, little = (NumberedRecords(count, size=64, validation=0) for count in (900, 300))
    with serving(computed(much)) as one, serving(computed(little, seed=1)) as other:
        yield one, other


def mixed(urls: Sequence[str], **options: Any) -> MixedLoader:
    """48 records of the first stream and 16 of each other in every batch."""
    sampling = SamplingSettings(shuffle_window=100)
    sizes = [48, *(16 for _ in urls[1:])]
    loaders = [StreamLoader(url, batch_size=size, sampling=sampling) for url, size in zip(urls, sizes, strict=True)]
    return MixedLoader(loaders, **options)


def train(loader: MixedLoader, batches: int) -> Shares:
    """So many batches; whose their records were."""
    shares = Shares([each.name for each in loader.position.streams])
    for number, batch in enumerate(loader, start=1):
        loader.mark_trained(batch)
        shares.count(batch)
        if number == batches:
            break
    return shares


def test_what_was_trained_of_each_stream_adds_up_over_lives_also_within_windows(streams: tuple[str, str]) -> None:
    loader = mixed(streams)
    shares = train(loader, 5)
    one, other = loader.position.streams
    assert (one.name, one.samples, one.state, one.away) == (streams[0], 240, "streaming", False)
    assert (other.name, other.samples, other.state, other.away) == (streams[1], 80, "streaming", False)
    assert (one.lag or 0) + (other.lag or 0) == loader.position.lag > 0
    assert shares.since_last() == {streams[0]: 0.75, streams[1]: 0.25}
    assert shares.since_last() == {}
    later = mixed(streams)
    later.load_state_dict(loader.state_dict())
    later.connect()
    assert [each.samples for each in later.position.streams] == [240, 80]
    train(later, 1000)
    assert [(each.samples, each.state, each.lag) for each in later.position.streams] == [
        (900, "ended", 0),
        (300, "ended", 0),
    ]


def test_a_stream_that_is_away_or_not_there_says_so(streams: tuple[str, str]) -> None:
    first = mixed(streams)
    train(first, 5)
    state = first.state_dict()
    for each in state["streams"]:
        each["url"] = NOBODY if each["url"] == streams[1] else each["url"]
    loader = mixed([streams[0], NOBODY], without_after_s=0)
    loader.load_state_dict(state)
    loader.connect()
    one, other = loader.position.streams
    assert (one.state, one.away) == ("streaming", False)
    assert other == StreamStanding(name=NOBODY, state="not there", away=True, samples=80, lag=None)
    loader.present[0].position.hear(Away(12.0))
    (one, _) = loader.position.streams
    assert (one.state, one.away) == ("away 12 s", True)


def test_one_stream_has_no_such_list(streams: tuple[str, str]) -> None:
    loader = StreamLoader(streams[0], batch_size=50)
    assert standing(loader, balanced=True).streams == ()
    shares = Shares([each.name for each in loader.position.streams])
    for batch in loader:
        shares.count(batch)
    assert shares.since_last() == {}


def test_a_name_is_the_url_without_its_options_and_no_two_are_the_same() -> None:
    assert names_of([ONE, f"{OTHER}?settings=secret.yaml"]) == [ONE, OTHER]
    assert names_of([OTHER, f"{OTHER}?format=raw", ONE]) == [f"{OTHER} (1)", f"{OTHER} (2)", ONE]


# --- where it is shown --------------------------------------------------------------------------------------------


STANDINGS = (
    StreamStanding(name=ONE, state="streaming", away=False, samples=48, lag=7),
    StreamStanding(name=OTHER, state="not there", away=True, samples=16, lag=None),
)


def report_of_a_mix() -> Report:
    plain = report(64)
    stream = dataclasses.replace(plain.stream, streams=STANDINGS)
    return dataclasses.replace(plain, stream=stream, shares={ONE: 0.75, OTHER: 0.25})


class Page:
    """Stands in for the page: what it was given last."""

    def show(self, families: Sequence[Family]) -> None:
        self.told = {family.name: dict(family.values) for family in families if "_stream_" in family.name}


def test_prometheus_has_each_stream_as_fresh_as_progress_and_waiting_tell() -> None:
    page = Page()
    sink = PrometheusSink(page)  # type: ignore[arg-type]
    sink.write(start(0, resumed=False))
    sink.write(report(64))
    assert page.told == {}
    sink.write(report_of_a_mix())
    assert page.told == {
        "headrace_stream_samples_trained": {(ONE,): 48, (OTHER,): 16},
        "headrace_stream_lag_records": {(ONE,): 7},
        "headrace_stream_away": {(ONE,): 0, (OTHER,): 1},
        "headrace_stream_share_ratio": {(ONE,): 0.75, (OTHER,): 0.25},
    }
    sink.write(Progress(samples=80, samples_per_s=None, streams=(dataclasses.replace(STANDINGS[0], samples=64),)))
    assert page.told["headrace_stream_samples_trained"] == {(ONE,): 64}
    sink.write(Waiting(text="a producer", waited_s=1.0, streams=(dataclasses.replace(STANDINGS[0], away=True),)))
    assert page.told["headrace_stream_away"] == {(ONE,): 1}


def test_metrics_and_charts_have_each_stream(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "metrics.jsonl", wall_s=time.monotonic)
    sink.write(start(0, resumed=False))
    sink.write(report_of_a_mix())
    *_, line = read_lines(tmp_path / "metrics.jsonl")
    assert line["stream"]["streams"][1] == {
        "name": OTHER,
        "state": "not there",
        "away": True,
        "samples": 16,
        "lag": None,
    }
    assert line["shares"] == {ONE: 0.75, OTHER: 0.25}
    scalars = {tag: value for tag, value in report_scalars(report_of_a_mix()).items() if "_by_stream/" in tag}
    assert scalars == {
        f"samples_by_stream/{ONE}": 48,
        f"samples_by_stream/{OTHER}": 16,
        f"lag_by_stream/{ONE}": 7,
        f"lag_by_stream/{OTHER}": None,
        f"share_by_stream/{ONE}": 0.75,
        f"share_by_stream/{OTHER}": 0.25,
    }
