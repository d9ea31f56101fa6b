"""Asks an exported model in a process of its own: `python -m trainer.export_check FORMAT FILE COLUMNS ANSWERS`.

COLUMNS is an .npz file with what the model takes, ANSWERS becomes one with what it gave for the first records, by their
number. A program that uses an export has no more than this has: pt2 needs torch alone, onnx not even that, and only
safetensors imports the classes of the model.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Format = Literal["safetensors", "pt2", "onnx"]
Array = npt.NDArray[Any]

#: Records that are asked about at once: one, some, and many.
BATCH_SIZES = (1, 7, 100)


def load(form: Format, file: Path) -> Callable[[dict[str, Array]], Array]:
    """What the file answers to columns."""
    match form:
        case "pt2":
            import torch

            module = torch.export.load(file).module()
            return lambda columns: module(*map(torch.from_numpy, columns.values())).detach().numpy()
        case "onnx":
            import onnxruntime

            session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
            return lambda columns: session.run(None, columns)[0]
        case "safetensors":
            from trainer.predictor import Predictor

            predictor = Predictor(file, device="cpu")
            return lambda columns: predictor.predict(columns).values


def main(arguments: Sequence[str]) -> int:
    """Load, ask, and write the answers down."""
    form, file, asked, told = arguments
    with np.load(asked, allow_pickle=False) as held:
        columns = {name: held[name] for name in held.files}
    answer = load(form, Path(file))  # type: ignore[arg-type]  # as trainer/export.py gives it
    answers = {str(n): answer({name: column[:n] for name, column in columns.items()}) for n in BATCH_SIZES}
    np.savez(told, **answers)  # type: ignore[arg-type]  # numpy's stub takes an array for allow_pickle
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
