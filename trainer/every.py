"""When something falls due that is done every n samples."""

from dataclasses import dataclass

from protocol.errors import UsageError


@dataclass(frozen=True)
class Every:
    """Due each time that the samples trained cross a multiple of `samples`; 0 means never.

    It remembers nothing: a resumed run finds the same moments as one that was never stopped, whatever its batch
    boundaries were before.
    """

    samples: int

    def __post_init__(self) -> None:
        if self.samples < 0:
            raise UsageError(f"an interval of {self.samples} samples: give 1 or more, or 0 for never")

    def due(self, before: int, after: int) -> bool:
        """Whether going from `before` to `after` samples trained reached or passed a multiple."""
        return self.samples > 0 and after // self.samples > before // self.samples
