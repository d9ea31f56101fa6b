"""Any map-style dataset as a source: torchvision's, an ImageFolder, a class of your own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.source import Indices, Size, Source, content_digest, divide, random_state
from producer.source_kind import declared_schema
from protocol.chunk import LENGTH_DTYPE, Column, Ragged
from protocol.conform import RecordCheck
from protocol.errors import DataFault, UsageError
from protocol.inference import as_array, infer_schema, is_integer
from protocol.schema import Field, Schema

ID_FIELD = "id"

#: Records that the fingerprint reads (twice) where not all of the content lies at hand.
SAMPLED_RECORDS = 64
#: `dataset.data` is digested whole up to this size, at about 1 GB/s.
WHOLE_BYTES = 1 << 30
SAMPLE_DRAW = 0x73616D70
SAMPLE_SEED = 0


def source_from(dataset: object, *, splits: Mapping[str, Size] | None = None, seed: int = 0) -> Source:
    """A `Source` as it is, any other map-style dataset wrapped; with the records of `splits` held out (see `divide`).

    Raises `UsageError` for anything that cannot be read by index.
    """
    if isinstance(dataset, Source):
        return divide(dataset, splits or {}, seed)
    name = dataset.__name__ if isinstance(dataset, type) else type(dataset).__name__
    if isinstance(dataset, type):
        raise UsageError(f"{name} is a class where a dataset is due: give an object made from it")
    readable = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if not readable or isinstance(dataset, Mapping | str | bytes):
        raise UsageError(
            f"{name} is not a map-style dataset: a source has __len__ and __getitem__(index); "
            "a live source has __iter__, or records(resume_at), and gives mappings of field names to values"
        )
    return divide(DatasetSource(dataset, schema=declared_schema(dataset)), splits or {}, seed)


class DatasetSource(Source):
    """The records `dataset[0]` to `dataset[N - 1]`, each held against the schema when it is read.

    The fields: a mapping's keys; a named tuple's names; a pair becomes `image` and `label` (`target` where it is not
    one integer) if the first has two dimensions or more, else `x` and `y`; of other tuples, the first two alike and
    then `value2`, `value3`; a value alone is `image` or `x`. An int64 field `id`, the index, is put first where there
    is none. `schema` (or an attribute `schema` of the dataset's) declares what the first record does not show, such as
    ragged fields or the names of classes; the field `id` need not be in it.

    The label is the field `label`, or the second of a pair, if it is one integer. Its names come from
    `dataset.classes` and its range from them, else from `dataset.targets` or `.labels`; from neither where the
    dataset changes its labels by a `target_transform`.
    """

    def __init__(self, dataset: Any, *, schema: Schema | None = None, name: str | None = None) -> None:
        self.name = type(dataset).__name__ if name is None else name
        self._dataset = dataset
        self._count = len(dataset)
        if self._count == 0:
            raise UsageError(f"{self.name} is empty: a source has at least one record")
        try:
            first = self._record(0)
        except DataFault as fault:
            raise UsageError(str(fault)) from fault
        self.schema = self._inferred_schema(first) if schema is None else _with_id(schema)
        self._check = RecordCheck(self.schema)
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return self._count

    def take(self, indices: Indices) -> dict[str, Column]:
        rows = [self._checked(index) for index in indices.tolist()]
        columns = zip(*rows, strict=True) if rows else [() for _ in self.schema.fields]
        return {f.name: column_of(f, values) for f, values in zip(self.schema.fields, columns, strict=True)}

    def fingerprint(self) -> str:
        """Of number of records, all labels and all of `dataset.data` where it has them, and a sample of 64 records.

        Reading every record of a big set would take minutes at each start. So a change to records that were not
        sampled is missed where it changes neither their number nor a label nor `dataset.data`. The sample is read
        twice; a dataset that gives another record the second time cannot be replayed and raises `UsageError`.
        """
        if self._fingerprint is None:
            parts: list[str | npt.NDArray[Any]] = []
            for attribute in ("data", "targets", "labels"):
                whole = self._whole(attribute)
                parts += [] if whole is None else [attribute, whole]
            self._fingerprint = content_digest("dataset", self._count, self._sample_digest(), *parts)
        return self._fingerprint

    def _record(self, index: int) -> dict[str, Any]:
        try:
            record = named(self._dataset[index])
        except Exception as error:
            raise DataFault(f"record {index} of {self.name} cannot be read: {type(error).__name__}: {error}") from error
        return record if ID_FIELD in record else {ID_FIELD: index, **record}

    def _checked(self, index: int) -> list[Any]:
        record = self._record(index)
        try:
            return self._check.record(record)
        except DataFault as fault:
            raise DataFault(f"record {index} of {self.name}: {fault}") from fault

    def _inferred_schema(self, first: Mapping[str, Any]) -> Schema:
        plain = infer_schema(first)
        label = next((f.name for f in plain.fields if f.name in ("label", "y") and is_integer(f)), None)
        if label is None or getattr(self._dataset, "target_transform", None) is not None:
            return Schema(plain.fields, label=label)
        class_names = _class_names(self._dataset)
        label_range = (0, len(class_names) - 1) if class_names else None
        labels = next((a for name in ("targets", "labels") if (a := self._whole(name)) is not None), None)
        if label_range is None and labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu":
            label_range = (int(labels.min()), int(labels.max()))
        return Schema(plain.fields, label=label, class_names=class_names, label_range=label_range)

    def _whole(self, attribute: str) -> npt.NDArray[Any] | None:
        """What the dataset keeps of all its records under this name, if that is what it is."""
        value = getattr(self._dataset, attribute, None)
        if isinstance(value, list | tuple) and value and not isinstance(value[0], int | float | np.number):
            return None  # for instance a list of paths: no content of the records
        try:
            array = as_array(value)
        except TypeError:
            return None
        return array if array.shape[:1] == (self._count,) and array.nbytes <= WHOLE_BYTES else None

    def _sample_digest(self) -> str:
        drawn = random_state(SAMPLE_SEED, SAMPLE_DRAW).randint(0, self._count, SAMPLED_RECORDS)
        few = np.arange(min(self._count, SAMPLED_RECORDS))
        sample = few if self._count <= SAMPLED_RECORDS else np.unique(np.append(drawn, (0, self._count - 1)))
        try:
            first, second = (_digest(self.take(sample.astype(np.int64))) for _ in range(2))
        except DataFault as fault:
            raise UsageError(
                f"{fault}; mend the dataset, or give it a transform that makes all records alike"
            ) from fault
        if first != second:
            raise UsageError(
                f"{self.name} gives other records when it is read again: leave random augmentation to the trainer"
            )
        return first


def named(record: Any) -> dict[str, Any]:
    """A dataset's record as a mapping from field names to values, named as `DatasetSource` says."""
    if isinstance(record, Mapping):
        return dict(record)
    if isinstance(record, tuple) and hasattr(record, "_asdict"):
        return dict(record._asdict())
    # torch's own collation treats a list as a record's parts too.
    values = list(record) if isinstance(record, tuple | list) else [record]
    pictured = as_array(values[0]).ndim >= 2
    names = ["image" if pictured else "x"]
    if len(values) > 1:
        second = as_array(values[1])
        single = second.ndim == 0 and second.dtype.kind in "iu"
        names.append(("label" if single else "target") if pictured else "y")
    names += [f"value{number}" for number in range(2, len(values))]
    return dict(zip(names, values, strict=True))


def column_of(field: Field, values: Sequence[Any]) -> Column:
    """One field's column, of the values of some records as `FieldCheck.value` gives them."""
    if not field.ragged:
        column = np.empty((len(values), *field.item_shape), field.numpy_dtype)
        for row, value in enumerate(values):
            column[row] = value
        return column
    lengths = np.fromiter((len(value) for value in values), LENGTH_DTYPE, len(values))
    empty = np.empty((0, *field.item_shape), field.numpy_dtype)
    return Ragged(lengths, np.concatenate([empty, *values]))


def _digest(columns: Mapping[str, Column]) -> str:
    parts: list[str | npt.NDArray[Any]] = []
    for name, column in columns.items():
        parts += [name, *((column.lengths, column.values) if isinstance(column, Ragged) else (column,))]
    return content_digest(*parts)


def _with_id(schema: Schema) -> Schema:
    if any(field.name == ID_FIELD for field in schema.fields):
        return schema
    return replace(schema, fields=(Field(ID_FIELD, "int64"), *schema.fields))


def _class_names(dataset: Any) -> tuple[str, ...]:
    classes = getattr(dataset, "classes", None)
    if not isinstance(classes, list | tuple):
        return ()
    # ImageNet's classes are tuples of synonyms.
    return tuple(", ".join(map(str, entry)) if isinstance(entry, list | tuple) else str(entry) for entry in classes)
