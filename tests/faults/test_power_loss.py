"""Row 15: the power fails between any two operations of a save; what was durable is resumed, and never less."""

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from protocol.errors import HeadraceError
from tests.faults.conftest import Row
from tests.faults.power import Choice, Disk, Left, lay
from trainer.checkpoint import Checkpointer, CheckpointSettings
from trainer.checkpoint_files import CHECKPOINTS, State, load_newest

pytestmark = pytest.mark.slow


#: The second is saved anew under its number, with the validation that was due.
SAVES = (100, 200, 200, 300, 400, 500)
KEPT = 2


def least(low: int, high: int) -> int:
    """Nothing but what is durable."""
    return low


def most(low: int, high: int) -> int:
    """All of it, as after a kill."""
    return high


def state(samples: int) -> State:
    return {"samples": samples, "weights": torch.full((20,), float(samples)), "stream": {"position": samples}}


class Losses:
    """Saves on a disk whose power is cut after each operation; what the next life would find is looked at each time."""

    def __init__(self, folder: Path, choices: Sequence[Choice], left_out: Callable[[Path], bool]) -> None:
        self._folder, self._choices = folder / "disk", choices
        self._found = folder / "found"
        self._folder.mkdir()
        self._disk = Disk(self._folder, self._look, left_out)
        self.durable = self.committed = 0
        self.outcomes: dict[Left, tuple[int, list[str]]] = {}
        self.operations: list[str] = []
        self.problems: list[str] = []

    def save(self, patch: pytest.MonkeyPatch) -> None:
        """One life, all saves."""
        with patch.context() as watching:
            self._disk.watch(watching)
            with Checkpointer(
                self._folder / "run", CheckpointSettings(keep=KEPT), self._hand_on, pytest.fail
            ) as checkpointer:
                self._checkpointer = checkpointer
                for samples in SAVES:
                    checkpointer.save(samples, state(samples), best=samples == 300)
                    checkpointer.save(samples, state(samples))
                    checkpointer.flush()
        lay(self._disk.root.left(most), self._found)
        assert tree(self._found) == tree(self._folder), "the record is not what happened"

    def _hand_on(self, stream: dict[str, int]) -> None:
        self.durable, self.committed = self._checkpointer.durable or 0, stream["position"]

    def _look(self, operation: str) -> None:
        self.operations.append(operation)
        for choose in self._choices:
            found, complaints = self._next_life(self._disk.root.left(choose))
            if complaints or found < self.durable or found < self.committed:
                self.problems.append(
                    f"after {operation} {len(self.operations)}: found {found}, durable {self.durable}, committed "
                    f"{self.committed}: {complaints}"
                )

    def _next_life(self, left: Left) -> tuple[int, list[str]]:
        """The samples that it would go on from, and what it would complain of."""
        if left not in self.outcomes:
            lay(left, self._found)
            complaints: list[str] = []
            try:
                newest = load_newest(self._found / "run", complaints.append)
            except HeadraceError as error:
                newest = None
                complaints.append(str(error))
            self.outcomes[left] = (0 if newest is None else newest[1]["samples"]), complaints
            shutil.rmtree(self._found)
        return self.outcomes[left]


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that lies in it."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def nothing(path: Path) -> bool:
    return False


def choices(seed: int, drawn: int) -> list[Choice]:
    """The two ends, and so many mixtures of them."""
    return [least, most, *[random.Random(seed + number).randint for number in range(drawn)]]


@pytest.mark.parametrize("drawn", [1, pytest.param(60, marks=pytest.mark.faults)])
def test_at_each_operation_of_a_save_the_last_durable_checkpoint_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, row: Row, drawn: int
) -> None:
    losses = Losses(tmp_path, choices(seed, drawn), nothing)
    losses.save(monkeypatch)
    assert losses.problems == []
    assert losses.durable == SAVES[-1]
    assert losses.committed == SAVES[-KEPT]
    kinds = {name: losses.operations.count(name) for name in sorted(set(losses.operations))}
    row(
        15,
        f"power lost after each of {len(losses.operations)} operations of {len(SAVES)} saves "
        f"({', '.join(f'{count} {name}' for name, count in kinds.items())})",
        f"{len(losses.outcomes)} different outcomes: the last durable checkpoint was resumed, never one behind "
        "what was committed",
    )


LEFT_OUT: dict[str, Callable[[Path], bool]] = {
    "the states": lambda path: path.name == "state.pt",
    "the manifests": lambda path: path.name == "manifest.json",
    "the folder of a checkpoint": lambda path: path.name.startswith("step-") and path.suffix == ".tmp",
    "the folder of all": lambda path: path.name == CHECKPOINTS,
    "the run directory": lambda path: path.name == "run",
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_the_check_sees_a_sync_that_was_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    losses = Losses(tmp_path, [least], LEFT_OUT[name])
    losses.save(monkeypatch)
    assert losses.problems
