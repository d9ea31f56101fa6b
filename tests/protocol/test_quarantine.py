"""A quarantine keeps what was rejected, readable and bounded, and goes on whatever it is given."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protocol.errors import UsageError
from protocol.quarantine import MAX_VALUE_BYTES, Quarantine, read_quarantine
from protocol.schema import DTYPES


def quarantine(folder: Path, **options: Any) -> tuple[Quarantine, list[str]]:
    said: list[str] = []
    return Quarantine(folder / "bad.jsonl", said.append, **options), said


def kept(folder: Path) -> list[dict[str, Any]]:
    return list(read_quarantine(folder / "bad.jsonl"))


def test_a_record_is_one_line_of_json_with_its_reason_and_its_place(tmp_path: Path) -> None:
    keeping, said = quarantine(tmp_path)
    image = np.arange(4, dtype=">u2").reshape(2, 2)
    record = {"image": image, "label": 12, "text": "häh", "none": None}
    keeping.keep(record, "label 12 is out of range", (3, 17))
    (line,) = (tmp_path / "bad.jsonl").read_text().splitlines()
    assert json.loads(line)["record"]["image"] == {"dtype": "uint16", "shape": [2, 2], "base64": "AAABAAIAAwA="}
    (found,) = kept(tmp_path)
    assert found["reason"] == "label 12 is out of range"
    assert (found["partition"], found["offset"]) == (3, 17)
    assert np.array_equal(found["record"].pop("image"), image)
    assert found["record"] == {"label": 12, "text": "häh", "none": None}
    assert said == [
        f"a record was rejected and is in {tmp_path}/bad.jsonl: label 12 is out of range; 1 rejected so far"
    ]


@given(
    dtype=st.sampled_from(list(DTYPES.values())),
    shape=arrays.array_shapes(min_dims=0, max_dims=3, max_side=3),
    data=st.data(),
)
def test_arrays_come_back_bit_by_bit_those_that_json_has_no_words_for_too(
    tmp_path_factory: pytest.TempPathFactory, dtype: Any, shape: tuple[int, ...], data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    array = data.draw(arrays.arrays(dtype, shape))
    keeping, _ = quarantine(folder)
    keeping.keep({"x": array}, "why")
    found = kept(folder)[-1]["record"]["x"]
    assert found.dtype == dtype
    assert found.shape == shape
    assert found.tobytes() == array.tobytes()
    (folder / "bad.jsonl").unlink()


class Angry:
    """Fails whatever is done with it."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __array__(self, dtype: object = None, copy: object = None) -> Any:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "record",
    [
        None,
        "a text",
        [1, 2],
        {"x": Angry()},
        {"x": float("nan"), "y": float("inf"), "z": 1 << 200, "t": True},
        {"x": [1, [2, "three"]], 5: {"nested": object()}},
        {"x": np.zeros(3, object), "y": np.array(["a"]), "z": b"raw"},
        {"x": torch.ones(2, requires_grad=True)},
        {f"field {number}": "x" * 10_000 for number in range(500)},
        {"x": "\ud800"},
    ],
)
def test_whatever_it_was_it_is_kept_as_valid_json_on_one_short_line(tmp_path: Path, record: object) -> None:
    keeping, _ = quarantine(tmp_path)
    keeping.keep(record, "why" * 10_000)
    (line,) = (tmp_path / "bad.jsonl").read_text().splitlines()
    json.loads(line, parse_constant=pytest.fail)
    assert len(line) < 400_000
    assert len(kept(tmp_path)) == 1


def test_of_what_is_too_long_to_keep_the_kind_is_kept(tmp_path: Path) -> None:
    keeping, _ = quarantine(tmp_path)
    keeping.keep({"x": np.zeros(MAX_VALUE_BYTES + 1, np.uint8)}, "oversized")
    assert kept(tmp_path)[0]["record"]["x"] == {"dtype": "uint8", "shape": [MAX_VALUE_BYTES + 1]}


def test_it_is_bounded_over_all_lives_and_counts_what_no_longer_fits(tmp_path: Path) -> None:
    most = 5000
    for _ in range(3):
        keeping, _ = quarantine(tmp_path, max_bytes=most)
        for number in range(100):
            keeping.keep({"id": number}, "why")
        assert keeping.records == 100
        size = (tmp_path / "bad.jsonl").stat().st_size
        assert most - 100 < size <= most
        assert keeping.left_out + len(kept(tmp_path)) >= 100


def test_a_flood_is_said_once_and_not_for_each_record(tmp_path: Path) -> None:
    keeping, said = quarantine(tmp_path, max_bytes=1000)
    for _ in range(1000):
        keeping.keep({}, "why")
    assert len(said) == 1


def test_a_line_that_was_torn_costs_itself_alone(tmp_path: Path) -> None:
    quarantine(tmp_path)[0].keep({"id": 1}, "why")
    whole = (tmp_path / "bad.jsonl").read_bytes()
    (tmp_path / "bad.jsonl").write_bytes(whole + whole[:20])
    quarantine(tmp_path)[0].keep({"id": 2}, "why")
    assert [each["record"]["id"] for each in kept(tmp_path)] == [1, 2]


def test_a_disk_that_is_full_costs_the_record_its_place_and_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    keeping = Quarantine(tmp_path / "bad.jsonl", said.append)
    (tmp_path / "bad.jsonl").unlink()
    (tmp_path / "bad.jsonl").symlink_to("/dev/full")
    keeping.keep({"id": 1}, "why")
    assert (keeping.records, keeping.left_out) == (1, 1)
    assert "a record was rejected and could not be kept (No space left on device)" in said[0]


@pytest.mark.parametrize("path", ["nowhere/bad.jsonl", "."])
def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path, path: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be written .*: name another file as quarantine"):
        Quarantine(tmp_path / path, print)
    with pytest.raises(UsageError, match="give 0 or more"):
        Quarantine(tmp_path / "bad.jsonl", print, max_bytes=-1)
