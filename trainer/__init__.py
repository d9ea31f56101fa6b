"""Trains on streams: `StreamLoader`, `MixedLoader` in somebody's own loop, `python -m trainer`; then `Predictor`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.dataset import StreamDataset
    from trainer.loader import StreamLoader
    from trainer.mixed_loader import MixedLoader
    from trainer.predictor import Predictor

__all__ = ["MixedLoader", "Predictor", "StreamDataset", "StreamLoader"]


def __getattr__(name: str) -> Any:
    """Import on first use: torch takes seconds, and the command line has something to say before."""
    if name == "StreamLoader":
        from trainer.loader import StreamLoader

        return StreamLoader
    if name == "MixedLoader":
        from trainer.mixed_loader import MixedLoader

        return MixedLoader
    if name == "StreamDataset":
        from trainer.dataset import StreamDataset

        return StreamDataset
    if name == "Predictor":
        from trainer.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
