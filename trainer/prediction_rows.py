"""Predictions as CSV or as JSON lines, one row a record.

    source,prediction,probability,p_Trouser,p_Bag              of classes; of labels there is no `probability`
    source,value  or  source,value_0,value_1,…                 of numbers
    {"source": …, "prediction": …, "probability": …, "probabilities": {"Trouser": …, "Bag": …}}
    {"source": …, "values": …}

A number that is not finite is an empty cell, or null; a record with one has no prediction.
"""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TextIO

import numpy as np
import numpy.typing as npt

from protocol.errors import UsageError
from trainer.predictor import Prediction

Form = Literal["csv", "jsonl"]
SUFFIXES: dict[str, Form] = {".csv": "csv", ".jsonl": "jsonl"}
STDOUT = "-"


def form_of(out: str, form: Literal["", "csv", "jsonl"]) -> Form:
    """How rows are written to `out`: as the option `form` says, else as the file's name ends. Raises `UsageError`."""
    found = form or SUFFIXES.get(Path(out).suffix)
    if found is None:
        raise UsageError(f"--out {out} ends in neither of {', '.join(SUFFIXES)}: give --format csv or --format jsonl")
    if out != STDOUT and not Path(out).expanduser().absolute().parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {Path(out).parent}: make it first")
    return found


class RowFile:
    """Writes to a file, or to standard output where it is called `-`. Whole rows, with the system when `write` returns.

    An older file of that name is replaced by the first `write`, or at the end where there was none.
    """

    def __init__(self, out: str, form: Form) -> None:
        self._out, self._form = out, form
        self._file: TextIO | None = sys.stdout if out == STDOUT else None
        self._headed = form == "jsonl"
        #: Rows written so far.
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        if kind is None and self._file is None:
            self._put("")
        if self._file is not None and self._file is not sys.stdout:
            self._file.close()

    def write(self, sources: Sequence[str], prediction: Prediction) -> None:
        """A row a source. Raises `UsageError` where the file cannot be written."""
        self._put(self._text(sources, prediction))
        self.count += len(sources)

    def _put(self, text: str) -> None:
        try:
            if self._file is None:
                self._file = Path(self._out).expanduser().open("w", encoding="utf-8", newline="")
            self._file.write(text)
            self._file.flush()
        except BrokenPipeError:
            raise  # whoever read it has had enough
        except OSError as error:
            raise UsageError(f"cannot write {self._out} ({error.strerror}): give another --out") from error

    def _text(self, sources: Sequence[str], prediction: Prediction) -> str:
        if self._form == "jsonl":
            return "".join(f"{json.dumps(row)}\n" for row in _objects(sources, prediction))
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        if not self._headed:
            rows.writerow(_header(prediction))
            self._headed = True
        rows.writerows(_cells(sources, prediction))
        return text.getvalue()


def _objects(sources: Sequence[str], prediction: Prediction) -> Iterator[dict[str, Any]]:
    for source, told, values in zip(sources, _told(prediction), _plain(prediction.values), strict=True):
        if prediction.answers == "numbers":
            yield {"source": source, "values": values}
        else:
            yield {"source": source, **told, "probabilities": dict(zip(prediction.class_names, values, strict=True))}


def _header(prediction: Prediction) -> list[str]:
    if prediction.answers != "numbers":
        return ["source", *_told(prediction)[0], *(f"p_{name}" for name in prediction.class_names)]
    numbers = prediction.values[0].size
    return ["source", *(["value"] if numbers == 1 else [f"value_{number}" for number in range(numbers)])]


def _cells(sources: Sequence[str], prediction: Prediction) -> Iterator[list[Any]]:
    flat = _plain(prediction.values.reshape(len(prediction), -1))
    for source, told, values in zip(sources, _told(prediction), flat, strict=True):
        yield [source, *(";".join(each) if isinstance(each, list) else each for each in told.values()), *values]


def _told(prediction: Prediction) -> list[dict[str, Any]]:
    """What of each record stands before its numbers."""
    finite = [bool(np.isfinite(values).all()) for values in prediction.values]
    match prediction.answers:
        case "classes":
            likely = _plain(prediction.probabilities.max(axis=1))
            told = zip(finite, prediction.names, likely, strict=True)
            return [{"prediction": name if sure else None, "probability": share} for sure, name, share in told]
        case "labels":
            named = zip(finite, prediction.labels, strict=True)
            return [{"prediction": labels if sure else None} for sure, labels in named]
        case "numbers":
            return [{}] * len(prediction)


def _plain(values: npt.NDArray[np.float32]) -> list[Any]:
    """Python's numbers, None for what JSON cannot say."""
    plain = values.astype(object)
    plain[~np.isfinite(values)] = None
    numbers: list[Any] = plain.tolist()
    return numbers
