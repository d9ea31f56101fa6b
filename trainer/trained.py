"""The model of a run that was trained, as its best checkpoint or an export has it; works offline."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from protocol.class_path import named_paths, say_imports
from protocol.command_line import ArgumentParser
from protocol.errors import UsageError
from protocol.stream import StreamInfo
from trainer.checkpoint_files import State, load_best, load_newest
from trainer.collation import Collate, Pad
from trainer.decoding import Decoder
from trainer.parts import add_model, fitting
from trainer.reading import add_reading
from trainer.task import Task

#: Of the settings of meaning, what its records are read and its answers are told by.
REBUILT = ("model", "task", "decode", "collate")


@dataclass(frozen=True)
class Trained:
    """Model and task out of the checkpoint at `path`; `remarks` are what is to be said of it."""

    path: Path
    state: State
    model: nn.Module
    task: Task
    remarks: tuple[str, ...]
    decoders: Sequence[Decoder] = ()
    collate: Collate = field(default_factory=Pad)

    @property
    def info(self) -> StreamInfo:
        """The stream that it has learnt from. Raises `UsageError` for a checkpoint that does not say."""
        if "info" not in self.state:
            raise UsageError(
                f"{self.path} is of an earlier version, which kept nothing of its records: train in another --run_dir"
            )
        return StreamInfo.from_wire(self.state["info"])


def best_checkpoint(run_dir: Path) -> tuple[Path, State, tuple[str, ...]]:
    """The best by validation loss and what is to be said of it; of a run that was never validated, the newest one.

    Raises `UsageError` where there is none.
    """
    remarks: list[str] = []
    found = load_best(run_dir, remarks.append)
    if found is None and (found := load_newest(run_dir, remarks.append)) is not None:
        remarks.append("the run was never validated, so its newest checkpoint stands in for the best")
    if found is None:
        raise UsageError(f"{run_dir} holds no checkpoint: train first, or give another --run_dir")
    return *found, tuple(remarks)


def weights_of(state: State) -> dict[str, Any]:
    """The model's state that was validated: averaged, where the run keeps an average."""
    average = state.get("average")
    weights: dict[str, Any] = state["model"] if average is None else average["module"]
    return weights


def open_trained(path: Path, state: State, remarks: tuple[str, ...] = ()) -> Trained:
    """The model of a checkpoint, as `best_checkpoint` gives it.

    Says which classes of other people's it imports. Raises `UsageError` where they do not fit the checkpoint any more.
    """
    parser = ArgumentParser()
    add_model(parser)
    add_reading(parser)
    meaning = {name: state["meaning"][name] for name in REBUILT if name in state["meaning"]}
    say_imports(path, named_paths(meaning, ("decode", "collate")))
    made = parser.make(parser.parse_object(deepcopy(meaning)))  # it puts functions where their paths were
    with fitting(path):
        made.model.load_state_dict(weights_of(state))
    return Trained(path, state, made.model, made.task, remarks, made.decode, made.collate)
