"""Where a run stands on its stream: what was trained, what became of the rest, and what was heard of the producer."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from protocol.dealing import Positions, distance
from protocol.errors import (
    HeadraceError,
    Lost,
    RecordsLost,
    StreamError,
    StreamReplaced,
    UsageError,
    lost_between,
    ranges,
)
from protocol.messages import Description
from protocol.rate_limit import RateLimit
from protocol.stream import StreamOrder
from protocol.subscription import Away, Ended, Expired, Heard, Subscribed
from trainer.ledger import ClosedLedger, Ledger, add_up, offsets
from trainer.reached import Reached
from trainer.report import StreamStanding
from trainer.trail import Hole, Passed
from trainer.windowed_trail import NOTHING_AHEAD, Ahead, Before

logger = logging.getLogger(__name__)

STATE_VERSION: Final = 4
#: A slow trainer may lose records many times a second; that is said so often, the ledger counts each time.
LOST_SAID_S: Final = 10.0

#: What is done about records that the stream has lost.
OnLoss = Literal["stop", "continue"]


class RunPosition:
    """The positions that the weights have seen, and the ledger that accounts for them.

    A new run starts at `start`; a `resumed` state goes on where it was, whatever `order` it was read in. Where that
    belongs to another stream, the new one is read from its first record on: if the former was trained to its end, or
    `on_loss` is 'continue', which counts the rest as lost. Else raises `StreamReplaced`. Partitions that were added
    since begin at their log start; raises `StreamError` where there are fewer.
    """

    def __init__(
        self,
        description: Description,
        *,
        start: Positions,
        resumed: Mapping[str, Any] | None,
        on_loss: OnLoss = "stop",
        order: StreamOrder = "stripes",
        producer: str = "the producer",
    ) -> None:
        self._info, self._order, self.on_loss, self._producer = description.info, order, on_loss, producer
        #: Batches over all lives, those that were skipped among them.
        self.batches = 0
        self._stand_at(start)
        self.ledger = Ledger(self.trained)
        #: What was trained of a shuffled window that the positions have not passed.
        self.ahead = NOTHING_AHEAD
        #: What became of the records of earlier streams, which this one has followed.
        self.earlier: list[ClosedLedger] = []
        self.log_end = dict(description.log_end)
        self._final: Positions = {}
        #: Since when (monotonic seconds) the producer is away; None while it is there.
        self.away_since_s: float | None = None
        #: The producer's log is nearly full and waits for a commit; whoever saves sets it back.
        self.save_soon = False
        #: Records that came in from readers of earlier streams, in this life.
        self.received_before = 0
        self._lost_said: defaultdict[int, RateLimit] = defaultdict(lambda: RateLimit(LOST_SAID_S))
        if resumed is not None:
            self._restore(resumed, description)

    #: What a mix says of each of its streams.
    streams: Final[Sequence[StreamStanding]] = ()

    @property
    def trained(self) -> Positions:
        """The positions that the weights have seen; they move on in place."""
        return self._reached.positions

    @property
    def samples(self) -> int:
        """Records that were trained of this stream and of those before it, over all lives."""
        return self.totals()["trained"] + sum(self.ahead.trained.values())

    def _stand_at(self, positions: Positions) -> None:
        self._reached = Reached(self._order, self._info.dealing, positions)

    def mark(self, number: int, passed: Iterable[Passed | Hole | Before], ahead: Ahead = NOTHING_AHEAD) -> None:
        """All batches up to this number have met a fate; `passed` are the rows that have passed by that, and what was
        trained `ahead` of the positions.

        How many of which partition they were goes into the ledger, how far that is into the positions.
        """
        for each in passed:
            match each:
                case Before():
                    self.ledger.found(each.fate, each.partition, each.rows)
                case Passed():
                    self.ledger.count(each.fate, each.partition, each.rows)
                    self._reached.move(each)
                case _:
                    self.ledger.count("lost" if isinstance(each, Lost) else "absent", each.partition, each.records)
                    self._reached.skip(each)
        self.batches, self.ahead = number, ahead

    def grow(self, description: Description) -> Positions:
        """The stream has more partitions than before: where those begin that were added."""
        added = {p: start for p, start in description.log_start.items() if p not in self.trained}
        if added:
            logger.info("the stream has %d partitions now, %d of them new", len(description.log_start), len(added))
        self._info = description.info
        self.trained.update(added)
        self.ledger.grow(added)
        self.log_end |= description.log_end
        return added

    def hear(self, event: Subscribed | Heard | Away | Expired | Ended) -> None:
        """One of the readers has heard something of the producer. Raises `RecordsLost` where that ends the run."""
        match event:
            case Heard():
                self.log_end.update(event.log_end)
                self.save_soon = self.save_soon or event.save_soon
            case Away() if self.away_since_s is None:
                self.away_since_s = time.monotonic() - event.silent_s
                logger.warning("%s is away; waiting for it", self._producer)
            case Subscribed() if self.away_since_s is not None:
                self.away_since_s = None
                logger.info("%s is back", self._producer)
            case Expired():
                self._hear_lost(event)
            case Ended():
                self._final.update(event.final)
                self.log_end.update(event.final)
            case _:
                return

    def _hear_lost(self, expired: Expired) -> None:
        if self.on_loss == "stop":  # whatever has come and is not trained will be gone as well
            first, *others = lost_between(self.trained, expired.log_start) or expired.lost
            raise RecordsLost(*first[:3], others)
        reader = expired.lost[0].partition  # each of them speaks for its own partitions
        if self._lost_said[reader].allows(time.monotonic()):
            logger.warning("going on behind what the log forgot before it was read: %s", ranges(expired.lost))

    def lose_rest(self, received: Mapping[int, int]) -> tuple[Lost, ...]:
        """The stream is gone: what was heard of and not received will never come."""
        lost = lost_between(received, self._known_end, at_least=True)
        if lost:
            logger.warning("going on, though the stream %s is gone: %s", self._info.incarnation, ranges(lost))
        return lost

    def explained(self, error: HeadraceError) -> HeadraceError:
        """An error of a reader, with what this run knows of what is lost."""
        if isinstance(error, StreamReplaced):
            return StreamReplaced(error.expected, error.found, lost_between(self.trained, self.log_end, at_least=True))
        return error

    @property
    def _known_end(self) -> Positions:
        """The log end last heard, or as far as records were trained."""
        return {p: max(self.log_end.get(p, 0), at + self.ahead.of(p)) for p, at in self.trained.items()}

    @property
    def end_known(self) -> bool:
        """Whether every partition has come to its end."""
        return self._final.keys() == self.trained.keys()

    @property
    def ended(self) -> bool:
        """Whether the stream has ended and all of it was trained."""
        return self._final == self.trained

    @property
    def passed(self) -> int:
        """Records that the positions have passed, from the first of the stream on."""
        return sum(self.trained.values())

    @property
    def log_records(self) -> int:
        """Records that the log has ever held, as far as was heard."""
        return sum(self.log_end.values())

    @property
    def lag(self) -> int:
        """Records between what was trained and the log end last heard."""
        return max(0, distance(self.trained, self.log_end))

    @property
    def state(self) -> str:
        """How the stream stands: `streaming`, `away 12 s` or `ended`."""
        if self.ended:
            return "ended"
        if self.away_since_s is not None:
            return f"away {time.monotonic() - self.away_since_s:.0f} s"
        return "streaming"

    @property
    def received(self) -> int:
        """Records that came in from readers in this life."""
        return self.received_before + self.ledger.received

    def totals(self) -> dict[str, int]:
        """What became of all records of this stream and of those before it."""
        return add_up([self.ledger, *(each.ledger for each in self.earlier)])

    def state_dict(self) -> dict[str, Any]:
        """Plain values that `torch.load(weights_only=True)` accepts."""
        return {
            "version": STATE_VERSION,
            "incarnation": self._info.incarnation,
            "fields": self._info.schema.fields_text,
            "partitions": self._info.dealing.partitions,
            "stripe": self._info.dealing.stripe,
            "positions": dict(self.trained),
            "log_end": self._known_end,
            "batches": self.batches,
            "ended": self.ended,
            "ahead": self.ahead.state_dict(),
            "ledger": self.ledger.state_dict(),
            "earlier": [each.state_dict() for each in self.earlier],
        }

    def _restore(self, state: Mapping[str, Any], description: Description) -> None:
        found, fields = self._info.incarnation, self._info.schema.fields_text
        self.batches = int(state["batches"])
        self.earlier = [ClosedLedger.from_state(each) for each in state["earlier"]]
        if state["incarnation"] == found:
            if (known := state["fields"]) != fields:
                now = f"the stream {found} shows other fields ({fields}) than were trained on so far ({known})"
                raise UsageError(f"{now}: declare those (schema= of a topic's URL), and decode as before")
            self._stand_at(offsets(state["positions"]))
            self.ledger = Ledger.from_state(state["ledger"])
            self.ahead = Ahead.from_state(state["ahead"])
            if (had := len(self.trained)) > (has := self._info.dealing.partitions):
                raise StreamError(f"the state has positions in {had} partitions, and the stream {found} has {has}")
            self.grow(description)
            return
        if any(each.incarnation == found for each in self.earlier):
            raise StreamError(
                f"the run has read the stream {found} already, before the one that is gone now: its records would be "
                "trained again; begin anew in another --run_dir (--init_from this one)"
            )
        closed, lost = _close(state)
        if closed.ended:
            logger.info("the stream %s was trained to its end; stream %s follows", closed.incarnation, found)
        elif self.on_loss == "stop":
            raise StreamReplaced(closed.incarnation, found, lost)
        else:
            said = f": {ranges(lost)}" if lost else ""
            logger.warning("stream %s follows the stream %s, which is gone%s", found, closed.incarnation, said)
        self.earlier.append(closed)
        self._stand_at(self._info.dealing.ends(0))
        self.ledger = Ledger(self.trained)
        self.save_soon = True


def check_version(state: Mapping[str, Any]) -> None:
    """Raise `UsageError` where a state was written by another version of this program."""
    if state.get("version") != STATE_VERSION:
        raise UsageError(f"a stream state of version {state.get('version')!r}; this program reads {STATE_VERSION}")


def _close(state: Mapping[str, Any]) -> tuple[ClosedLedger, tuple[Lost, ...]]:
    """The ledger of a stream that is over: what of it was heard of and not trained is lost."""
    ledger, positions = Ledger.from_state(state["ledger"]), offsets(state["positions"])
    ahead = Ahead.from_state(state["ahead"])
    for partition in positions:  # of a window that was begun the first records count as those that were trained
        ledger.count("trained", partition, ahead.trained.get(partition, 0))
        ledger.count("skipped", partition, ahead.skipped.get(partition, 0))
        positions[partition] += ahead.of(partition)
    lost = lost_between(positions, state["log_end"], at_least=True)
    for each in lost:
        ledger.count("lost", each.partition, each.records)
        positions[each.partition] = each.end
    closed = ClosedLedger(incarnation=state["incarnation"], ended=state["ended"], positions=positions, ledger=ledger)
    return closed, lost
