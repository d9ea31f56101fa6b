"""The run as numbers for Prometheus: where it stands now, and what its last report and validation said."""

from collections.abc import Iterator, Mapping, Sequence

from protocol.exposition import Exposition, Family, Values
from trainer.report import Fact, Progress, Report, Sink, Start, StreamStanding, ValidationReport, Waiting


class PrometheusSink(Sink):
    """Shows the newest facts on a page; it makes no history, which is Prometheus's to keep."""

    name = "the metrics for Prometheus"

    def __init__(self, page: Exposition) -> None:
        self._page = page
        self._samples = 0
        self._report: Report | None = None
        self._validation: ValidationReport | None = None
        self._streams: Sequence[StreamStanding] = ()

    def write(self, fact: Fact) -> None:
        match fact:
            case Start():
                self._samples = fact.samples
            case Progress():
                self._samples, self._streams = fact.samples, fact.streams
            case Waiting():
                self._streams = fact.streams
            case Report():
                self._samples, self._streams, self._report = fact.samples, fact.stream.streams, fact
            case ValidationReport():
                self._samples, self._validation = fact.samples, fact
            case _:
                return
        self._page.show([*self._of_run(), *self._of_report(), *self._of_streams(), *self._of_validation()])

    def flush(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        self._page.close()

    def _of_run(self) -> Iterator[Family]:
        yield Family.counter("headrace_samples_trained", "Samples trained, over all lives of the run.", self._samples)

    def _of_report(self) -> Iterator[Family]:
        report = self._report
        if report is None:
            return
        stream = report.stream
        yield Family.counter("headrace_batches", "Batches, over all lives of the run.", report.batches)
        yield Family.gauge("headrace_learning_rate", "Of the optimizer's first group.", report.learning_rate)
        yield _by_name("headrace_train", "Training since the last report.", "metric", report.train)
        yield _by_name("headrace_prequential", "Records before they were learnt from.", "metric", report.prequential)
        yield _by_name("headrace_stage_ratio", "Where the time since the last report went.", "stage", report.stages)
        yield _by_name("headrace_ledger_records", "Where the records went.", "fate", stream.ledger)
        if report.samples_per_s is not None:
            yield Family.gauge("headrace_samples_per_second", "Since the last report.", report.samples_per_s)
        if stream.lag is not None:
            yield Family.gauge("headrace_lag_records", "In the log and not trained.", stream.lag)
        ages_ms = {"0.5": report.sample_age_ms_p50, "0.99": report.sample_age_ms_p99}
        ages_s = {quantile: age_ms / 1000 for quantile, age_ms in ages_ms.items() if age_ms is not None}
        yield _by_name("headrace_sample_age_seconds", "From event to training.", "quantile", ages_s)

    def _of_streams(self) -> Iterator[Family]:
        if not self._streams:
            return
        samples: Values = {(each.name,): each.samples for each in self._streams}
        text = "Samples trained of each of several streams, over all lives of the run."
        yield Family("counter", "headrace_stream_samples_trained", text, samples, ("stream",))
        lags = {each.name: each.lag for each in self._streams if each.lag is not None}
        yield _by_name("headrace_stream_lag_records", "In its log and not trained.", "stream", lags)
        away = {each.name: each.away for each in self._streams}
        yield _by_name("headrace_stream_away", "Whether its producer is waited for: 0 or 1.", "stream", away)
        shares = self._report.shares if self._report is not None else {}
        yield _by_name("headrace_stream_share_ratio", "Whose the samples since the last report were.", "stream", shares)

    def _of_validation(self) -> Iterator[Family]:
        if self._validation is not None:
            text = "The last validation."
            yield _by_name("headrace_validation", text, "metric", self._validation.metrics)
            yield Family.gauge("headrace_validation_samples", "Samples that it came after.", self._validation.samples)


def _by_name(name: str, text: str, label: str, values: Mapping[str, float]) -> Family:
    return Family("gauge", name, text, {(each,): float(value) for each, value in values.items()}, (label,))
