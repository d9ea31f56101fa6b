"""What a source is told by: its length, its records from a number on, or that it can be iterated."""

from collections.abc import Iterator
from typing import Any

import pytest

from producer.source_kind import declared_schema, kind_of, records_of
from protocol.errors import DataFault, UsageError
from protocol.schema import Field, Schema


class Live:
    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield {"n": 1}


class Replaying:
    def records(self, resume_at: int) -> Iterator[dict[str, Any]]:
        return iter([{"n": number} for number in range(resume_at, 5)])


class Archive(Live):
    def records(self) -> list[str]:
        return []


class Sized(Replaying):
    def __len__(self) -> int:
        return 5


@pytest.mark.parametrize(
    ("kind", "source"),
    [("live", Live), ("replaying", Replaying), ("live", Archive), ("dataset", Sized), ("dataset", object)],
)
def test_a_class_and_its_objects_are_of_one_kind(kind: str, source: type[Any]) -> None:
    assert kind_of(source) == kind_of(source()) == kind


def test_a_replaying_source_is_asked_from_a_number_on() -> None:
    assert [record["n"] for record in records_of(Replaying(), 3)] == [3, 4]
    assert list(records_of(Live())) == [{"n": 1}]


def test_what_the_sources_own_code_raises_is_a_fault_that_says_so() -> None:
    class Pulled(Live):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            yield {"n": 1}
            raise RuntimeError("the cable was pulled")

    class Refuses(Live):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            raise UsageError("give another device")

    records = records_of(Pulled())
    assert next(records) == {"n": 1}
    with pytest.raises(DataFault, match="the source failed: RuntimeError: the cable was pulled"):
        next(records)
    with pytest.raises(UsageError, match=r"^give another device$"):
        next(records_of(Refuses()))


def test_only_a_schema_declares_one() -> None:
    schema = Schema((Field("n", "int64"),))

    class Declares(Live):
        def __init__(self, schema: object) -> None:
            self.schema = schema

    assert declared_schema(Declares(schema)) is schema
    assert declared_schema(Declares({"n": "int64"})) is None
    assert declared_schema(Live()) is None
