"""The card beside an exported model: how it is used, what it learnt from and how well, what it was made with."""

import hashlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from trainer.audit import Account
from trainer.columns import described
from trainer.environment import versions
from trainer.export_check import BATCH_SIZES, Format
from trainer.holdout import Holdout
from trainer.predictor import Predictor
from trainer.splits import SPLITS, TEST, VALIDATION, batches_of
from trainer.validation import validate

VALIDATION_BATCH_SIZE = 1000
PACKAGES = ("headrace", "torch", "numpy", "safetensors", "onnx", "onnxscript", "onnxruntime")
USE: Mapping[Format, str] = {
    "pt2": """import torch

model = torch.export.load("{name}").module()
predictions = model({arguments})  # tensors on the CPU""",
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("{name}")
(predictions,) = session.run(None, {{{pairs}}})  # arrays""",
    "safetensors": """from trainer import Predictor

predictor = Predictor("{name}")  # imports {model}
predictions = predictor.predict({{{pairs}}}).values  # arrays or tensors""",
}
ANSWERS = {
    "classes": "probabilities [n, classes], which add up to 1",
    "labels": "probabilities [n, labels], each for itself",
    "numbers": "numbers [n, …], as the model gives them",
}


@dataclass(frozen=True)
class Checked:
    """What records a process of its own was asked about, and how far its answers differed from the model's at most."""

    origin: str
    difference: float


def model_card(predictor: Predictor, run_dir: Path, form: Format, file: Path, checked: Checked) -> str:
    """Markdown. The model is evaluated anew on what the run holds out, so the metrics are those of these weights."""
    trained = predictor.trained
    state = trained.state
    sections = {
        "Use": _use(predictor, form, file),
        "Data": _data(predictor),
        "Where the records went": _table(("fate", "records"), Account(state).totals.items()),
        "Metrics": _metrics(predictor, run_dir),
        "Settings": f"```yaml\n{yaml.safe_dump(state['meaning'], sort_keys=False)}```",
        "Check": f"A process of its own loaded the file and was asked about {checked.origin}: first "
        f"{', then '.join(map(str, BATCH_SIZES))} at once.\nIts answers differ from the model's by "
        f"{checked.difference:.1e} at most.",
        "Versions": _table(("package", "version"), [("Python", platform.python_version()), *versions(*PACKAGES)]),
    }
    title = f"# {_model(predictor)}, {state['samples']:,} samples, as {form}\n"
    return title + "".join(f"\n## {name}\n\n{text}\n" for name, text in sections.items())


def _use(predictor: Predictor, form: Format, file: Path) -> str:
    names = [field.name for field in predictor.fields]
    pairs = ", ".join(f'"{name}": {name}' for name in names)
    code = USE[form].format(name=file.name, model=_model(predictor), arguments=", ".join(names), pairs=pairs)
    classes = predictor.trained.info.schema.class_names
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    takes = "; ".join(described(field) for field in predictor.fields)
    lines = [
        f"takes n records, each {takes}, as the stream had them: nothing needs to be prepared",
        f"gives float32: {ANSWERS[predictor.trained.task.answers]}",
        *([f"the classes, in this order: {', '.join(classes)}"] if classes else []),
        f"SHA-256 of `{file.name}`: `{digest}`",
    ]
    return f"```python\n{code}\n```\n\n" + "\n".join(f"- {line}" for line in lines)


def _data(predictor: Predictor) -> str:
    info = predictor.trained.info
    facts = {
        "source": info.source or "a live stream",
        "incarnation": info.incarnation,
        "a record": "; ".join(map(described, info.schema.fields)),
        "samples trained": f"{predictor.trained.state['samples']:,}",
        "checkpoint": str(predictor.trained.path),
    }
    return _table(("what", "which"), facts.items())


def _metrics(predictor: Predictor, run_dir: Path) -> str:
    found = {}
    for split in (VALIDATION, TEST):
        if (folder := run_dir / SPLITS / split).exists():
            batches = batches_of(Holdout.open(folder, predictor.trained.collate), VALIDATION_BATCH_SIZE)
            found[split] = validate(predictor.trained.model, predictor.trained.task, batches, predictor.device)
    if not found:
        return "The run holds no records out."
    names = list(next(iter(found.values())))
    rows = [(split, *(f"{figures[name]:.6g}" for name in names)) for split, figures in found.items()]
    return _table(("records", *names), rows)


def _model(predictor: Predictor) -> str:
    return str(predictor.trained.state["meaning"]["model"]["class_path"])


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
