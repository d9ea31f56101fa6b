"""`python -m trainer export`: a run's best model as one file that other programs load, with a card beside it.

The file takes columns as the stream had them, since the task's preprocessing is inside, and gives what the task tells
from the model's answers (probabilities, for most). It is kept only if a process of its own, which has nothing but the
file, gives the same answers as the model here.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from shutil import copymode
from tempfile import TemporaryDirectory
from textwrap import shorten

import numpy as np
import torch
from torch import nn

from protocol.errors import ExportDiffers, UsageError
from protocol.schema import Field
from trainer.export_check import BATCH_SIZES, Array, Format
from trainer.holdout import Holdout
from trainer.model_card import Checked, model_card
from trainer.predictor import Predictor
from trainer.splits import SPLITS, TEST, VALIDATION
from trainer.weights_file import write_weights

EXPORTED = "exported"
CARD = ".md"
#: What each format needs beside torch; the extra `export` has all of it.
PACKAGES: Mapping[Format, tuple[str, ...]] = {
    "safetensors": ("safetensors",),
    "pt2": (),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
}
#: How far an answer may be off: of its size where that is over 1, as numbers may be.
TOLERANCE = 1e-5
#: Of what torch says of a model that it cannot follow: the rest is how to look for more.
REASON_LENGTH = 320
#: More than this does not fit into one ONNX file.
ONNX_BYTES = 2 << 30


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What is exported, and how."""

    format: Format
    """pt2: a program for torch.export.load, without the model's classes; onnx: for any ONNX runtime; safetensors: the
    weights, for whoever has the classes"""
    run_dir: str = "runs/default"
    """folder of the run, whose best checkpoint is exported"""
    out: str = ""
    """file to write; by default RUN_DIR/exported/model.FORMAT. The card gets its name and .md"""


def export_run(settings: ExportSettings) -> int:
    """Export, check, keep, and say so. What was there before stays until the new one is known to be good."""
    form, run_dir = settings.format, Path(settings.run_dir).expanduser()
    _require(form)
    out = Path(settings.out).expanduser() if settings.out else run_dir / EXPORTED / f"model.{form}"
    if out.suffix != f".{form}":
        raise UsageError(f"--out {out}: the name of a file of --format {form} ends in .{form}")
    if not run_dir.is_dir():
        raise UsageError(f"there is no run in {run_dir}: train first, or give another --run_dir")
    predictor = Predictor(run_dir, device="cpu")
    origin, columns = sample(predictor.fields, run_dir)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".export-", dir=out.parent) as folder:
            made, card = Path(folder, out.name), Path(folder, out.name + CARD)
            write(predictor, form, made, columns)
            checked = Checked(origin, check(form, made, columns, predictor.predict(columns).values))
            card.write_text(model_card(predictor, run_dir, form, made, checked))
            copymode(card, made)  # safetensors makes files that only their owner reads
            made.replace(out)
            card.replace(out.with_name(card.name))
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}): make room, or give another --out") from error
    print(
        f"{out}: answers as {predictor.trained.path} does, to {checked.difference:.1e} on 100 {checked.origin}; "
        f"its card is {out.name}{CARD}"
    )
    return 0


def sample(fields: tuple[Field, ...], run_dir: Path) -> tuple[str, dict[str, Array]]:
    """What they are, and 100 records for the check: held out ones where the run has some, else drawn."""
    count = max(BATCH_SIZES)
    for split in (TEST, VALIDATION):
        folder = run_dir / SPLITS / split
        if folder.exists() and len(held := Holdout.open(folder)) >= count:
            columns = held.__getitems__(range(count)).columns
            return f"{split} records", {field.name: columns[field.name].numpy() for field in fields}
    drawn = np.random.RandomState(0)
    return "random records", {field.name: _drawn(field, (count, *field.item_shape), drawn) for field in fields}


