"""States of parts of a run: how they go through a checkpoint, and what windows of outcomes are made of."""

import io
from typing import Any

import torch

from trainer.task import Outcome


def outcome(loss: float, count: int, correct: int = 0) -> Outcome:
    return Outcome(torch.tensor(loss), count, {"correct": torch.tensor(correct)})


def through_a_checkpoint(state: Any) -> Any:
    """What another life reads of it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_same(one: Any, other: Any) -> None:
    """Bit for bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert_same(value, other[name])
    else:
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
