"""Watches the validations: the best so far, over-fitting, and when to stop because of it."""

from dataclasses import dataclass
from math import inf
from typing import Any

from protocol.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class StoppingSettings:
    """When over-fitting is said, and whether it ends the run."""

    overfitting_after: int = 3
    """Validations without a new best, while the training loss went on falling, after which over-fitting is said."""

    early_stop: int = 0
    """Stop after so many of them; 0 never stops."""

    def __post_init__(self) -> None:
        if self.overfitting_after < 1:
            raise UsageError(f"over-fitting after {self.overfitting_after} validations: give 1 or more")
        if self.early_stop < 0:
            raise UsageError(f"early_stop {self.early_stop}: give a number of validations, or 0 to never stop")


@dataclass(frozen=True)
class Verdict:
    """On one validation: the `best` so far; `overfitting`, where this one shows it first; time to `stop`."""

    best: bool
    overfitting: bool
    stop: bool


class Stopping:
    """Counts the validations since the best one that show over-fitting.

    One counts where the training loss fell below all that was seen since the best while the validation loss did not
    fall below its best. So a run that has merely come to rest is not called over-fitted, nor is one whose stream
    became harder, where both losses rise. A new best ends the episode and the next one is said anew.
    """

    def __init__(self, settings: StoppingSettings) -> None:
        self._settings = settings
        self.best_loss = inf
        self.best_samples = 0
        #: Validations that show over-fitting, since the best one.
        self.count = 0
        self._lowest_train_loss = inf
        self._said = False

    def observe(self, samples: int, train_loss: float, validation_loss: float) -> Verdict:
        """Take in a validation after `samples` trained samples, and the mean training loss since the one before."""
        if validation_loss < self.best_loss:
            self.best_loss, self.best_samples = validation_loss, samples
            self.count, self._lowest_train_loss, self._said = 0, train_loss, False
            return Verdict(best=True, overfitting=False, stop=False)
        if train_loss < self._lowest_train_loss:
            self._lowest_train_loss = train_loss
            self.count += 1
        settings = self._settings
        overfitting = not self._said and self.count >= settings.overfitting_after
        self._said |= overfitting
        return Verdict(best=False, overfitting=overfitting, stop=0 < settings.early_stop <= self.count)

    def explanation(self) -> str:
        """What an over-fitting or stopped run says, in one line."""
        return (
            f"over-fitting: {self.count} validations without a loss below {self.best_loss:.4f} (at "
            f"{self.best_samples:,} samples) while the training loss went on falling"
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next verdict depends on, besides the settings."""
        return {
            "best_loss": self.best_loss,
            "best_samples": self.best_samples,
            "count": self.count,
            "lowest_train_loss": self._lowest_train_loss,
            "said": self._said,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The reverse."""
        self.best_loss, self.best_samples, self.count = state["best_loss"], state["best_samples"], state["count"]
        self._lowest_train_loss, self._said = state["lowest_train_loss"], state["said"]
