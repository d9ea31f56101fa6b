"""The first batches of a life as files: what the task got, and where it lies in the stream."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from protocol.dealing import Dealing
from protocol.errors import UsageError
from protocol.schema import Field, Schema
from tests.trainer.trained_run import PICTURES, pictures, train
from trainer.batch import Batch, Block
from trainer.batch_sheet import batch_sheet
from trainer.dump import Dump, DumpSettings
from trainer.origin import Span

DEALING = Dealing(2, 2)
AUGMENT = ("--augment+", "RandomFlip", "--augment.p", "1")


def batches(columns: dict[str, torch.Tensor]) -> list[Batch]:
    """Two of four records each, the first of them numbered 5."""
    made = Block(columns, 4, DEALING.ends(0))
    made.add(0, Span(0, 0, 2, 0, 0))
    made.add(2, Span(1, 0, 2, 0, 0))
    made.add(4, Span(0, 2, 2, 0, 0))
    made.add(6, Span(1, 2, 2, 0, 0))
    return [Batch(made, index, 4, 5 + index) for index in range(2)]


def kept(path: Path) -> dict[str, npt.NDArray[Any]]:
    with np.load(path) as found:
        return dict(found)


def test_as_many_batches_as_were_asked_for_are_kept_with_the_places_of_their_records(tmp_path: Path) -> None:
    columns = {"file": torch.arange(8), "x": torch.rand(8, 3).to(torch.bfloat16)}
    dump = Dump(DumpSettings(dump_batches=1), tmp_path, Schema((Field("file", "int64"), Field("x", "float32", (3,)))))
    first, second = batches(columns)
    dump(first, first)
    dump(second, second)
    assert [path.name for path in (tmp_path / "batches").iterdir()] == ["batch-000000005.npz"]
    found = kept(tmp_path / "batches" / "batch-000000005.npz")
    assert list(found) == ["file", "x", "position.partition", "position.offset"]
    assert found["file"].tolist() == [0, 1, 2, 3]
    assert found["x"].tolist() == columns["x"][:4].tolist()
    places = zip(found["position.partition"].tolist(), found["position.offset"].tolist(), strict=True)
    assert [DEALING.record(*place) for place in places] == [0, 1, 2, 3]


def test_nothing_is_kept_where_nobody_asked(tmp_path: Path) -> None:
    one, _ = batches({"x": torch.zeros(8)})
    Dump(DumpSettings(), tmp_path, Schema((Field("x", "float32"),)))(one, one)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "batches").write_bytes(b"")
    one, _ = batches({"x": torch.zeros(8)})
    dump = Dump(DumpSettings(dump_batches=1), tmp_path, Schema((Field("x", "float32"),)))
    with pytest.raises(UsageError, match=r"batch-000000005.npz cannot be written .*: make room, or leave out"):
        dump(one, one)


def test_a_run_keeps_what_its_task_got_and_a_later_life_its_own(tmp_path: Path) -> None:
    options = ("--dump_batches", "2", "--model", "tests.trainer.models.Flat")
    plain = train(tmp_path / "plain", pictures(), *options, "--max_samples", "256") / "batches"
    names = [f"batch-{number:09}{suffix}" for number in (1, 2) for suffix in (".npz", ".png")]
    assert sorted(path.name for path in plain.iterdir()) == names
    augmented = train(tmp_path / "augmented", pictures(), *options, *AUGMENT, "--accumulate", "3") / "batches"
    for name in ("batch-000000001", "batch-000000002"):
        as_it_came, changed = kept(plain / f"{name}.npz"), kept(augmented / f"{name}.npz")
        assert (changed.pop("image") == as_it_came.pop("image")[..., ::-1]).all()
        assert {each: column.tolist() for each, column in changed.items()} == {
            each: column.tolist() for each, column in as_it_came.items()
        }
        columns = {each: torch.from_numpy(column) for each, column in kept(augmented / f"{name}.npz").items()}
        with Image.open(augmented / f"{name}.png") as sheet:
            assert (np.asarray(sheet) == batch_sheet(PICTURES, columns, 64)).all()
    train(tmp_path / "plain", pictures(), *options, "--max_samples", "320")
    assert (plain / "batch-000000005.npz").exists()
    assert not (plain / "batch-000000003.npz").exists()
