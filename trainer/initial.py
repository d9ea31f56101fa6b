"""The weights that a new run begins with: those of another run, all of them or some by their names."""

import re
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from protocol.errors import UsageError
from trainer.trained import best_checkpoint, weights_of


@dataclass(frozen=True, kw_only=True)
class InitialSettings:
    """Where a new run takes its weights from; a run that goes on has its own."""

    init_from: str = ""
    """Directory of a run whose best checkpoint gives the first weights, such as those of a trunk to be frozen."""

    init_names: str = ""
    """Regular expression: only parameters and buffers whose name it finds are taken from there; all by default."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.init_names)
        except re.error as error:
            raise UsageError(f"--init_names {self.init_names!r} is no regular expression: {error}") from error
        if self.init_names and not self.init_from:
            raise UsageError("--init_names says what to take from another run: give --init_from as well")


def take_weights(model: nn.Module, settings: InitialSettings) -> str:
    """Put the other run's weights into the model; says in a line what was taken, "" where nothing is asked for.

    Nothing of the other run but numbers is read: its classes are not imported. Raises `UsageError` where it has no
    checkpoint, and for a name that the model has not, or has in another shape.
    """
    if not settings.init_from:
        return ""
    path, state, _ = best_checkpoint(Path(settings.init_from).expanduser())
    own, weights = model.state_dict(), weights_of(state)
    taken = {name: value for name, value in weights.items() if re.search(settings.init_names, name)}
    if not taken:
        raise UsageError(f"--init_names {settings.init_names!r} finds none of {', '.join(weights)} in {path}")
    for name, value in taken.items():
        there = f"{list(value.shape)} in {path}"
        if name not in own or own[name].shape != value.shape:
            here = list(own[name].shape) if name in own else "not in this model"
            raise UsageError(f"{name} is {there} and {here} here: take others only, by --init_names")
    model.load_state_dict(own | taken)
    return f"{len(taken)} of {len(own)} tensors of the model were taken from {path}"
