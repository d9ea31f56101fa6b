"""Checkpoints as they lie on disk: where, in which form, and which of them can be resumed.

    run_dir/checkpoints/step-000000012345/{state.pt,manifest.json}    12,345 samples were trained
    run_dir/best/step-000000010000/…                                  the same form

`step-….old` is one that was being replaced by another of the same number, `step-….superseded` one that the run went
back behind, `….tmp` what a killed process left.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from protocol.errors import CheckpointDamaged, UsageError
from trainer.sealed import (
    REPLACED,
    UNFINISHED,
    Damaged,
    Foreign,
    Kind,
    NoManifest,
    SealedFolder,
    check_folder,
    remove_folder,
)

State = dict[str, Any]

KIND = Kind("headrace checkpoint", 1)
CHECKPOINTS = "checkpoints"
BEST = "best"
STATE = "state.pt"
SUPERSEDED = ".superseded"
_NAME = re.compile(r"step-(\d{12,})(\.old)?")


def write(folder: Path, samples: int, state: State) -> Path:
    """Write a state durably as the checkpoint with this number, in place of one with the same number; its path.

    Raises `OSError`; then nothing has changed.
    """
    path = folder / f"step-{samples:012d}"
    with SealedFolder(path, KIND) as sealed:
        torch.save(state, sealed.create(STATE))  # type: ignore[arg-type]  # needs no more of a file than write()
        sealed.seal({"samples": samples})
    return path


def verify(path: Path) -> int:
    """Read a checkpoint back against its manifest; the samples that it was saved at. Raises as `load` does."""
    if not path.exists():
        raise UsageError(f"there is no checkpoint {path}: name a folder such as RUN_DIR/checkpoints/step-000000010000")
    try:
        return int(check_folder(path, KIND)["samples"])
    except NoManifest as error:
        if _NAME.fullmatch(path.name):
            raise CheckpointDamaged(f"checkpoint {path} is damaged: {error}") from error
        raise UsageError(
            f"{path} is no checkpoint ({error}): name a folder such as RUN_DIR/checkpoints/step-000000010000"
        ) from error
    except Foreign as error:
        raise UsageError(f"{path} is no checkpoint that can be read here: {error}") from error
    except Damaged as error:
        raise CheckpointDamaged(f"checkpoint {path} is damaged: {error}") from error
    except PermissionError as error:
        raise UsageError(f"{error.filename} cannot be read: give yourself the right to") from error
    except OSError as error:
        raise CheckpointDamaged(f"checkpoint {path} is damaged: {error.strerror}") from error


def load(path: Path) -> State:
    """The state in a checkpoint, tensors on the CPU.

    Raises `CheckpointDamaged` where it is not what was written, `UsageError` where there is none.
    """
    verify(path)
    try:
        state = torch.load(path / STATE, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch makes of bytes that are as they were written, but not by it
        raise CheckpointDamaged(f"checkpoint {path} cannot be loaded: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(state, dict):
        raise CheckpointDamaged(f"checkpoint {path} cannot be loaded: it holds a {type(state).__name__}, not a state")
    return state


def load_newest(run_dir: Path, on_damaged: Callable[[str], None]) -> tuple[Path, State] | None:
    """The newest checkpoint that is as it was written; None where none was ever saved.

    For each newer one that is not, `on_damaged` gets one line. Raises `CheckpointDamaged` where all are damaged.
    """
    return _newest_readable(run_dir / CHECKPOINTS, on_damaged)


def load_best(run_dir: Path, on_damaged: Callable[[str], None]) -> tuple[Path, State] | None:
    """The same for the best by validation loss."""
    return _newest_readable(run_dir / BEST, on_damaged)


def listed(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first, without looking into them."""
    found = [(match, path) for path in folder.glob("step-*") if (match := _NAME.fullmatch(path.name))]
    return [path for match, path in sorted(found, key=lambda pair: (int(pair[0][1]), not pair[0][2]))]


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed life left unfinished."""
    for path in folder.glob(f"*{UNFINISHED}"):
        shutil.rmtree(path)


def set_aside(folder: Path) -> list[Path]:
    """The superseded checkpoints in a folder."""
    return sorted(folder.glob(f"step-*{SUPERSEDED}"))


def supersede(folder: Path, samples: int) -> list[Path]:
    """Set aside the checkpoints of more samples than a run goes on from; where they lie now.

    Else the next resume would take one of them for the newest, and pruning would remove the new ones as the oldest.
    """
    aside = []
    for path in listed(folder):
        if int(path.name.removeprefix("step-").removesuffix(REPLACED)) > samples:
            name = path.with_name(path.name + SUPERSEDED)
            if name.exists():
                remove_folder(name)
            aside.append(path.replace(name))
    return aside


def _newest_readable(folder: Path, on_damaged: Callable[[str], None]) -> tuple[Path, State] | None:
    found = listed(folder)
    for path in reversed(found):
        try:
            return path, load(path)
        except CheckpointDamaged as error:
            on_damaged(str(error))
    if found:
        raise CheckpointDamaged(
            f"none of the {len(found)} checkpoints in {folder} can be read: start anew in another run directory"
        )
    return None
