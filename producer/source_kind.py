"""What a source is: a dataset, or records as they come, which a replaying source gives again from any number on."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from protocol.errors import DataFault, HeadraceError
from protocol.schema import Schema

Kind = Literal["dataset", "replaying", "live"]

#: The parameter that makes a source a replaying one: the number of the record to go on at, from 0.
RESUME_AT: Final = "resume_at"


def kind_of(source: Any) -> Kind:
    """What an object, or the class of one, is as a source.

    A `dataset` has a length and is read by index. A `replaying` source has a method `records(resume_at)`, which yields
    its records from number `resume_at` on, the same ones each time. Anything else that can be iterated is `live`.
    """
    if hasattr(source, "__len__"):
        return "dataset"
    records = getattr(source, "records", None)
    if callable(records) and RESUME_AT in inspect.signature(records).parameters:
        return "replaying"
    return "live" if hasattr(source, "__iter__") else "dataset"


def records_of(source: Any, resume_at: int = 0) -> Iterator[Any]:
    """What a source that is no dataset yields; a replaying one from number `resume_at` on.

    Raises `DataFault` where the source's own code raises anything.
    """
    try:
        yield from source.records(resume_at=resume_at) if kind_of(source) == "replaying" else source
    except HeadraceError:
        raise
    except Exception as error:
        raise DataFault(f"the source failed: {type(error).__name__}: {error}") from error


def record_of(given: object) -> Mapping[str, Any]:
    """What a source gave, if it is a record; raises `DataFault`."""
    if not isinstance(given, Mapping):
        raise DataFault(f"the source gave a {type(given).__name__}: a record is a mapping of field names to values")
    return given


def declared_schema(source: Any) -> Schema | None:
    """The schema that a source declares by an attribute `schema`; None where its first record is to show it."""
    schema = getattr(source, "schema", None)
    return schema if isinstance(schema, Schema) else None
