"""What a stream is, as its producer announces it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from protocol.change import MAX_CHANGES, Change
from protocol.dealing import Dealing
from protocol.errors import MalformedMessage
from protocol.schema import MAX_NAME_LENGTH, Schema
from protocol.values import entries, mapping, number, shown, text

MAX_SPLITS = 64
#: In which order records come: dealt in stripes by one writer, or as they arrive in partitions that many writers fill.
StreamOrder = Literal["stripes", "arrival"]
STREAM_ORDERS: Final[tuple[StreamOrder, ...]] = get_args(StreamOrder)
SPLIT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class StreamInfo:
    """The facts that do not change while a log lives.

    `incarnation` is the identity of the log's content. `splits` maps the finite sides of the stream (`validation`,
    `test`) to their number of records. `records_per_pass` is set where the stream goes over a finite dataset again
    and again; where changes leave records out and passes differ, it is the length of the first. `changes` is what the
    producer knows of the stream's drift, never said in a record. `source` is for people. Where the `order` is
    "arrival" the stream has none among its partitions, and records no numbers: the dealing's stripe is only the most
    records of a chunk, which may begin at any offset.
    """

    incarnation: str
    schema: Schema
    dealing: Dealing
    splits: Mapping[str, int] = field(default_factory=dict)
    records_per_pass: int | None = None
    changes: tuple[Change, ...] = ()
    source: str = ""
    order: StreamOrder = "stripes"

    def __post_init__(self) -> None:
        if len(self.splits) > MAX_SPLITS:
            raise ValueError(f"a stream has at most {MAX_SPLITS} splits, not {len(self.splits)}")
        for name in self.splits:
            if not SPLIT_NAME.fullmatch(name):  # it becomes a folder's name on the reader's side
                raise ValueError(f"{shown(name)} is no name of a split: letters, digits, '_', '-' and '.' make one")
        if len(self.changes) > MAX_CHANGES:
            raise ValueError(f"a stream has at most {MAX_CHANGES} changes, not {len(self.changes)}")
        if self.order not in STREAM_ORDERS:
            raise ValueError(f"the order of a stream is {' or '.join(STREAM_ORDERS)}, not {shown(self.order)}")
        if self.order == "arrival" and (self.changes or self.records_per_pass is not None):
            raise ValueError("a stream in order of arrival has neither passes nor changes: its records have no numbers")

    def to_wire(self) -> dict[str, Any]:
        """As a msgpack map (protocol/SPEC.md)."""
        changes = {"changes": [change.to_wire() for change in self.changes]} if self.changes else {}
        order = {} if self.order == "stripes" else {"order": self.order}
        return {
            "incarnation": self.incarnation,
            "schema": self.schema.to_wire(),
            "partitions": self.dealing.partitions,
            "stripe": self.dealing.stripe,
            "splits": dict(self.splits),
            "records_per_pass": self.records_per_pass,
            **changes,
            "source": self.source,
            **order,
        }

    @classmethod
    def from_wire(cls, wire: Any) -> "StreamInfo":
        """The reverse; raises `MalformedMessage`."""
        try:
            splits, per_pass = mapping(wire["splits"]), wire["records_per_pass"]
            return cls(
                incarnation=text(wire["incarnation"], MAX_NAME_LENGTH),
                schema=Schema.from_wire(wire["schema"]),
                dealing=Dealing(number(wire["partitions"]), number(wire["stripe"])),
                splits={text(name, MAX_NAME_LENGTH): number(size) for name, size in splits.items()},
                records_per_pass=None if per_pass is None else number(per_pass),
                changes=tuple(map(Change.from_wire, entries(wire.get("changes", []), MAX_CHANGES))),
                source=text(wire["source"]),
                order=wire.get("order", "stripes"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedMessage(f"not a description of a stream: {error}") from error