def write(predictor: Predictor, form: Format, path: Path, columns: Mapping[str, Array]) -> None:
    """Raises `UsageError` where the model cannot be put into this form."""
    trained = predictor.trained
    if form == "safetensors":
        write_weights(path, trained)
        return
    example = tuple(torch.from_numpy(column[: BATCH_SIZES[1]]) for column in columns.values())
    batch = torch.export.Dim("batch")
    shapes = (({0: batch},) * len(example),)
    try:
        with redirect_stderr(StringIO()):  # where torch cannot follow, it prints how far it came besides raising
            program = torch.export.export(_Answering(predictor), example, dynamic_shapes=shapes)
        if form == "pt2":
            torch.export.save(program, path)
        else:
            _write_onnx(program, path, list(columns))
    except (OSError, UsageError):
        raise
    except Exception as error:  # whatever torch finds in somebody's model
        why = shorten(f"{type(error).__name__}: {error}", REASON_LENGTH, placeholder=" …")
        raise UsageError(
            f"{type(trained.model).__name__} cannot be exported as {form}: {why}: "
            "change what torch.export does not follow, or give --format safetensors"
        ) from error


def check(form: Format, path: Path, columns: Mapping[str, Array], expected: Array) -> float:
    """The greatest difference between what a process of its own gets from the file and what is `expected`.

    Raises `ExportDiffers` where that is too much, or the file cannot be loaded there.
    """
    with TemporaryDirectory() as folder:
        asked, told = Path(folder, "columns.npz"), Path(folder, "answers.npz")
        np.savez(asked, **columns)  # type: ignore[arg-type]  # numpy's stub takes an array for allow_pickle
        # Only safetensors may find what the model was made with; the others must do without.
        places = sys.path if form == "safetensors" else [str(Path(__file__).parents[1])]
        command = [sys.executable, "-P", "-m", "trainer.export_check", form, str(path), str(asked), str(told)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, places))}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            why = (done.stderr.splitlines() or ["nothing was said"])[-1]
            raise ExportDiffers(f"the {form} file cannot be used by another process, so it is not kept: {why}")
        with np.load(told, allow_pickle=False) as answers:
            return max(_difference(form, answers[str(count)], expected[:count]) for count in BATCH_SIZES)


class _Answering(nn.Module):
    """The task and its model as one module: columns in, predictions out."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.model, self._task = predictor.trained.model, predictor.trained.task
        self._names = [field.name for field in predictor.fields]

    def forward(self, *columns: torch.Tensor) -> torch.Tensor:
        return self._task.predict(self.model, dict(zip(self._names, columns, strict=True)), torch.device("cpu"))


def _write_onnx(program: torch.export.ExportedProgram, path: Path, names: list[str]) -> None:
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    if size >= ONNX_BYTES:
        raise UsageError(f"{size:,} bytes of weights do not fit into one ONNX file: give --format pt2 or safetensors")
    for name in ("onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they tell each step of theirs
    torch.onnx.export(
        program,
        f=path,
        dynamo=True,
        input_names=names,
        output_names=["predictions"],
        external_data=False,
        verbose=False,
    )


def _difference(form: Format, found: Array, expected: Array) -> float:
    if found.shape != expected.shape:
        raise ExportDiffers(f"the {form} file answers {found.shape} where the model does {expected.shape}: not kept")
    off = float(np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected))))
    if not off <= TOLERANCE:  # NaN is no number
        raise ExportDiffers(f"the {form} file answers otherwise than the model, by {off:.3g}, so it is not kept")
    return off


def _drawn(field: Field, shape: tuple[int, ...], drawn: np.random.RandomState) -> Array:
    if field.dtype == "uint8":
        return drawn.randint(0, 256, shape).astype(np.uint8)
    return drawn.standard_normal(shape).astype(field.numpy_dtype)


def _require(form: Format) -> None:
    missing = [name for name in PACKAGES[form] if find_spec(name) is None]
    if missing:
        raise UsageError(f"--format {form} needs {', '.join(missing)}: pip install 'headrace[export]'")
