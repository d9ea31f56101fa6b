"""What a run tells Prometheus, fact by fact."""

from collections.abc import Sequence

import pytest

from protocol.exposition import Family
from tests.trainer.test_jsonl_sink import report, start
from trainer.prometheus_sink import PrometheusSink
from trainer.report import Notice, Progress, ValidationReport


class Page:
    """Stands in for the page: what it was given last."""

    closed = False

    def show(self, families: Sequence[Family]) -> None:
        self.told = {family.name: dict(family.values) for family in families}

    def close(self) -> None:
        self.closed = True


def test_the_page_has_the_newest_facts_of_the_run() -> None:
    page = Page()
    sink = PrometheusSink(page)  # type: ignore[arg-type]
    sink.write(start(10, resumed=True))
    assert page.told == {"headrace_samples_trained": {(): 10}}
    sink.write(report(64, loss=0.5))
    sink.write(ValidationReport(samples=64, metrics={"loss": 0.4}, best=True))
    sink.write(Notice(samples=65, text="passed over"))
    sink.write(Progress(samples=96, samples_per_s=None))
    assert page.told["headrace_samples_trained"] == {(): 96}
    assert page.told["headrace_train"] == {("loss",): 0.5, ("count",): 64.0}
    assert page.told["headrace_validation"] == {("loss",): 0.4}
    assert page.told["headrace_ledger_records"] == {("trained",): 64}
    assert page.told["headrace_stage_ratio"] == {("step",): 0.75, ("source",): 0.25}
    assert page.told["headrace_sample_age_seconds"] == {
        ("0.5",): pytest.approx(0.001),
        ("0.99",): pytest.approx(0.002),
    }
    assert page.told["headrace_lag_records"] == {(): 3}
    sink.close()
    assert page.closed
