"""The weights of a trained model in a safetensors file, which holds numbers and texts and is loaded without pickle.

Its metadata is one JSON text, `headrace`: class paths and arguments of model and task, what the records were, and how
many were trained. To whoever has the classes the file is as good as a checkpoint: `Predictor("x.safetensors")`.
"""

import json
from pathlib import Path

import torch

from protocol.errors import UsageError
from trainer.checkpoint_files import State
from trainer.trained import Trained, weights_of

SUFFIX = ".safetensors"
#: The key in the metadata, and what of a checkpoint's state lies under it.
METADATA = "headrace"
KEPT = ("samples", "meaning", "info")
MISSING = "safetensors files need the package of that name: pip install 'headrace[export]'"


def write_weights(path: Path, trained: Trained) -> None:
    """Raises `UsageError` where the model keeps something else than tensors, or the package is missing."""
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise UsageError(MISSING) from error
    weights = {}
    for name, value in weights_of(trained.state).items():
        if not isinstance(value, torch.Tensor):
            raise UsageError(f"the model keeps {name}, which is no tensor: export as pt2 or onnx")
        weights[name] = value.clone(memory_format=torch.contiguous_format)  # tied ones share memory, which is refused
    kept = {name: trained.state[name] for name in KEPT}
    save_file(weights, path, {METADATA: json.dumps(kept)})


def read_weights(path: Path) -> tuple[Path, State]:
    """What `open_trained` takes. Raises `UsageError` where the file is none of these."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise UsageError(MISSING) from error
    mend = "give one that `python -m trainer export --format safetensors` wrote"
    try:
        with safe_open(path, "pt") as file:
            kept = json.loads((file.metadata() or {})[METADATA])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
            return path, {**{name: kept[name] for name in KEPT}, "model": weights}
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path} cannot be read ({error}): {mend}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} does not say which model its weights are of: {mend}") from error
