"""`--check` reads a source without serving it, and says what would go wrong, each in one line with the mend."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producer import sample
from producer.append_log import LogSettings
from producer.bad_records import BadRecordSettings
from producer.check import CheckSettings, check
from producer.generator import class_of
from protocol.schema import Field, Schema


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "MOST_S", 0.1)
    monkeypatch.setattr(sample, "PATIENCE_S", 0.2)


class Stored:
    """A dataset; each reading of a record may be another."""

    def __init__(self, count: int = 50, noise: float = 0.0, broken: int = -1) -> None:
        self.count, self.noise, self.broken = count, noise, broken
        self.drawn = np.random.RandomState(0)
        self.classes = ["ant", "bee", "cat"]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if index == self.broken:
            raise OSError("the file is not there")
        return np.full((2, 3), index + self.noise * self.drawn.rand(), np.float32), index % 3


class Numbers:
    """Replays, unless it `drifts`, or has `fewer` when it is asked again."""

    def __init__(self, *, drifts: bool = False, fewer: int = 0) -> None:
        self.drifts, self.fewer = drifts, fewer

    def records(self, resume_at: int) -> Iterator[dict[str, Any]]:
        again = resume_at > 0
        for n in range(resume_at, 60 - self.fewer * again):
            yield {"n": n + (self.drifts and again and n == 33)}


def checked(
    source: Any, capsys: pytest.CaptureFixture[str], status: int, *, log: LogSettings | None = None, **bad: Any
) -> list[str]:
    """What is printed; a function is called as `--source` calls it."""
    made = source if hasattr(source, "__len__") or isinstance(source, Numbers) else class_of(source)()
    settings = CheckSettings(partitions=2, log=log or LogSettings(), bad=BadRecordSettings(**bad))
    assert check(made, settings) == status
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch("would be served" if status == 0 else r"would not be served as promised: \d to mend", lines[-1])
    return lines


def line(lines: list[str], word: str) -> str:
    """The one line under this word."""
    (found,) = [each for each in lines if each.startswith(f"  {word} ")]
    return found.removeprefix(f"  {word}").strip()


# --- what it gives -----------------------------------------------------------------------------------------------


def test_a_live_source_is_shown_with_its_rates(capsys: pytest.CaptureFixture[str]) -> None:
    def words() -> Iterator[dict[str, Any]]:
        for n in range(30):
            yield {"text": f"word {n}", "x": np.float32(n)}

    lines = checked(words, capsys, 0)
    assert lines[0] == "words: live"
    assert line(lines, "schema") == "as the first record shows it"
    assert line(lines, "fields") == "text uint8 [any], x float32"
    assert sum("word " in each for each in lines) == 5
    assert re.fullmatch(r"30 records in .* s: [\d,]+ records/s, \d.* MB/s, then it ended", line(lines, "read"))


def test_a_declared_schema_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    def labelled() -> Iterator[dict[str, Any]]:
        yield from ({"tokens": list(range(n)), "y": n % 2} for n in range(10))

    schema = Schema((Field("tokens", "int64", (None,)), Field("y", "int64")), "y", ("no", "yes"), (0, 1))
    vars(labelled)["schema"] = schema
    lines = checked(labelled, capsys, 0)
    assert line(lines, "schema") == "declared by the source"
    assert line(lines, "classes") == "no, yes"
    assert line(lines, "label") == "y, 0 to 1"


def test_a_dataset_is_read_twice(capsys: pytest.CaptureFixture[str]) -> None:
    lines = checked(Stored(), capsys, 0)
    assert lines[0] == "Stored: dataset"
    assert line(lines, "replay") == "the records that its identity is made of, read twice, are the same"
    wrong = line(checked(Stored(noise=0.5), capsys, 2), "wrong")
    assert wrong == "Stored gives other records when it is read again: leave random augmentation to the trainer"


def test_a_replaying_source_is_asked_again_from_the_middle(capsys: pytest.CaptureFixture[str]) -> None:
    lines = checked(Numbers(), capsys, 0)
    assert lines[0] == "Numbers: replaying"
    assert line(lines, "replay") == "30 records, asked for again from number 30 on, are the same"


def test_one_that_does_not_replay_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    mend = "records(resume_at) must give the same ones each time, from number resume_at on"
    wrong = line(checked(Numbers(drifts=True), capsys, 2), "wrong")
    assert wrong == f"record 33 is another one when asked for from number 30 on: {mend}"
    wrong = line(checked(Numbers(fewer=20), capsys, 2), "wrong")
    assert wrong == f"asked for from number 30 on: only 10 records came; {mend}"


# --- what would go wrong -----------------------------------------------------------------------------------------


def odd(record: dict[str, Any]) -> Any:
    """A source whose every tenth record is this one."""

    def source() -> Iterator[dict[str, Any]]:
        yield from (record if n % 10 == 5 else {"x": [0.5, n], "n": n} for n in range(40))

    return source


ODD = (
    ({"x": ["a", "b"], "n": 0}, "field 'x': a list of dtype <U1, which cannot travel: give one text, or numbers; "),
    ({"x": [0.5, 1.0], "n": 0.5}, "field 'n': float64 () where int64 () is due"),
    ({"x": [0.5], "n": 0}, "field 'x': float64 (1,) where float64 (2,) is due"),
    ({"x": [0.5, 1.0]}, "field 'n' is missing: a record of this stream has x, n"),
    ({"x": [0.5, 1.0], "n": 0, "m": 0}, "field 'm' is not in the schema: a record of this stream has x, n"),
    ({"x": [0.5, 1.0], "n": None}, "field 'n': a NoneType: give a value in every record"),
)


@pytest.mark.parametrize(("record", "said"), ODD)
def test_records_that_do_not_fit_are_counted_and_named(
    capsys: pytest.CaptureFixture[str], record: dict[str, Any], said: str
) -> None:
    wrong = line(checked(odd(record), capsys, 2), "wrong")
    assert wrong.startswith(said)
    assert "; 4 of 40 records, the first is number 5: make all records alike, declare a schema" in wrong


def test_with_a_quarantine_they_would_be_kept_aside_and_the_check_writes_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = tmp_path / "quarantine.jsonl"
    lines = checked(odd({}), capsys, 0, on_bad_record="quarantine", quarantine=str(kept))
    assert line(lines, "doubt").endswith("4 of 40 records, the first is number 5: kept aside")
    assert not kept.exists()


def test_labels_out_of_range_are_one_fault_however_many(capsys: pytest.CaptureFixture[str]) -> None:
    def labelled() -> Iterator[dict[str, Any]]:
        yield from ({"y": n} for n in range(9))

    vars(labelled)["schema"] = Schema((Field("y", "int64"),), "y", label_range=(0, 3))
    wrong = line(checked(labelled, capsys, 2), "wrong")
    assert wrong.startswith("field 'y': label 4 is out of range, 0 to 3 is due; 5 of 9 records, the first is number 4")


def gives(*records: Any) -> Any:
    def source() -> Iterator[Any]:
        yield from records

    return source


DOUBTS = (
    (
        {"image": np.arange(256).reshape(16, 16)},
        "field 'image': int64 of whole numbers 0 to 255 is 8 times as large as needed: give uint8",
    ),
    ({"image": np.full((2, 2), 7, np.float32)}, "float32 of whole numbers 7 to 7 is 4 times as large as needed"),
    ({"x": np.array([0.5, np.nan, np.inf])}, "field 'x': 2 of 3 values are NaN or infinite: --reject_nan true"),
    ({"label": 3}, "field 'label': labels of no declared range (3 to 3 were seen), so a wrong one gets in"),
    ({"text": ""}, "field 'text' was empty in every record: is that meant?"),
)


@pytest.mark.parametrize(("record", "said"), DOUBTS)
def test_what_would_be_served_and_is_doubtful_is_said(
    capsys: pytest.CaptureFixture[str], record: dict[str, Any], said: str
) -> None:
    assert said in line(checked(gives(record), capsys, 0), "doubt")


@pytest.mark.parametrize("image", [np.zeros((2, 2), np.uint8), np.eye(3), np.full((2, 2), 0.5), np.full((2, 2), 256)])
def test_a_picture_that_needs_its_dtype_is_no_doubt(capsys: pytest.CaptureFixture[str], image: Any) -> None:
    assert not any("doubt" in each for each in checked(gives({"image": image}), capsys, 0))


def test_a_nan_that_is_not_let_in_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    nan = gives({"x": 0.5}, {"x": float("nan")})
    assert "field 'x': a NaN or an infinity; 1 of 2 records" in line(checked(nan, capsys, 2, reject_nan=True), "wrong")


class Tensor:
    """What torch has and numpy has not."""

    def __array__(self, *_: object) -> Any:
        raise TypeError("Got unsupported ScalarType BFloat16")


def failing() -> Iterator[dict[str, Any]]:
    yield {"n": 1}
    raise RuntimeError("the cable was pulled")


def silent() -> Iterator[dict[str, Any]]:
    threading.Event().wait(1)
    yield {"n": 1}


WRONG = (
    (gives(), "no record came (it ends at once): a stream needs one to begin with"),
    (silent, "no record came (it was silent for"),
    (failing, "after 1 records: the source failed: RuntimeError: the cable was pulled"),
    (gives(5), "the source gave a int: a record is a mapping of field names to values"),
    (gives({"n": 1}, 5), "the source gave a int: a record is a mapping of field names to values; 1 of 2 records"),
    (gives({"x": {}}), "field 'x' of the first record is a dict: give its entries as fields of their own"),
    (gives({"x": Tensor()}), "(Got unsupported ScalarType BFloat16): give .float(), or the bits, such as"),
    (gives({"t": np.datetime64("2026-01-01")}), "give a number, such as .astype('datetime64[ns]').astype('int64')"),
    (gives({"x": np.array([None])}), "give numbers of one dtype, in rows of one length"),
    (gives({"x": []}), "field 'x' of the first record is empty: declare the schema, or name it as ragged"),
)


@pytest.mark.parametrize(("source", "said"), WRONG)
def test_a_source_that_cannot_be_served_is_one_line(capsys: pytest.CaptureFixture[str], source: Any, said: str) -> None:
    assert said in line(checked(source, capsys, 2), "wrong")


def test_a_dataset_with_a_record_that_cannot_be_read_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [each for each in checked(Stored(broken=7), capsys, 2) if "wrong" in each]
    assert "after 7 records: record 7 of Stored cannot be read: OSError: the file is not there" in wrong[0]


def test_stripes_that_do_not_fit_the_log_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    small = LogSettings(bytes=1 << 20)
    wrong = line(checked(gives({"x": np.zeros(1 << 19, np.uint8)}), capsys, 2, log=small), "wrong")
    assert "a log of 1048576 bytes is too small: give at least" in wrong
    wrong = line(checked(gives({"text": "a" * 5000}), capsys, 2, log=small), "wrong")
    assert re.search(r"a stripe of 256 such records has about \d+ bytes and does not fit a log of 1048576", wrong)
    checked(gives({"text": "a" * 1000}), capsys, 0, log=small)
    checked(Stored(), capsys, 0, log=LogSettings(bytes=1))  # it needs none


def test_a_source_that_falls_silent_is_judged_by_what_it_gave(capsys: pytest.CaptureFixture[str]) -> None:
    class Tail(Numbers):
        def records(self, resume_at: int) -> Iterator[dict[str, Any]]:
            yield from ({"n": n} for n in range(resume_at, 4))
            threading.Event().wait(60)

    lines = checked(Tail(), capsys, 0)
    assert line(lines, "read").startswith("4 records in ")
    assert line(lines, "replay") == "2 records, asked for again from number 2 on, are the same"


def test_a_source_that_gives_one_buffer_again_and_again_is_read_as_it_gave_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Reused(Numbers):
        def records(self, resume_at: int) -> Iterator[dict[str, Any]]:
            buffer = np.zeros(1, np.int64)
            for n in range(resume_at, 20):
                buffer[0] = n
                yield {"n": buffer}

    shown = checked(Reused(), capsys, 0)
    assert [sum(f"{n} … {n}, mean {n}" in each for each in shown) for n in range(6)] == [1, 1, 1, 1, 1, 0]
