"""The settings of a run as TensorBoard's HParams compares them over runs."""

from collections.abc import Iterator, Mapping
from typing import Any

from trainer.parts import MEANING

#: Charts whose last value stands beside the settings: while a run goes on, and after its end, however that came.
METRICS = (
    *("loss/best", "accuracy/best", "loss/validation", "accuracy/validation"),
    *("loss/train", "accuracy/train"),
)


def hparams_summaries(settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """Two summaries: which settings and charts there are, and what the settings of this run are.

    They are those that every life of the run has in common: TensorBoard keeps the first that it reads.
    """
    from torch.utils.tensorboard.summary import hparams

    told = {name: settings[name] for name in MEANING if name in settings}
    experiment, session, _ = hparams(dict(_named("", told)), dict.fromkeys(METRICS, 0.0))  # type: ignore[no-untyped-call]
    return experiment, session


def _named(prefix: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str | int | float]]:
    """Numbers and texts by name: of a class its path, and its arguments behind a dot, as the command line has them."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and "class_path" in value:
            yield prefix + name, value["class_path"]
            yield from _named(f"{prefix}{name}.", value.get("init_args") or {})
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield prefix + name, value
        elif value not in (None, ""):
            yield prefix + name, str(value)
