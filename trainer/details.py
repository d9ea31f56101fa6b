"""What a run shows beside its numbers: pictures, histograms, and the graph of its model."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from protocol.contact_sheet import Sheet, class_labels, contact_sheet, picture_field
from protocol.schema import Schema
from trainer.batch_sheet import batch_sheet
from trainer.confusion import MOST_CLASSES, Confusion
from trainer.confusion_sheet import confusion_sheet
from trainer.graph import NoGraph
from trainer.mistakes import Mistakes
from trainer.report import Fact, Graph, Histograms, Notice, Pictures
from trainer.weights import histogram_values

SHOWN, SHEET_WIDTH = 16, 370  # TensorBoard's cards are some 350 pixels wide: labels are read without a click
BATCHES_APART = 50_000
#: Details of a validation are made again after so many times as long as they took: 0.5 % of the time at most.
VALIDATIONS_APART = 200


class Details:
    """Tells details as facts, but not of each batch and each validation: what they cost is bounded."""

    def __init__(self, schema: Schema, tell: Callable[[Fact], None], monotonic_s: Callable[[], float]) -> None:
        self._schema, self._tell, self._monotonic_s = schema, tell, monotonic_s
        #: At how many samples a batch is to be shown again.
        self.next_batch = 0 if picture_field(schema) else math.inf
        self._next_validation_s = -math.inf
        self._passed_over: Callable[[], None] | None = None
        self._said_many = False

    def of_batch(self, samples: int, columns: Mapping[str, Tensor]) -> None:
        """The pictures that the task got: a life's first, and then whenever the samples have doubled."""
        self.next_batch = max(2 * samples, samples + BATCHES_APART)
        sheet = batch_sheet(self._schema, columns, SHOWN, SHEET_WIDTH)
        if sheet is not None:
            self._tell(Pictures(samples=samples, name="loader", sheet=sheet))

    def of_model(self, samples: int, graph_of: Callable[[], Any]) -> None:
        """The graph that `graph_of` makes; that there is none (`NoGraph`) is said."""
        try:
            self._tell(Graph(samples=samples, graph=graph_of()))
        except NoGraph as error:
            self._tell(Notice(samples=samples, text=f"TensorBoard shows no graph of the model: {error}"))

    def of_validation(self, samples: int, model: nn.Module, confusion: Confusion, mistakes: Mistakes) -> None:
        """Histograms of weights and gradients, the confusion matrix, the pictures that were told most wrongly."""
        tell = partial(self._tell_validation, samples, model, confusion, mistakes)
        began_s = self._monotonic_s()
        if began_s < self._next_validation_s:
            self._passed_over = tell
            return
        self._passed_over = None
        tell()
        ended_s = self._monotonic_s()
        self._next_validation_s = ended_s + VALIDATIONS_APART * (ended_s - began_s)

    def of_last_validation(self) -> None:
        """At the end of a run, where nothing was trained since: the last validation is shown in any case."""
        if self._passed_over is not None:
            self._passed_over()

    def _tell_validation(self, samples: int, model: nn.Module, confusion: Confusion, mistakes: Mistakes) -> None:
        self._tell(Histograms(samples=samples, values=histogram_values(model)))
        if confusion.shown:
            sheet = confusion_sheet(confusion.matrix(), class_labels(self._schema, range(confusion.classes)))
            self._tell(Pictures(samples=samples, name="validation/confusion", sheet=sheet))
        elif confusion.classes and not self._said_many:
            self._said_many = True
            text = f"{confusion.classes} classes are not shown one by one, which is done for up to {MOST_CLASSES}"
            self._tell(Notice(samples=samples, text=f"{text}: python -m trainer evaluate tells how each of them fares"))
        if mistakes.worst:
            self._tell(Pictures(samples=samples, name="validation/most_wrong", sheet=self._sheet_of(mistakes)))

    def _sheet_of(self, mistakes: Mistakes) -> Sheet:
        told = class_labels(self._schema, [each.told for each in mistakes.worst])
        truth = class_labels(self._schema, [each.truth for each in mistakes.worst])
        labels = [f"told {one}\nis {other}" for one, other in zip(told, truth, strict=True)]
        return contact_sheet(np.stack([each.picture for each in mistakes.worst]), labels, SHEET_WIDTH)
