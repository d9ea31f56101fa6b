"""`predict`: rows for pictures, arrays and live streams, and what is refused."""

import csv
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from producer.publisher import Publisher
from producer.source import ColumnSource
from protocol.errors import UsageError
from protocol.schema import Field, Schema
from tests.trainer.models import Three
from tests.trainer.streams import computed, groups, serving
from tests.trainer.trained_run import CLASSES, PICTURES, saved, stripes
from trainer.prediction import PredictionSettings, predict_run
from trainer.prediction_input import InputSettings, read_records
from trainer.predictor import Predictor

COUNT = 11
IMAGES = stripes(COUNT, seed=6)["image"]
NUMBERS = Schema((Field("x", "float32", (4,)),), class_names=("sweet", "sour"))
X = np.random.RandomState(5).standard_normal((5, 4)).astype(np.float32)
X[2, 1] = np.nan


@pytest.fixture(scope="module")
def predictor(trained_run: Path) -> Predictor:
    return Predictor(trained_run, device="cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    for row, image in enumerate(IMAGES):
        name = f"{'more/' if row >= 8 else ''}{row:02d}.{'PNG' if row % 2 else 'png'}"
        Image.fromarray(image[0]).save(tmp_path / "pictures" / name)
    (tmp_path / "pictures" / "notes.txt").write_text("not a picture")
    np.save(tmp_path / "images.npy", IMAGES)
    np.savez(tmp_path / "images.npz", label=np.zeros(COUNT), image=IMAGES)
    return tmp_path


def predict(run_dir: Path, out: Path | str, *inputs: Path | str, **options: Any) -> None:
    reading = {name: value for name, value in options.items() if name in InputSettings.__dataclass_fields__}
    writing = {name: value for name, value in options.items() if name not in reading}
    settings = PredictionSettings(run_dir=str(run_dir), out=str(out), device="cpu", **writing)
    assert predict_run([*map(str, inputs)], settings, InputSettings(**{"batch_size": 4, **reading})) == 0


def rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return [json.loads(line) for line in file] if path.suffix == ".jsonl" else list(csv.DictReader(file))


def test_a_row_of_csv_says_the_class_and_all_probabilities(
    trained_run: Path, predictor: Predictor, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    predict(trained_run, folder / "told.csv", folder / "pictures")
    told = rows(folder / "told.csv")
    expected = [predictor(IMAGES[start : start + 4]) for start in range(0, COUNT, 4)]
    assert [Path(row["source"]).stem for row in told] == [f"{row:02d}" for row in range(COUNT)]
    assert [row["prediction"] for row in told] == [name for part in expected for name in part.names]
    shares = np.array([[float(row[f"p_{name}"]) for name in CLASSES] for row in told], np.float32)
    assert np.array_equal(shares, np.concatenate([part.probabilities for part in expected]))
    assert np.array_equal(np.array([row["probability"] for row in told], np.float32), shares.max(axis=1))
    assert f"1 files in {folder}/pictures are passed over: their names do not end in .jpg .jpeg .png" in caplog.text
    assert f"11 records predicted by {trained_run}/best/step-" in caplog.text


def test_a_json_line_says_the_same(trained_run: Path, folder: Path) -> None:
    predict(trained_run, folder / "told.csv", folder / "pictures/00.png", folder / "images.npy", folder / "images.npz")
    predict(
        trained_run, folder / "told.jsonl", folder / "pictures/00.png", folder / "images.npy", folder / "images.npz"
    )
    table, lines = rows(folder / "told.csv"), rows(folder / "told.jsonl")
    assert [line["source"] for line in lines] == [
        str(folder / "pictures/00.png"),
        *(f"{folder}/images.npy:{row}" for row in range(COUNT)),
        *(f"{folder}/images.npz:{row}" for row in range(COUNT)),
    ]
    for row, line in zip(table, lines, strict=True):
        assert (row["source"], row["prediction"]) == (line["source"], line["prediction"])
        assert float(row["probability"]) == line["probability"]
        assert {name: float(row[f"p_{name}"]) for name in CLASSES} == line["probabilities"]


def test_labels_and_numbers_have_rows_of_their_own_and_none_where_there_is_no_number(tmp_path: Path) -> None:
    torch.manual_seed(1)
    np.save(tmp_path / "x.npy", X)
    for task in ("MultiLabel", "Regression", "Classification"):
        run_dir = saved(tmp_path / task, Three(), NUMBERS, f"trainer.tasks.{task}", input="x")
        expected = Predictor(run_dir, device="cpu")
        found = [expected(X[:4]), expected(X[4:])]
        for suffix in ("csv", "jsonl"):
            predict(run_dir, out := tmp_path / f"{task}.{suffix}", tmp_path / "x.npy")
            told = rows(out)
            if task == "MultiLabel":
                named = [row["prediction"] for row in told]
                labels = [names for part in found for names in part.labels]
                if suffix == "csv":
                    assert list(told[0]) == ["source", "prediction", "p_sweet", "p_sour", "p_2"]
                    assert named == [";".join(names) if row != 2 else "" for row, names in enumerate(labels)]
                else:
                    assert named == [names if row != 2 else None for row, names in enumerate(labels)]
            elif task == "Regression":
                numbers = [[row[f"value_{k}"] for k in range(3)] if suffix == "csv" else row["values"] for row in told]
                assert numbers.pop(2) == ([""] * 3 if suffix == "csv" else [None] * 3)
                values = np.delete(np.concatenate([part.values for part in found]), 2, axis=0)
                assert np.array_equal(np.array(numbers, np.float32), values)
            else:
                assert told[2]["prediction"] in ("", None)


def test_a_live_stream_is_read_along_without_a_group(trained_run: Path, predictor: Predictor, tmp_path: Path) -> None:
    with Publisher("tcp://127.0.0.1:*", schema=PICTURES, partitions=2) as stream:
        made = stripes(60, seed=4)
        stream.send_columns(**made)
        reading = read_records([stream.address], predictor.fields, InputSettings(batch_size=4))
        assert len(next(reading).sources) <= 4
        assert groups(stream.address) == ()
        reading.close()  # type: ignore[attr-defined]
        predict(trained_run, tmp_path / "told.jsonl", stream.address, max_records=50, batch_size=16)
        assert groups(stream.address) == ()
        stream.abandon()
    told = rows(tmp_path / "told.jsonl")
    assert [row["source"] for row in told] == [f"0:{offset}" for offset in range(50)]


def test_what_a_stream_gives_is_what_its_records_are(trained_run: Path, predictor: Predictor, tmp_path: Path) -> None:
    log = computed(ColumnSource("stripes", PICTURES, stripes(40, seed=3)), partitions=2)
    with serving(log) as url:
        predict(trained_run, tmp_path / "all.jsonl", url)
        predict(trained_run, tmp_path / "none.csv", url, start="latest", idle_timeout=0.3)
        predict(trained_run, tmp_path / "future.csv", url, start="2099-01-01", idle_timeout=0.3)
    for row in rows(tmp_path / "all.jsonl"):
        partition, offset = map(int, row["source"].split(":"))
        image = np.asarray(log.read(partition, offset, 1).columns["image"])
        assert list(row["probabilities"].values()) == pytest.approx(predictor(image).probabilities[0], abs=1e-6)
    assert len(rows(tmp_path / "all.jsonl")) == 40
    assert (tmp_path / "none.csv").read_text() == (tmp_path / "future.csv").read_text() == ""


def test_a_silent_stream_is_left_after_the_idle_time_out(trained_run: Path, tmp_path: Path) -> None:
    with Publisher("tcp://127.0.0.1:*", schema=PICTURES) as stream:
        stream.send_columns(**stripes(3, seed=4))
        predict(trained_run, tmp_path / "told.csv", stream.address, idle_timeout=0.5)
        stream.abandon()
    assert len(rows(tmp_path / "told.csv")) == 3


def test_a_mistake_is_said_and_an_older_file_stays(trained_run: Path, folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "told.csv").write_text("older")
    (folder / "broken.npz").write_text("nothing")
    np.savez(folder / "other.npz", sound=IMAGES)
    np.save(folder / "small.npy", IMAGES[..., :9])
    np.save(folder / "objects.npy", np.array([{}], object), allow_pickle=True)
    other = Schema((Field("image", "uint8", (1, 4, 4)),))
    source = ColumnSource("small", other, {"image": np.zeros((3, 1, 4, 4), np.uint8)})
    with serving(computed(source)) as url:
        for given, said in {
            "nowhere.png": "there is no nowhere.png: give pictures, folders of them, .npy files or a URL",
            f"{folder}/empty": "there are no pictures in .*/empty: give one with files in .jpg .jpeg .png",
            f"{folder}/broken.npz": r"broken.npz is no file of numpy's .*: write it with numpy.save or numpy.savez",
            f"{folder}/objects.npy": r"objects.npy is no file of numpy's .*",
            f"{folder}/other.npz": r"other.npz holds sound and no image uint8 \[1, 28, 28\]: name its arrays so",
            f"{folder}/small.npy": r"uint8 \[11, 1, 28, 9\] is no image uint8 \[1, 28, 28\]",
            "tcp://nobody": "names no host and port",
            "ftp://there": "is no stream: use tcp://HOST:PORT",
            "ipc://nobody": r"no producer answered .* start a producer, or wait longer \(--connect_timeout\)",
            url: r"the model takes image uint8 \[1, 28, 28\], a record of tcp\S+ is image uint8 \[1, 4, 4\]: give",
        }.items():
            with pytest.raises(UsageError, match=said):
                predict(trained_run, folder / "told.csv", given, connect_timeout=0.1 if "nobody" in given else 60)
    assert (folder / "told.csv").read_text() == "older"
    run_dir = saved(folder / "run", Three(), NUMBERS, "trainer.tasks.Regression", input="x")
    with pytest.raises(UsageError, match=r"the model takes x float32 \[4\], which is no picture: give an .npy file"):
        predict(run_dir, folder / "told.csv", folder / "pictures")


@pytest.mark.parametrize(
    ("out", "options", "said"),
    [
        ("told.txt", {}, r"--out told.txt ends in neither of .csv, .jsonl: give --format csv or --format jsonl"),
        ("-", {}, r"--out - ends in neither of"),
        ("no/told.csv", {}, r"--out no/told.csv: there is no folder no: make it first"),
        ("told.csv", {"max_records": -1}, "--max_records is 0 or more"),
        ("told.csv", {"batch_size": 0}, "--batch_size is at least 1"),
        ("told.csv", {"idle_timeout": -1}, "--connect_timeout and --idle_timeout are 0 or more"),
    ],
)
def test_settings_that_make_no_sense_are_the_users_mistake(out: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        predict(Path("nowhere"), out, "nowhere.png", **options)


def test_a_file_that_cannot_be_written_is_one_line(trained_run: Path, folder: Path) -> None:
    (folder / "told.csv").mkdir()
    with pytest.raises(UsageError, match=r"cannot write .*told.csv \(Is a directory\): give another --out"):
        predict(trained_run, folder / "told.csv", folder / "images.npy")


def test_rows_go_to_standard_output_as_well(
    trained_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(trained_run, "-", folder / "images.npy", format="jsonl", max_records=6)
    assert [json.loads(line)["source"][-1] for line in capsys.readouterr().out.splitlines()] == list("012345")
