"""Which class was told for which: counted over the records of a validation."""

from collections.abc import Mapping, Sequence

import torch

from trainer.task import Outcome

#: More classes than this are not shown one by one: nobody reads such a matrix, and it grows with their square.
MOST_CLASSES = 30


class Confusion:
    """Numbers of records by class and by the class that got the highest score.

    They stay on the device of the scores until they are read. A task that gives no scores leaves it empty.
    """

    def __init__(self) -> None:
        #: 0 while no scores were seen.
        self.classes = 0

    @property
    def shown(self) -> bool:
        """Whether there are classes, and few enough to show them one by one."""
        return 0 < self.classes <= MOST_CLASSES

    def observe(self, _columns: Mapping[str, torch.Tensor], outcome: Outcome) -> None:
        """Count a batch in; a target of -1 is no class and is not counted."""
        if outcome.scores is None or outcome.targets is None:
            return
        if not self.classes:
            self._begin(outcome.scores)
        told, targets = outcome.scores.argmax(dim=1), outcome.targets.long()
        self._totals.index_put_((targets,), self._one, accumulate=True)
        self._right.index_put_((targets,), (told == targets).long(), accumulate=True)
        if self.shown:
            self._matrix.index_put_((targets, told), self._one, accumulate=True)

    def matrix(self) -> list[list[int]]:
        """[class][told class]: numbers of records; empty without scores, and for more than `MOST_CLASSES`."""
        return self._matrix[:-1].tolist() if self.shown else []

    def per_class(self, names: Sequence[str]) -> dict[str, float]:
        """The share of each class's records that was told right, by its name where it has one, else by its number.

        Classes without a record are left out.
        """
        if not self.classes:
            return {}
        counts = zip(self._right[:-1].tolist(), self._totals[:-1].tolist(), strict=True)
        return {
            names[number] if number < len(names) else str(number): right / total
            for number, (right, total) in enumerate(counts)
            if total
        }

    def _begin(self, scores: torch.Tensor) -> None:
        self.classes, device = scores.shape[1], scores.device
        rows = self.classes + 1  # -1 is the last one
        self._one = torch.ones((), dtype=torch.int64, device=device)
        self._totals, self._right = torch.zeros((2, rows), dtype=torch.int64, device=device)
        if self.shown:
            self._matrix = torch.zeros((rows, self.classes), dtype=torch.int64, device=device)
