"""Exports answer as the model that they were made from, or are not kept."""

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from protocol.errors import ExportDiffers, UsageError
from protocol.schema import Field, Schema
from tests.trainer.models import Hesitant
from tests.trainer.trained_run import CLASSES, saved, stripes
from trainer import export
from trainer.export import ExportSettings, check, export_run, sample, write
from trainer.export_check import Array, Format, load
from trainer.predictor import Predictor

IMAGES = stripes(33, seed=12)["image"]
NUMBERS = Schema((Field("x", "float32", (4,)),))


@pytest.fixture(scope="module")
def predictor(trained_run: Path) -> Predictor:
    return Predictor(trained_run, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the exports of this module lie, each made once."""
    return tmp_path_factory.mktemp("exports")


def exported(form: Format, run_dir: Path, folder: Path) -> Path:
    if form != "pt2":
        pytest.importorskip(form, reason="exported with the extra `export`")
    out = folder / f"model.{form}"
    if not out.exists():
        assert export_run(ExportSettings(format=form, run_dir=str(run_dir), out=str(out))) == 0
    return out


# A process of its own needs seconds to import torch, so two of these are left to test-long.
LONG = [pytest.param(form, marks=pytest.mark.long) for form in ("pt2", "safetensors")]


@pytest.mark.parametrize("form", ["onnx", *LONG])
def test_an_export_answers_as_the_model_does_by_the_lines_on_its_card(
    form: Format, trained_run: Path, predictor: Predictor, folder: Path
) -> None:
    out = exported(form, trained_run, folder)
    card = out.with_name(out.name + ".md").read_text()
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    for count in (1, 33):
        image = torch.from_numpy(IMAGES[:count]) if form == "pt2" else IMAGES[:count]
        names = {"image": image}
        with contextlib.chdir(folder):
            exec(code[1], names)
        assert np.asarray(names["predictions"]) == pytest.approx(predictor(IMAGES[:count]).values, abs=1e-5)
    for said in (
        "# trainer.model.GarmentClassifier, 640 samples, as " + form,
        "takes n records, each image uint8 [1, 28, 28], as the stream had them",
        "probabilities [n, classes], which add up to 1",
        f"the classes, in this order: {', '.join(CLASSES)}",
        f"| incarnation | {predictor.trained.info.incarnation} |",
        "| trained | 640 |",
        "| lost | 0 |",
        "| validation | ",
        "| test | ",
        "class_path: trainer.model.GarmentClassifier",
        "asked about test records",
        f"| torch | {importlib.metadata.version('torch')} |",
    ):
        assert said in card


def test_a_pt2_holds_the_preprocessing_and_takes_any_number_of_records(predictor: Predictor, tmp_path: Path) -> None:
    out = tmp_path / "model.pt2"
    write(predictor, "pt2", out, {"image": IMAGES})
    answer = load("pt2", out)
    for count in (1, 2, 33):
        assert answer({"image": IMAGES[:count]}) == pytest.approx(predictor(IMAGES[:count]).values, abs=1e-5)


@pytest.mark.long
def test_who_loads_a_pt2_needs_nothing_but_torch(trained_run: Path, predictor: Predictor, folder: Path) -> None:
    out = exported("pt2", trained_run, folder)
    np.save(folder / "image.npy", IMAGES)
    program = (
        "import sys, numpy, torch\n"
        f"model = torch.export.load({str(out)!r}).module()\n"
        f"numpy.save('told.npy', model(torch.from_numpy(numpy.load('image.npy'))).detach())\n"
        "assert not {'trainer', 'protocol', 'tests'} & sys.modules.keys()\n"
    )
    places = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-P", "-c", program], cwd=folder, env=places, check=True)
    assert np.load(folder / "told.npy") == pytest.approx(predictor(IMAGES).values, abs=1e-5)


def test_an_export_that_answers_otherwise_is_not_kept_and_the_older_one_stays(
    trained_run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = exported("onnx", trained_run, folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}

    def spoilt(predictor: Predictor, form: Format, path: Path, columns: Mapping[str, Array]) -> None:
        write(predictor, form, path, columns)
        with torch.no_grad():  # behind the export's back
            next(predictor.trained.model.parameters()).mul_(1.001)

    monkeypatch.setattr(export, "write", spoilt)
    with pytest.raises(
        ExportDiffers, match=r"the onnx file answers otherwise than the model, by \S+, so it is not kept"
    ):
        export_run(ExportSettings(format="onnx", run_dir=str(trained_run), out=str(out)))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_the_check_sees_what_is_wrong(trained_run: Path, predictor: Predictor, folder: Path) -> None:
    out = exported("onnx", trained_run, folder)
    origin, columns = sample(predictor.fields, trained_run)
    assert origin == "test records"
    assert len(columns["image"]) == 100
    expected = predictor.predict(columns).values
    assert check("onnx", out, columns, expected) <= 1e-5
    for wrong, said in (
        (expected + np.float32(2e-5), "by 2.*e-05, so it is not kept"),
        (np.where(np.arange(100)[:, None] == 70, np.nan, expected), "by nan, so it is not kept"),
        (expected[:, :3], r"answers \(1, 4\) where the model does \(1, 3\): not kept"),
    ):
        with pytest.raises(ExportDiffers, match=said):
            check("onnx", out, columns, wrong)
    (folder / "broken").write_bytes(out.read_bytes()[:1000])
    with pytest.raises(ExportDiffers, match="the onnx file cannot be used by another process, so it is not kept: "):
        check("onnx", folder / "broken", columns, expected)
    (folder / "broken").unlink()


def test_records_are_drawn_where_a_run_holds_none_out(tmp_path: Path) -> None:
    fields = (Field("image", "uint8", (3, 2)), Field("x", "float32", (4,)), Field("n", "int64"))
    origin, columns = sample(fields, tmp_path)
    assert origin == "random records"
    assert {name: (column.dtype.name, column.shape) for name, column in columns.items()} == {
        "image": ("uint8", (100, 3, 2)),
        "x": ("float32", (100, 4)),
        "n": ("int64", (100,)),
    }


def test_a_model_that_cannot_be_followed_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictor = Predictor(saved(tmp_path / "run", Hesitant(), NUMBERS, "trainer.tasks.Regression", input="x"))
    said = r"Hesitant cannot be exported as pt2: .*: change what torch.export does not follow, or give --format safe"
    with pytest.raises(UsageError, match=said) as refused:
        write(predictor, "pt2", tmp_path / "model.pt2", {"x": np.ones((8, 4), np.float32)})
    assert len(str(refused.value)) < 600
    assert "tests/trainer/models.py" in str(refused.value), "the line that cannot be followed"
    assert "def forward" not in capsys.readouterr().err


def test_what_cannot_be_exported_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for settings, said in (
        (
            ExportSettings(format="pt2", run_dir="runs/none"),
            "there is no run in runs/none: train first, or give another",
        ),
        (
            ExportSettings(format="pt2", out="model.bin"),
            "--out model.bin: the name of a file of --format pt2 ends in .pt2",
        ),
    ):
        with pytest.raises(UsageError, match=said):
            export_run(settings)
    (tmp_path / "runs/default").mkdir(parents=True)
    with pytest.raises(UsageError, match="runs/default holds no checkpoint: train first"):
        export_run(ExportSettings(format="pt2"))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError, match=r"--format onnx needs .*onnxscript.*: pip install 'headrace\[export\]'"):
        export_run(ExportSettings(format="onnx"))
    assert [path.name for path in (tmp_path / "runs/default").iterdir()] == []


def test_a_folder_that_cannot_be_written_is_one_line(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/model.pt2 cannot be written \(.*\): make room, or give another --out"):
        export_run(ExportSettings(format="pt2", run_dir=str(trained_run), out=str(tmp_path / "file" / "model.pt2")))


def test_numbers_may_be_off_by_a_share_of_their_size(tmp_path: Path) -> None:
    """float32 has seven digits: 1e-5 of a number in the thousands is beyond them."""
    assert export._difference("onnx", np.float32([2000.01]), np.float32([2000.0])) < 1e-5  # type: ignore[arg-type]
    with pytest.raises(ExportDiffers):
        export._difference("onnx", np.float32([2000.1]), np.float32([2000.0]))  # type: ignore[arg-type]
