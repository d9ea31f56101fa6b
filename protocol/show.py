"""How `python -m protocol` shows what a producer says of its stream: tables, lines and JSON."""

import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from protocol.change import in_words
from protocol.dealing import Positions, distance
from protocol.messages import Description, GroupState
from protocol.schema import Schema
from protocol.wording import clock, plain, shape

MOST_CLASS_NAMES = 40


def console() -> Console:
    """Where tables are printed. Rich cuts at the width of a terminal; what is piped elsewhere stays whole."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a name that the terminal cannot write is no reason to fail
    return Console(width=None if sys.stdout.isatty() else 1000, markup=False, emoji=False, highlight=False)


def columns(*texts: str, numbers: Iterable[str] = ()) -> Table:
    """An empty table: columns of texts, then of numbers."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


# --- info --------------------------------------------------------------------------------------------------------


def info(url: str, said: Description) -> RenderableType:
    """Everything that a producer says of its stream, for people."""
    stream, schema = said.info, said.info.schema
    facts = Table.grid("fact", "value", padding=(0, 2))
    facts.columns[0].no_wrap = True
    facts.add_row("stream", f"{plain(stream.source) or 'without a name'} at {url}")
    facts.add_row("identity", plain(stream.incarnation))
    rejected = f", {said.rejected:,} records rejected" if said.rejected else ""
    facts.add_row("up", f"{clock(said.uptime_s)}, {said.refused:,} messages refused{rejected}")
    for fact, text in schema_facts(schema):
        facts.add_row(fact, text)
    if stream.records_per_pass is not None:
        facts.add_row("a pass", f"{stream.records_per_pass:,} records")
    facts.add_row("splits", ", ".join(f"{plain(name)} {size:,}" for name, size in stream.splits.items()) or "none")
    order = f"stripes of {stream.dealing.stripe:,} records" if stream.order == "stripes" else "order of arrival"
    dealing = f"{stream.dealing.partitions} partitions in {order}"
    facts.add_row("records", f"{distance(said.log_start, said.log_end):,} in {dealing}{', ended' * said.ended}")
    for change in stream.changes:
        facts.add_row("change", f"{plain(change.what)}: {in_words(change)}")
    partitions = columns(numbers=("partition", "log start", "log end"))
    for number, end in said.log_end.items():
        partitions.add_row(str(number), f"{said.log_start.get(number, 0):,}", f"{end:,}")
    return Group(facts, "", partitions, "", groups(said))


def schema_facts(schema: Schema) -> Iterator[tuple[str, str]]:
    """What a record is, for people: pairs of a word and a text."""
    yield "fields", ", ".join(f"{plain(each.name)} {shape(each)}" for each in schema.fields)
    if schema.label is not None:
        yield "label", plain(f"{schema.label}{_range(schema)}")
    if schema.class_names:
        yield "classes", _class_names(schema.class_names)


def as_json(url: str, said: Description) -> dict[str, Any]:
    """The same for programs."""
    partitions = [
        {"partition": number, "log_start": said.log_start.get(number, 0), "log_end": end}
        for number, end in said.log_end.items()
    ]
    facts = {"ended": said.ended, "uptime_s": said.uptime_s, "refused": said.refused, "rejected": said.rejected}
    wire = said.info.to_wire() | {"partitions": partitions}
    return {"url": url, "changes": [], **wire, **facts, "groups": [asdict(each) for each in said.groups]}


def _range(schema: Schema) -> str:
    return "" if schema.label_range is None else f", {schema.label_range[0]} to {schema.label_range[1]}"


def _class_names(names: Sequence[str]) -> str:
    shown = ", ".join(plain(name) for name in names[:MOST_CLASS_NAMES])
    return shown if len(names) <= MOST_CLASS_NAMES else f"{shown} and {len(names) - MOST_CLASS_NAMES:,} more"


# --- groups and their lag ----------------------------------------------------------------------------------------


def groups(said: Description) -> RenderableType:
    """The training runs that the producer knows."""
    if not said.groups:
        return Text("no group reads this stream")
    table = columns("group", numbers=("readers", "trained", "committed", "lag", "silent"))
    for each in said.groups:
        committed = f"{sum(each.committed.values()):,}" if each.durable else "none yet"
        table.add_row(
            plain(each.name), str(each.readers), f"{sum(each.trained.values()):,}", committed,
            f"{lag(each, said.log_end):,}", clock(each.silent_s),
        )  # fmt: skip
    return table


def lag(group: GroupState, log_end: Positions) -> int:
    """Records between what the group has trained and the log end."""
    return sum(log_end.get(partition, offset) - offset for partition, offset in group.trained.items())


@dataclass
class LagView:
    """What `lag` shows; each `Description` that it hears is held against the one before, for the rates."""

    url: str
    said: Description
    now_s: float
    silent_s: float = 0.0
    rates: Mapping[str, float] = field(default_factory=dict)

    def hear(self, said: Description, now_s: float) -> None:
        """The producer has answered."""
        passed_s, before = max(1e-9, now_s - self.now_s), _counts(self.said)
        self.rates = {
            name: (count - before[name]) / passed_s for name, count in _counts(said).items() if name in before
        }
        self.said, self.now_s, self.silent_s = said, now_s, 0.0

    def hear_nothing(self, now_s: float) -> None:
        """The producer has not answered."""
        self.silent_s = now_s - self.now_s

    def table(self) -> RenderableType:
        """For a terminal."""
        name = plain(self.said.info.source) or "the stream"
        state = f"AWAY for {clock(self.silent_s)}" if self.silent_s else f"up {clock(self.said.uptime_s)}"
        title = Text(f"{name} at {self.url}, {state}, {self._log_end()}")
        if not self.said.groups:
            return Group(title, Text("no group reads this stream"))
        table = columns("group", numbers=("readers", "trained", "per s", "lag", "committed", "silent"))
        for each in self.said.groups:
            table.add_row(
                plain(each.name), str(each.readers), f"{sum(each.trained.values()):,}", self._rate(each.name),
                f"{lag(each, self.said.log_end):,}", f"{sum(each.committed.values()):,}", clock(each.silent_s),
            )  # fmt: skip
        return Group(title, table)

    def line(self) -> str:
        """For anything else: the same in one line."""
        parts = [f"AWAY for {clock(self.silent_s)}, {self._log_end()}" if self.silent_s else self._log_end()]
        for each in self.said.groups:
            trained, rate = sum(each.trained.values()), self._rate(each.name)
            parts.append(
                f"{plain(each.name)}: lag {lag(each, self.said.log_end):,}  trained {trained:,}"
                f"{rate and f'  {rate}/s'}  readers {each.readers}"
            )
        return "  |  ".join(parts if self.said.groups else [*parts, "no group reads"])

    def _log_end(self) -> str:
        rate = self._rate("")
        return f"log end {sum(self.said.log_end.values()):,}{rate and f' ({rate}/s)'}{', ended' * self.said.ended}"

    def _rate(self, name: str) -> str:
        return f"{self.rates[name]:,.0f}" if name in self.rates else ""


def _counts(said: Description) -> dict[str, int]:
    """Records trained by each group; of the stream itself under ""."""
    return {"": sum(said.log_end.values()), **{each.name: sum(each.trained.values()) for each in said.groups}}
