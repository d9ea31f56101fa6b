"""Which number is which chart in TensorBoard, and which charts share a page."""

from collections.abc import Mapping

from trainer.report import Report, ValidationReport
from trainer.wording import metric_names

#: The page of custom scalars: what matters, in the order in which it is looked for.
LAYOUT = {
    "training": {
        "loss": ["Multiline", ["^loss/train$", "^loss/(validation.*|stream_validation|held_out.*)$"]],
        "accuracy": ["Multiline", ["^accuracy/train$", "^accuracy/(validation.*|stream_validation|held_out.*)$"]],
        "prequential accuracy": ["Multiline", ["^prequential/accuracy_.*$"]],
        "prequential loss": ["Multiline", ["^prequential/loss_.*$"]],
        "learning rate": ["Multiline", ["^learning_rate$"]],
        "accuracy of each class": ["Multiline", ["^accuracy_by_class/.*$"]],
        "gradient norm": ["Multiline", ["^norm/gradient$"]],
        "weight norm": ["Multiline", ["^norm/weight$"]],
    },
    "stream": {
        "samples per second": ["Multiline", ["^throughput/samples_per_s$"]],
        "sample age in ms": ["Multiline", ["^sample_age_ms/p50$", "^sample_age_ms/p99$"]],
        "lag in records": ["Multiline", ["^lag$", "^lag_by_stream/.*$"]],
        "ledger in records": ["Multiline", ["^ledger/.*$"]],
    },
    "time": {
        "where time goes, in shares": ["Multiline", ["^stages/.*$"]],
    },
}

Scalars = Mapping[str, float | None]


def report_scalars(report: Report) -> Scalars:
    """The numbers of a report by tag; None where one is not known."""
    return {
        **_by_name(report.train, "train"),
        **{f"prequential/{name}": report.prequential[name] for name in metric_names(report.prequential)},
        "learning_rate": report.learning_rate,
        **{f"norm/{name}": norm for name, norm in report.norms.items()},
        "throughput/samples_per_s": report.samples_per_s,
        "sample_age_ms/p50": report.sample_age_ms_p50,
        "sample_age_ms/p99": report.sample_age_ms_p99,
        "lag": report.stream.lag,
        **{f"samples_by_stream/{each.name}": each.samples for each in report.stream.streams},
        **{f"lag_by_stream/{each.name}": each.lag for each in report.stream.streams},
        **{f"share_by_stream/{name}": share for name, share in report.shares.items()},
        **{f"ledger/{name}": count for name, count in report.stream.ledger.items()},
        **{f"stages/{name}": share for name, share in report.stages.items()},
    }


def validation_scalars(report: ValidationReport) -> Scalars:
    """The numbers of a validation by tag; the last value under `best` is that of the lowest loss."""
    return {
        **_by_name(report.metrics, "validation"),
        **(_by_name(report.metrics, "best") if report.best else {}),
        **{f"accuracy_by_class/{name}": share for name, share in report.per_class.items()},
        **{tag: value for name, metrics in report.others.items() for tag, value in _by_name(metrics, name).items()},
    }


def _by_name(metrics: Mapping[str, float], side: str) -> dict[str, float | None]:
    return {f"{name}/{side}": metrics[name] for name in metric_names(metrics)}
