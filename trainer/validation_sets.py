"""What a run validates on: a set of the user's own, splits of the stream, records that are held out of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from protocol.schema import Schema
from trainer.holdout import Holdout
from trainer.splits import VALIDATION, Batches, batches_of, batches_of_own

#: What no split is called here: their names begin with "validation".
OWN, HELD_OUT, STREAMS = "own", "held_out", "stream_validation"


@dataclass(frozen=True, kw_only=True)
class ValidationSets:
    """Sets by name, in the order in which they are asked to judge: the first one does, the others are shown beside it.

    `held_out` gives the records that are held out by now, perhaps none; None where the run holds none out.
    """

    fixed: Mapping[str, Batches] = field(default_factory=dict)
    held_out: Callable[[], Holdout | None] = lambda: None
    batch_size: int = 1000

    def now(self) -> dict[str, Batches]:
        """Those that have records."""
        held_out = self.held_out()
        if not held_out:
            return dict(self.fixed)
        return {**self.fixed, HELD_OUT: batches_of(held_out, self.batch_size)}


def validation_sets(
    splits: Mapping[str, Holdout],
    held_out: Callable[[], Holdout | None],
    own: Any,
    schema: Schema,
    batch_size: int,
) -> ValidationSets:
    """`own`, if there is one, then each split whose name begins with "validation", then the held-out records.

    Beside a set of the user's own, the split `validation` is called `stream_validation`: who judges is the validation.
    """
    fixed = {} if own is None else {OWN: batches_of_own(own, schema, batch_size)}
    names = sorted(name for name in splits if name.startswith(VALIDATION))  # "validation" itself is the first
    called = {VALIDATION: STREAMS} if fixed else {}
    fixed |= {called.get(name, name): batches_of(splits[name], batch_size) for name in names}
    return ValidationSets(fixed=fixed, held_out=held_out, batch_size=batch_size)
