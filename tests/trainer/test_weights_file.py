"""Weights in a safetensors file, which says what they are of."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("safetensors", reason="written with the extra `export`")

from safetensors.torch import save_file

from protocol.errors import UsageError
from protocol.schema import Field, Schema
from tests.trainer.models import Tied
from tests.trainer.trained_run import saved, stripes
from trainer.predictor import Predictor
from trainer.trained import best_checkpoint, open_trained
from trainer.weights_file import write_weights


def test_the_file_alone_answers_as_the_run_bit_for_bit(trained_run: Path, tmp_path: Path) -> None:
    predictor = Predictor(trained_run, device="cpu")
    write_weights(tmp_path / "model.safetensors", predictor.trained)
    again = Predictor(tmp_path / "model.safetensors", device="cpu")
    images = stripes(9, seed=2)["image"]
    assert np.array_equal(again(images).values, predictor(images).values)
    assert again.trained.info == predictor.trained.info
    assert again.trained.state["samples"] == predictor.trained.state["samples"]


def test_a_weight_under_two_names_is_kept(tmp_path: Path) -> None:
    torch.manual_seed(3)
    schema = Schema((Field("x", "float32", (4,)),))
    predictor = Predictor(saved(tmp_path / "run", Tied(), schema, "trainer.tasks.Regression", input="x"), device="cpu")
    write_weights(tmp_path / "model.safetensors", predictor.trained)
    x = np.eye(4, dtype=np.float32)
    assert np.array_equal(Predictor(tmp_path / "model.safetensors", device="cpu")(x).values, predictor(x).values)


def test_of_a_run_with_an_average_it_holds_the_average(trained_run: Path, tmp_path: Path) -> None:
    path, state, _ = best_checkpoint(trained_run)
    averaged = {name: value / 2 for name, value in state["model"].items()}
    trained = open_trained(path, state | {"average": {"begun": True, "module": averaged}})
    write_weights(tmp_path / "model.safetensors", trained)
    again = Predictor(tmp_path / "model.safetensors", device="cpu")
    for name, value in again.trained.model.state_dict().items():
        assert torch.equal(value, averaged[name]), name


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    mend = "give one that `python -m trainer export --format safetensors` wrote"
    with pytest.raises(UsageError, match=f"model.safetensors cannot be read .*: {mend}"):
        Predictor(path)
    path.write_text("no weights")
    with pytest.raises(UsageError, match=f"model.safetensors cannot be read .*: {mend}"):
        Predictor(path)
    for metadata in ({}, {"headrace": "{"}, {"headrace": "{}"}, {"headrace": "[]"}):
        save_file({"weight": torch.zeros(3)}, path, metadata)
        with pytest.raises(UsageError, match=f"does not say which model its weights are of: {mend}"):
            Predictor(path)


def test_something_else_than_tensors_in_a_model_is_refused(trained_run: Path, tmp_path: Path) -> None:
    trained = Predictor(trained_run, device="cpu").trained
    trained.state["model"]["_extra_state"] = {"count": 3}
    with pytest.raises(UsageError, match="the model keeps _extra_state, which is no tensor: export as pt2 or onnx"):
        write_weights(tmp_path / "model.safetensors", trained)


def test_without_the_package_the_extra_is_named(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("safetensors", "safetensors.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"safetensors files need the package .*: pip install 'headrace\[export\]'"):
        Predictor(tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match=r"safetensors files need the package .*: pip install 'headrace\[export\]'"):
        write_weights(tmp_path / "model.safetensors", Predictor(trained_run, device="cpu").trained)
