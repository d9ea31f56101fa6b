"""Which records of a stream are trained on and in which order: what takes the place of a sampler.

All of it is drawn from the seed and a record's own number or id, so a run that goes on, or is repeated, takes the same.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from protocol.errors import UsageError

MAX_WINDOW = 1 << 24
MAX_SEED = (1 << 32) - 1


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """What of a stream is trained on, and in which order. A run goes on with the same."""

    shuffle_window: int = 0
    """Records of the stream that are shuffled together: each window of so many is trained in an order drawn from the
    seed. It is waited for and held in memory twice to three times; 0: in stream order."""

    balance: bool = False
    """Of each shuffled window, train as many records of each class as it has of its rarest; the others are thinned."""

    thin: list[float] = field(default_factory=list)
    """The share of each class's records that is trained, from 0 to 1, one number a class (such as '[1, 0.1]'); the
    others are thinned. A label that the list does not name is trained."""

    holdout: float = 0.0
    """The share of the records that is held out for validation and never trained, for a stream without splits: chosen
    by a hash of the record's id, or of its place in a live stream that has none."""

    holdout_records: int = 5000
    """How many of the held-out records are kept to validate on: the newest."""

    drop_last: bool = False
    """Do not train the last batch of a stream where it is smaller than the others; its records count as skipped."""

    def __post_init__(self) -> None:
        if not 0 <= self.shuffle_window <= MAX_WINDOW:
            raise UsageError(f"--shuffle_window is from 0 (no shuffling) to {MAX_WINDOW:,} records")
        if self.balance and not self.shuffle_window:
            raise UsageError("--balance thins each shuffled window: give --shuffle_window, such as 10000")
        if not all(0 <= share <= 1 for share in self.thin) or (self.thin and not any(self.thin)):
            raise UsageError(f"--thin {self.thin}: give each class a share from 0 to 1, and one of them more than 0")
        if not 0 <= self.holdout < 1:
            raise UsageError(f"--holdout {self.holdout}: give a share from 0 to less than 1")
        if self.holdout_records < 1:
            raise UsageError("--holdout_records is at least 1")

    @property
    def draws(self) -> bool:
        """Whether the seed decides anything."""
        return bool(self.shuffle_window or self.thin or self.holdout)

    def state_dict(self, seed: int) -> dict[str, Any]:
        """Plain values; the seed that decides is one of them."""
        return {**asdict(self), "seed": seed if self.draws else 0}

    def check_same(self, state: dict[str, Any], seed: int) -> None:
        """Raise `UsageError` where a run was begun with other settings: its positions mean something else here."""
        now = self.state_dict(seed)
        differing = [f"{name} was {was}, is {now[name]}" for name, was in state.items() if now[name] != was]
        if differing:
            raise UsageError(f"the run was begun with other records: {'; '.join(differing)}: give these again")
