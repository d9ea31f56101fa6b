"""Where a run stands on several streams: what their positions say, added up."""

from collections import Counter
from collections.abc import Mapping
from itertools import chain
from typing import Any, Final

from protocol.errors import UsageError
from trainer.admission import NOT_THERE, Admission
from trainer.ledger import ClosedLedger, Ledger, add_up
from trainer.mix import names_of
from trainer.position import RunPosition
from trainer.report import StreamStanding
from trainer.windowed_trail import Ahead

#: Of the state of a mix; it holds the states of its streams, each with its URL.
MIX_VERSION: Final = 1
STREAMING: Final = "streaming"


class MixedPosition:
    """Over the streams that were heard of in this life. Others are known by their states alone: what became of their
    records is counted.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        #: Batches over all lives, those that were skipped among them.
        self.batches = 0
        self._save_soon = False

    @property
    def save_soon(self) -> bool:
        """A checkpoint is due: a log is nearly full, or a stream has come that no checkpoint knows of yet."""
        return self._save_soon or any(each.position.save_soon for each in self._admission.present)

    @save_soon.setter
    def save_soon(self, save_soon: bool) -> None:
        self._save_soon = save_soon
        if not save_soon:
            for each in self._admission.present:
                each.position.save_soon = False

    @property
    def passed(self) -> int:
        """Records that the positions have passed."""
        return sum(each.position.passed for each in self._admission.present)

    @property
    def log_records(self) -> int:
        """Records that the logs have ever held, as far as was heard."""
        return sum(each.position.log_records for each in self._admission.present)

    @property
    def lag(self) -> int:
        """Records between what was trained and the log ends last heard."""
        return sum(each.position.lag for each in self._admission.present)

    @property
    def received(self) -> int:
        """Records that came in from readers in this life."""
        return sum(each.position.received for each in self._admission.present)

    @property
    def ended(self) -> bool:
        """Whether all have ended and were trained; one that is missing has not."""
        return not self._admission.missing and all(each.position.ended for each in self._admission.present)

    @property
    def state(self) -> str:
        """`streaming` or `ended` where that is true of all, else what is true of which."""
        states = {each.url: each.position.state for each in self._admission.present}
        states |= dict.fromkeys(self._admission.missing_urls, NOT_THERE)
        if len(set(states.values())) == 1:
            return next(iter(states.values()))
        others = (f"{url} {state}" for url, state in states.items() if state != STREAMING)
        return ", ".join([*{STREAMING}.intersection(states.values()), *others])

    @property
    def streams(self) -> list[StreamStanding]:
        """How each stands, by number; of one that this life does not read its last state says what was trained."""
        urls, unread = self._admission.urls, self._admission.unread
        read = {each.url: each.position for each in self._admission.present}
        known: Counter[str] = Counter()  # a stream that has moved may have left its URL to another one
        for state in self._admission.remembered:
            known[str(state["url"])] += samples_of(state)
        return [
            _read(name, read[url], known[url]) if url in read else _unread(name, unread[url], known[url])
            for name, url in zip(names_of(urls), urls, strict=True)
        ]

    def totals(self) -> dict[str, int]:
        """What became of all records, in this life and before."""
        now = (each.position.totals() for each in self._admission.present)
        before = (totals_of(state) for state in self._admission.remembered)
        totals = add_up([])
        for each in chain(now, before):
            totals = {fate: records + each[fate] for fate, records in totals.items()}
        return totals


def states_in(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The states of the streams of a run: several with a URL each, or the one of a run that has read one.

    Raises `UsageError` where another version of this program has mixed them.
    """
    if "streams" not in state:
        return [dict(state)]
    if state["version"] != MIX_VERSION:
        raise UsageError(f"a mix of version {state['version']!r}; this program reads {MIX_VERSION}")
    return list(state["streams"])


def totals_of(state: Mapping[str, Any]) -> dict[str, int]:
    """What became of all records of a stream and of those that it has followed, as its state has it."""
    earlier = (ClosedLedger.from_state(each).ledger for each in state["earlier"])
    return add_up([Ledger.from_state(state["ledger"]), *earlier])


def samples_of(state: Mapping[str, Any]) -> int:
    """The samples that were trained of a stream and of those that it has followed."""
    return totals_of(state)["trained"] + sum(Ahead.from_state(state["ahead"]).trained.values())


def _read(name: str, position: RunPosition, before: int) -> StreamStanding:
    away, samples = position.away_since_s is not None and not position.ended, before + position.samples
    return StreamStanding(name=name, state=position.state, away=away, samples=samples, lag=position.lag)


def _unread(name: str, state: str, samples: int) -> StreamStanding:
    return StreamStanding(name=name, state=state, away=state == NOT_THERE, samples=samples, lag=None)
