"""What a run validates on, and which set judges."""

import numpy as np
import torch

from protocol.schema import Field, Schema
from trainer.holdout import Holdout
from trainer.validation_sets import ValidationSets, validation_sets

SCHEMA = Schema((Field("value", "int64"),))


def records(count: int) -> Holdout:
    return Holdout(SCHEMA, "of a test", {"value": np.arange(count)})


def sets_of(*splits: str, own: object = None, held_out: Holdout | None = None) -> ValidationSets:
    held = {} if held_out is None else {"of the stream": held_out}
    return validation_sets({name: records(3) for name in splits}, lambda: held, own, SCHEMA, 2)


def test_a_set_of_the_users_own_judges_before_the_splits_and_these_before_what_is_held_out() -> None:
    sets = sets_of("test", "validation_dark", "validation", own=[(1,), (2,)], held_out=records(5))
    assert list(sets.now()) == ["own", "stream_validation", "validation_dark", "held_out"]
    assert list(sets_of("test", "validation_dark", "validation").now()) == ["validation", "validation_dark"]
    assert list(sets_of("test").now()) == []


def test_held_out_records_are_looked_at_anew_and_only_where_there_are_some() -> None:
    held = [{}, {"one": records(0)}, {"one": records(3), "other": records(0)}]
    sets = ValidationSets(held_out=lambda: held.pop(0), batch_size=2)
    assert sets.now() == sets.now() == {}
    (batches,) = sets.now().values()
    assert [batch["value"].tolist() for batch in batches] == [[0, 1], [2]]
    assert isinstance(next(iter(batches))["value"], torch.Tensor)
