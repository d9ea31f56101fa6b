"""Drift with the truth known: a seeded schedule of changes over any source.

What is served as a record is a function of the source, the schedule, the seed and the record's number in the stream
alone: it is the same however it is read, and after every restart. What changes, and when, is said in the stream's
description (`Change`), never in a record. The kinds of drift, abrupt, gradual and recurring, are those of Gama et al.,
"A survey on concept drift adaptation" (ACM Computing Surveys 46:4, 2014).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from producer.effects import EFFECTS, Effect, OnChoice, OnRecords
from producer.source import check_seed
from producer.thinning import Thinning
from protocol.change import MAX_CHANGES, Change
from protocol.chunk import Column
from protocol.command_line import read_yaml
from protocol.conform import RecordCheck
from protocol.draws import drawn
from protocol.errors import UsageError
from protocol.schema import Schema

#: Keeps what is drawn for a drift apart from what trainers draw for the same record, whose seeds have 32 bits.
DRIFT_DRAW = 0x64726674
#: Which of the records that come are changed, what is drawn for their pixels, and which records come.
ON_RECORDS, ON_PIXELS, ON_CHOICE = 0, MAX_CHANGES, 2 * MAX_CHANGES

WHEN = ("at", "until", "over", "every")
MEND = "give a YAML list of changes, such as [{change: rotate, degrees: 30, at: 20000}]"


@dataclass(frozen=True)
class Planned:
    """One change of a schedule: what is told of it, and what it does."""

    change: Change
    effect: Effect


@dataclass(frozen=True)
class Schedule:
    """The changes of a stream and the seed that says on which records they fall; for records of any schema."""

    planned: tuple[Planned, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)

    @property
    def changes(self) -> tuple[Change, ...]:
        """The truth, as the stream's description says it."""
        return tuple(each.change for each in self.planned)


def read_schedule(path: str | Path, seed: int = 0) -> Schedule:
    """The schedule in a YAML file: a list of changes. Raises `UsageError`, naming the change.

    Each has `change` (one of `EFFECTS`), the arguments of that effect, and when: `at`, `until`, `over`, `every`.
    """
    given = read_yaml(path, "--drift", MEND)
    if not isinstance(given, list) or not given:
        raise UsageError(f"--drift {str(path)!r} holds no list: {MEND}")
    if len(given) > MAX_CHANGES:
        raise UsageError(f"--drift {str(path)!r} holds {len(given)} changes: a stream has at most {MAX_CHANGES}")
    planned = []
    for number, each in enumerate(given, 1):
        try:
            planned.append(_planned(each))
        except UsageError as error:
            raise UsageError(f"--drift {str(path)!r}, change {number}: {error}") from error
    return Schedule(tuple(planned), seed)


def _planned(given: object) -> Planned:
    if not isinstance(given, dict):
        raise UsageError(f"{given!r} is no change: {MEND}")
    kind = next((each for name, each in EFFECTS.items() if name == given.get("change")), None)
    if kind is None:
        raise UsageError(f"there is no change {given.get('change')!r}: give one of {', '.join(EFFECTS)}")
    when = {name: given[name] for name in WHEN if name in given}
    arguments = {name: value for name, value in given.items() if name not in (*WHEN, "change")}
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # an effect is a dataclass
    if surplus := next((name for name in arguments if name not in known), None):
        raise UsageError(f"{kind.name} takes no {surplus!r}: it takes {', '.join((*known, *WHEN))}")
    if missing := next((name for name in (*known, "at") if name not in given), None):
        raise UsageError(f"{kind.name} needs {missing!r} as well")
    for name, value in when.items():
        if type(value) is not int:
            raise UsageError(f"{name} {value!r}: give a number of records")
    effect = kind(**arguments)
    told = yaml.safe_dump(arguments, default_flow_style=True, width=float("inf"), allow_unicode=True).strip()
    try:
        change = Change(what=f"{kind.name} {told}" if arguments else kind.name, **when)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return Planned(change, effect)


class Drift:
    """A schedule at work on records of one schema. Raises `UsageError` where it does not go with them."""

    def __init__(self, schedule: Schedule, schema: Schema) -> None:
        self.changes = schedule.changes
        #: What the identity of a stream has of it.
        self.identity = ("drift", f"seed {schedule.seed}", json.dumps([each.to_wire() for each in self.changes]))
        self._schema, self._seed = schema, schedule.seed
        self._check = RecordCheck(schema)
        self._on_records: list[tuple[Change, OnRecords, str, int]] = []
        on_choice: list[tuple[Change, OnChoice]] = []
        for number, planned in enumerate(schedule.planned):
            try:
                field = planned.effect.field(schema)
            except UsageError as error:
                raise UsageError(f"--drift, change {number + 1} ({planned.change.what}): {error}") from error
            if isinstance(planned.effect, OnChoice):
                on_choice.append((planned.change, planned.effect))
            elif isinstance(planned.effect, OnRecords):
                self._on_records.append((planned.change, planned.effect, field, number))
        #: Which records of the source come; None where all do.
        self.thinning = Thinning(on_choice, schema, self._key(ON_CHOICE)) if on_choice else None

    def change(self, first: int, count: int, columns: Mapping[str, Column]) -> None:
        """Make the caller's own columns what they are as the records of the stream from number `first` on."""
        numbers = np.arange(first, first + count, dtype=np.int64)
        for change, effect, field, number in self._on_records:
            share = change.share(numbers)
            if not share.any():  # the usual case: nothing is drawn for it
                continue
            rows = np.flatnonzero(drawn(self._key(ON_RECORDS + number), numbers) < share)
            if not len(rows):
                continue
            column = columns[field]
            assert isinstance(column, np.ndarray), "neither a picture nor a label is ragged"
            column[rows] = effect.changed(column[rows], numbers[rows], self._key(ON_PIXELS + number), self._schema)

    def record(self, record: Mapping[str, Any], given: int, number: int) -> Mapping[str, Any] | None:
        """A record of a live source, before which it gave so many, as record `number` of the stream; None where it is
        left out.

        Raises `DataFault` where it is not what the schema says.
        """
        values = dict(zip((field.name for field in self._schema.fields), self._check.record(record), strict=True))
        if self.thinning is not None:
            assert self._schema.label is not None
            if not len(self.thinning.coming(np.array([values[self._schema.label]]), given, number)):
                return None
        fields_changed = {field for _, _, field, _ in self._on_records}
        columns = {name: np.array([values[name]], self._schema[name].numpy_dtype) for name in fields_changed}
        self.change(number, 1, columns)
        return values | {name: column[0] for name, column in columns.items()}

    def _key(self, purpose: int) -> int:
        """The seed of 64 bits for one purpose."""
        return (DRIFT_DRAW + purpose) << 32 | self._seed
