"""What a run of the benchmarks is told, and what each group of rows receives of it."""

from dataclasses import dataclass
from math import inf
from typing import Any, Final

from protocol.errors import UsageError

ROUNDS: Final = 3
QUICK_ROUNDS: Final = 1
SECONDS: Final = 0.6
QUICK_SECONDS: Final = 0.3
#: A further round is begun only where it is done within this time.
BUDGET_S: Final = 690.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured, and on what."""

    data: str = "data"
    """Folder of FashionMNIST."""
    device: str = "cpu"
    """Where steps are computed: cpu, cuda or cuda:N."""
    quick: bool = False
    """Fewer cells, one round."""
    long: bool = False
    """What takes minutes as well."""
    peers: bool = False
    """All peers, not only those that need nothing more."""
    rounds: int = 0
    """Rounds over all cells; 0: as many as fit the run."""
    seconds: float = 0.0
    """Measured time of one cell; 0: as long as fits the run."""
    warm_s: float = 0.5
    """Time before it, part of which goes into checking."""

    def __post_init__(self) -> None:
        if self.rounds < 0:
            raise UsageError(f"--rounds {self.rounds}: give 1 or more, or 0 for as many as fit the run")
        if not (self.seconds >= 0 and self.warm_s > 0):
            raise UsageError("--seconds is 0 or more and --warm_s above 0")

    @property
    def rounds_due(self) -> int:
        """Rounds over all cells."""
        return self.rounds or (QUICK_ROUNDS if self.quick else ROUNDS)

    @property
    def seconds_due(self) -> float:
        """Measured time of one cell."""
        return self.seconds or (QUICK_SECONDS if self.quick else SECONDS)

    @property
    def budget_s(self) -> float:
        """Seconds within which a run of all cells ends; as long as it takes where the rounds were asked for."""
        return inf if self.rounds else BUDGET_S

    def times(self) -> dict[str, Any]:
        """Arguments that every cell with a clock takes."""
        return {"seconds": self.seconds_due, "warm_s": self.warm_s}
