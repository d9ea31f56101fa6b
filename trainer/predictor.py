"""A trained model to be asked from any program: records in, probabilities and the names of their classes out."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from protocol.errors import UsageError
from trainer.columns import described, tensor_of
from trainer.device import DeviceSettings, open_device
from trainer.task import Answers
from trainer.trained import best_checkpoint, open_trained
from trainer.weights_file import SUFFIX, read_weights

logger = logging.getLogger(__name__)

#: From this probability on a label is said to be there.
LIKELY = 0.5


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of n records."""

    values: npt.NDArray[np.float32]
    """As `answers` has it: probabilities [n, classes], which add up to 1; [n, labels], each for itself; or numbers
    [n, …] of the model's own shape."""

    answers: Answers
    class_names: tuple[str, ...]
    """Of each class or label, its number where it has no name. No two are the same."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """[n, classes or labels]. Raises `UsageError` where the model tells numbers."""
        if self.answers == "numbers":
            raise UsageError("this model tells numbers, no probabilities: read `values`")
        return self.values

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """The most probable class of each record, int64 [n]."""
        classes: npt.NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return classes

    @property
    def names(self) -> list[str]:
        """Its name."""
        return [self.class_names[number] for number in self.classes]

    @property
    def labels(self) -> list[list[str]]:
        """The names of all labels of each record that are at least as likely as not."""
        return [[self.class_names[number] for number in np.flatnonzero(row)] for row in self.probabilities >= LIKELY]


class Predictor:
    """The best checkpoint of a run, or a file that `export --format safetensors` wrote, ready to be asked.

        predictor = Predictor("runs/default")
        found = predictor("boot.png")
        print(found.names, found.probabilities)

    The model is in evaluation mode and asking changes nothing, so several threads may ask at once. Raises `UsageError`
    where there is no such run, or its task does not predict.
    """

    def __init__(self, source: str | Path, *, device: str = "auto") -> None:
        path = Path(source).expanduser()
        self.device = open_device(DeviceSettings(device=device))
        self.trained = open_trained(*(read_weights(path) if path.suffix == SUFFIX else best_checkpoint(path)))
        for remark in self.trained.remarks:
            logger.warning(remark)
        self._model = self.trained.model.to(self.device).eval().requires_grad_(False)
        schema, task = self.trained.info.schema, self.trained.task
        if not task.inputs:
            raise UsageError(f"the task {type(task).__name__} does not predict: give it `inputs` and `predict`")
        if missing := set(task.inputs) - {field.name for field in schema.fields}:
            raise UsageError(f"the task {type(task).__name__} predicts from {missing.pop()!r}, no column of its stream")
        if ragged := next((each for each in schema.fields if each.name in task.inputs and each.ragged), None):
            mend = "train on records of one length (--decode trainer.decoders.Cut)"
            raise UsageError(f"the model takes {described(ragged)}, of which no file says how long it is: {mend}")
        #: What the model takes: these columns, as the stream had them.
        self.fields = tuple(field for field in schema.fields if field.name in task.inputs)
        self._class_names = schema.class_names

    def __call__(self, records: Any) -> Prediction:
        """Of a model with one input: an array or tensor of one record or [n, …], as the stream had them; pictures, by
        their paths or as Pillow has them; or a list of any of these.
        """
        if len(self.fields) > 1:
            raise UsageError(f"the model takes {len(self.fields)} columns: give them by name to `predict`")
        return self.predict({self.fields[0].name: records})

    def predict(self, columns: Mapping[str, Any]) -> Prediction:
        """The same of columns by name; those that the model does not take are passed over."""
        missing = [field.name for field in self.fields if field.name not in columns]
        if missing:
            raise UsageError(f"there is no column {missing[0]!r}, which the model takes, only {', '.join(columns)}")
        given = {field.name: tensor_of(columns[field.name], field) for field in self.fields}
        task = self.trained.task
        with torch.inference_mode():
            values = task.predict(self._model, given, self.device)
        names = () if task.answers == "numbers" else _distinct(self._class_names, values.shape[1])
        return Prediction(values.numpy(force=True), task.answers, names)


def _distinct(names: Sequence[str], count: int) -> tuple[str, ...]:
    """A name for each class; its number where there is none, and beside it where two are the same."""
    known = Counter(names)
    named = [name if known[name] == 1 else f"{number} {name}" for number, name in enumerate(names[:count])]
    return (*named, *map(str, range(len(named), count)))
