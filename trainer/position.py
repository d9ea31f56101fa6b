"""Where a run stands on its stream: what was trained, what became of the rest, and what was heard of the producer."""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from protocol.dealing import Positions, Turns, distance
from protocol.errors import HeadraceError, RecordsLost, StreamReplaced, UsageError
from protocol.messages import Description
from protocol.subscription import Away, Ended, Heard, Subscribed
from trainer.ledger import Ledger
from trainer.trail import Passed

logger = logging.getLogger(__name__)

STATE_VERSION: Final = 1


class RunPosition:
    """The positions that the weights have seen, and the ledger that accounts for them.

    A new run starts at the log's start ('earliest') or end ('latest'); a `resumed` state goes on where it was. Raises
    `StreamReplaced` where that belongs to another stream, unless that one was trained to its end.
    """

    def __init__(self, description: Description, *, start: str, resumed: Mapping[str, Any] | None) -> None:
        self._info = description.info
        #: Batches over all lives, those that were skipped among them.
        self.batches = 0
        self._turns = Turns(self._info.dealing, description.log_start if start == "earliest" else description.log_end)
        self.ledger = Ledger(self.trained)
        #: What became of the records of earlier streams, each trained to its end.
        self.earlier: dict[str, int] = {}
        self.log_end = dict(description.log_end)
        self._final: Positions = {}
        #: Since when (monotonic seconds) the producer is away; None while it is there.
        self.away_since_s: float | None = None
        #: The producer's log is nearly full and waits for a commit; whoever saves sets it back.
        self.save_soon = False
        if resumed is not None:
            self._restore(resumed)

    @property
    def trained(self) -> Positions:
        """The positions that the weights have seen; they move on in place."""
        return self._turns.positions

    def mark(self, number: int, passed: Iterable[Passed], fate: str = "trained") -> None:
        """All batches up to this number have met a fate; `passed` are their rows that had not before.

        Where the rows came from goes into the ledger; the positions move on by their number, as the dealing has it.
        """
        total = 0
        for partition, rows, rejected in passed:
            self.ledger.count("rejected" if rejected else fate, partition, rows)
            total += rows
        self._turns.advance(total)
        self.batches = number

    def hear(self, event: Subscribed | Heard | Away | Ended) -> None:
        """One of the readers has heard something of the producer."""
        match event:
            case Heard():
                self.log_end.update(event.log_end)
                self.save_soon = self.save_soon or event.save_soon
            case Away() if self.away_since_s is None:
                self.away_since_s = time.monotonic() - event.silent_s
                logger.warning("the producer is away; waiting for it")
            case Subscribed() if self.away_since_s is not None:
                self.away_since_s = None
                logger.info("the producer is back")
            case Ended():
                self._final.update(event.final)
                self.log_end.update(event.final)
            case _:
                return

    def explained(self, error: HeadraceError) -> HeadraceError:
        """An error of a reader, with what this run knows of what is lost."""
        if isinstance(error, StreamReplaced):
            return _replaced(error.expected, error.found, self.trained, self.log_end)
        return error

    @property
    def end_known(self) -> bool:
        """Whether every partition has come to its end."""
        return self._final.keys() == self.trained.keys()

    @property
    def ended(self) -> bool:
        """Whether the stream has ended and all of it was trained."""
        return self._final == self.trained

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

    def totals(self) -> dict[str, int]:
        """What became of all records that were ever read, those of streams that have ended among them."""
        return {fate: count + self.earlier.get(fate, 0) for fate, count in self.ledger.totals().items()}

    def state_dict(self) -> dict[str, Any]:
        """Plain values that `torch.load(weights_only=True)` accepts."""
        return {
            "version": STATE_VERSION,
            "incarnation": self._info.incarnation,
            "partitions": self._info.dealing.partitions,
            "stripe": self._info.dealing.stripe,
            "positions": dict(self.trained),
            "log_end": dict(self.log_end),
            "batches": self.batches,
            "ended": self.ended,
            "ledger": self.ledger.state_dict(),
            "earlier": dict(self.earlier),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        found = self._info.incarnation
        self.batches = int(state["batches"])
        ledger = Ledger.from_state(state["ledger"])
        earlier = dict(state["earlier"])
        if state["incarnation"] == found:
            positions = {int(partition): int(offset) for partition, offset in state["positions"].items()}
            self._turns = Turns(self._info.dealing, positions)
            self.ledger, self.earlier = ledger, earlier
        elif state["ended"]:
            logger.info("the stream %s was trained to its end; stream %s follows", state["incarnation"], found)
            self.earlier = {fate: count + earlier.get(fate, 0) for fate, count in ledger.totals().items()}
        else:
            raise _replaced(state["incarnation"], found, state["positions"], state["log_end"])


def check_version(state: Mapping[str, Any]) -> None:
    """Raise `UsageError` where a state was written by another version of this program."""
    if state.get("version") != STATE_VERSION:
        raise UsageError(f"a stream state of version {state.get('version')!r}; this program reads {STATE_VERSION}")


def _replaced(expected: str, found: str, positions: Mapping[int, int], log_end: Mapping[int, int]) -> StreamReplaced:
    lost = [RecordsLost(p, positions[p], log_end[p], True) for p in positions if log_end.get(p, 0) > positions[p]]
    return StreamReplaced(expected, found, lost)
