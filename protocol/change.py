"""A change of a stream that its producer knows of: what, and from which record on. The truth about a drift."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.values import MAX_NUMBER, MAX_TEXT_LENGTH, mapping, number, text

MAX_CHANGES = 64
#: A change that comes gradually does so in about so many even steps.
STEPS = 100


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is so from record `at` of the stream on, until record `until` (None: for good).

    With `over` it comes gradually: of so many records from `at` on a share is changed that grows from none to all. With
    `every` it comes again, each time so many records after it last began, for ever. Records are numbered in stream
    order; their partition and offset follow by the dealing. Raises `ValueError`.
    """

    what: str
    at: int
    until: int | None = None
    over: int = 0
    every: int = 0

    def __post_init__(self) -> None:
        if not 0 < len(self.what) <= MAX_TEXT_LENGTH:
            raise ValueError(f"a change is said in 1 to {MAX_TEXT_LENGTH} characters, not {len(self.what)}")
        if not all(0 <= each <= MAX_NUMBER for each in (self.at, self.until or 0, self.over, self.every)):
            raise ValueError("at, until, over and every are numbers of records, from 0 to 2^63 - 1")
        if self.until is None:
            if self.every:
                raise ValueError("what comes again (every) ends in between: give until as well")
            return
        length = self.until - self.at
        if length < 1:
            raise ValueError(f"it would end (until {self.until}) before it has begun (at {self.at})")
        if self.over > length:
            raise ValueError(f"it would end after {length} records, before it has come whole (over {self.over})")
        if self.every and self.every < length:
            raise ValueError(f"it would come again (every {self.every}) before it has ended, {length} records later")

    def share(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Which share of the records is changed where these `numbers` [n] lie: from 0, none, to 1, all of them."""
        since = self._since(numbers)
        step = max(1, self.over // STEPS)
        come = np.where(since < self.over, (since // step * step + 1) / float(self.over + 1), 1.0)
        lasts = since >= 0 if self.until is None else (since >= 0) & (since < self.until - self.at)
        return np.where(lasts, come, 0.0)

    def steady(self, record: int) -> int:
        """The first record after this one from which on another share may be changed; `MAX_NUMBER` if there is none."""
        since = int(self._since(np.array([record]))[0])
        begun = record - since
        if since < 0:
            return self.at
        if since < self.over:
            step = max(1, self.over // STEPS)
            return begun + min(self.over, (since // step + 1) * step)
        if self.until is not None and since < self.until - self.at:
            return begun + self.until - self.at
        return begun + self.every if self.every else MAX_NUMBER

    @property
    def settled(self) -> int | None:
        """The record from which on nothing changes any more; None where it comes again for ever."""
        if self.every:
            return None
        return self.at + self.over if self.until is None else self.until

    def turns(self, first: int, end: int) -> Iterator[tuple[int, str]]:
        """What of it begins and what ends from record `first` up to `end` - 1: (record, words).

        Of one that comes again, the last time that lies there: a stranger may say that it comes with every record.
        """
        over = f", gradually over {self.over:,} records" if self.over else ""
        for begins, words in ((self.at, f"{self.what} begins{over}"), (self.until, f"{self.what} ends")):
            if begins is None:
                continue
            again = (end - 1 - begins) // self.every * self.every if self.every and end > begins else 0
            if first <= begins + again < end:
                yield begins + again, words

    def to_wire(self) -> dict[str, Any]:
        """As a msgpack map (protocol/SPEC.md)."""
        return {"what": self.what, "at": self.at, "until": self.until, "over": self.over, "every": self.every}

    @classmethod
    def from_wire(cls, wire: Any) -> "Change":
        """The reverse; raises `MalformedMessage`, `OutOfRange` or `ValueError`, as `StreamInfo` does."""
        found = mapping(wire)
        until = found["until"]
        return cls(
            what=text(found["what"]),
            at=number(found["at"]),
            until=None if until is None else number(until),
            over=number(found["over"]),
            every=number(found["every"]),
        )

    def _since(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Records since it last began; negative before it first does."""
        since = numbers - self.at
        return np.where(since >= 0, since % self.every, since) if self.every else since


def in_words(change: Change) -> str:
    """When a change comes, for people: `from 20,000 to 30,000, gradually over 5,000, again every 40,000`."""
    parts = [f"from {change.at:,}" + ("" if change.until is None else f" to {change.until - 1:,}")]
    parts += [f"gradually over {change.over:,}"] if change.over else []
    parts += [f"again every {change.every:,}"] if change.every else []
    return ", ".join(parts)
