"""The graph of a model: what it computes of a batch, as TensorBoard draws it."""

import io
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import nn

from trainer.task import Task
from trainer.validation import undisturbed
from trainer.wording import one_line


class NoGraph(Exception):
    """The model cannot be traced; the text says why."""


def graph_of(model: nn.Module, task: Task, columns: Mapping[str, torch.Tensor], device: torch.device) -> Any:
    """What `FileWriter.add_graph` of torch.utils.tensorboard takes: the model is traced once with a batch.

    Leaves no trace in model and generators. Raises `NoGraph`.
    """
    from torch.utils.tensorboard._pytorch_graph import graph  # add_graph is this and the writing

    inputs: list[tuple[Any, ...]] = []
    hook = model.register_forward_pre_hook(lambda _model, given: inputs.append(given))
    try:
        with undisturbed(model, device):
            task.evaluate(model, task.prepare(columns, device))
    finally:
        hook.remove()
    if not inputs:
        raise NoGraph("its task does not call it")
    # Tracing warns of itself and of what it cannot follow, and a failure is printed before it is raised.
    with undisturbed(model, device), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            return graph(model, inputs[0])  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever code that is not ours raises where it meets a tracer
            raise NoGraph(one_line(str(error)) or type(error).__name__) from error
