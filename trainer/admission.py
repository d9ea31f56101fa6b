"""Which of a run's streams are there: each is asked for until it answers, then told what the run knows of it."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any, Final

from protocol.errors import AccessDenied, StreamReplaced, StreamTimeout, UsageError
from protocol.messages import Description
from protocol.reader import OnWait
from protocol.stream import StreamInfo
from trainer.asking import LOOK_S, Asking
from trainer.loader import StreamLoader

logger = logging.getLogger(__name__)

#: How a stream stands that has not answered yet.
NOT_THERE: Final = "not there"


class Admission:
    """Of the streams of one loader, over all of its iterations; `bell` is set when one has answered.

    A state belongs to the stream with its incarnation, wherever that is served now; else to the one at its URL, whose
    loader knows whether another stream may follow. For that answer the others are waited for: one of them may be the
    stream itself. What belongs to no stream of this life is `remembered` as it is.
    """

    def __init__(self, loaders: Sequence[StreamLoader], bell: threading.Event) -> None:
        self._loaders, self._bell = loaders, bell
        self._asking: dict[int, Asking] = {}
        self._answered: dict[int, Description] = {}
        #: Numbers of those that came late and cannot be mixed in.
        self._left_out: set[int] = set()
        self.remembered: list[dict[str, Any]] = []
        #: Numbers of those that were admitted.
        self.admitted: list[int] = []
        #: Whether a checkpoint knows of this run, so that a producer keeps what one knows nothing of yet.
        self.durable = False

    def remember(self, states: Sequence[Mapping[str, Any]]) -> None:
        """A run goes on: these streams it has read."""
        self.remembered, self.durable = [dict(state) for state in states], True

    @property
    def present(self) -> list[StreamLoader]:
        """Those that were admitted."""
        return [self._loaders[number] for number in self.admitted]

    @property
    def closed(self) -> set[str]:
        """Incarnations of the streams that others have followed: their records have met their fates."""
        present = (closed.incarnation for each in self.present for closed in each.position.earlier)
        return {*present, *(str(closed["incarnation"]) for state in self.remembered for closed in state["earlier"])}

    @property
    def missing(self) -> list[int]:
        """Numbers of those that may still come: not admitted, not left out, and not ended in an earlier life."""
        over = {state["url"] for state in self.remembered if state["ended"]}
        return [
            number
            for number, loader in enumerate(self._loaders)
            if number not in self.admitted and number not in self._left_out and loader.url not in over
        ]

    @property
    def missing_urls(self) -> list[str]:
        """Where they are looked for."""
        return [self._loaders[number].url for number in self.missing]

    @property
    def unread(self) -> dict[str, str]:
        """How those stand that this life does not read, by URL: not there, left out, or ended in an earlier life."""
        missing = self.missing
        return {
            loader.url: NOT_THERE if number in missing else "left out" if number in self._left_out else "ended"
            for number, loader in enumerate(self._loaders)
            if number not in self.admitted
        }

    @property
    def urls(self) -> list[str]:
        """Of all streams, in their order."""
        return [loader.url for loader in self._loaders]

    def look(self) -> list[int]:
        """Numbers of those that have come since the last time. One that cannot be mixed in is left out from then on,
        which is said: by now the others are trained.
        """
        for number in self._unheard:
            with self._or_left_out(number):
                self._hear(number)
        came = []
        for number in self._in_turn(waited=True):
            with self._or_left_out(number):
                self._admit(number)
                came.append(number)
        return came

    @contextmanager
    def _or_left_out(self, number: int) -> Iterator[None]:
        try:
            yield
        except (AccessDenied, UsageError) as error:
            self._left_out.add(number)
            logger.warning("going on without the stream at %s: %s", self._loaders[number].url, error)

    def wait(self, *, patience_s: float, timeout_s: float | None, on_wait: OnWait | None) -> None:
        """Until all are there, or after `patience_s` one of them at least; `on_wait` is called about once a second.

        Raises `StreamTimeout` where nothing can begin after `timeout_s`, `UsageError` where one cannot be mixed in.
        """
        started_s = said_s = time.monotonic()
        try:
            while True:
                self._bell.clear()
                waited_s = time.monotonic() - started_s
                for number in self._unheard:
                    self._hear(number)
                for number in self._in_turn(waited=waited_s >= patience_s):
                    self._admit(number)
                if self.admitted and (not self.missing or waited_s >= patience_s):
                    return
                enough = patience_s < inf and (self.admitted or self._answered)  # to begin with when that is over
                if timeout_s is not None and waited_s >= timeout_s and not enough:
                    names = named(self._loaders, self._silent or range(len(self._loaders)))
                    raise StreamTimeout(f"no producer answered at {names} within {timeout_s:g} s")
                self._bell.wait(LOOK_S)
                if on_wait is not None and started_s + waited_s - said_s >= 1:
                    said_s = started_s + waited_s
                    on_wait(waited_s)
        finally:
            self.close()

    def say_left(self) -> None:
        """Say which streams the run has read and does not read in this life."""
        known = {each.url for each in self._loaders}
        for state in self.remembered:
            if state["url"] not in known:
                logger.warning(
                    "the stream at %s is not read in this life; its producer keeps what was not trained of it until "
                    "the group %s is dropped there",
                    *(state["url"], state["group"]),
                )

    def close(self) -> None:
        """Ask no more; `look` begins again."""
        asking, self._asking, self._answered = self._asking, {}, {}
        for each in asking.values():
            each.close()

    @property
    def _unheard(self) -> list[int]:
        """Numbers of those that are asked and have not answered."""
        known = {*self.admitted, *self._left_out, *self._answered}
        return [number for number in range(len(self._loaders)) if number not in known]

    def _hear(self, number: int) -> None:
        """Whether it has answered since the last time."""
        if number not in self._asking:
            self._asking[number] = self._loaders[number].asking(self._bell)
        if (description := self._asking[number].answer()) is not None:
            self._asking.pop(number).close()
            self._answered[number] = description

    @property
    def _silent(self) -> list[int]:
        """Numbers of those that may still come and have not answered."""
        return [number for number in self.missing if number not in self._answered]

    def _in_turn(self, *, waited: bool) -> list[int]:
        """Numbers of those that have answered and may be admitted now: first those with a state of their own, last
        those with the state of another stream, and these only if no other can come, or was `waited` for.
        """

        def rank(number: int) -> int:
            incarnation = self._answered[number].info.incarnation
            state = self._state_of(self._loaders[number].url, incarnation)
            return 1 if state is None else 0 if state["incarnation"] == incarnation else 2

        ranks = {number: rank(number) for number in sorted(self._answered)}
        last = 2 if waited or not self._silent else 1
        return sorted((number for number, each in ranks.items() if each <= last), key=ranks.__getitem__)

    def _admit(self, number: int) -> None:
        loader, description = self._loaders[number], self._answered.pop(number)
        for each in self.admitted:
            _check_mixed(named(self._loaders, sorted((each, number))), description.info, self._loaders[each].info)
        if description.info.incarnation in self.closed:
            raise UsageError(
                f"the stream {description.info.incarnation} at {loader.url} was read in this run before another one "
                "followed it: leave it out, or train on it in a run of its own"
            )
        if (state := self._state_of(loader.url, description.info.incarnation)) is not None:
            if state["url"] != loader.url:
                logger.info("the stream that was read at %s is at %s now", state["url"], loader.url)
            loader.load_state_dict({**state, "group": loader.group})
        try:
            loader.connect(description)
        except StreamReplaced:
            logger.warning("another stream is served at %s now", loader.url)
            raise
        if state is not None:
            self.remembered.remove(state)
        if self.durable:
            loader.state_dict()  # from its first subscription on, the producer keeps what no checkpoint has yet
        self.admitted = sorted((*self.admitted, number))

    def _state_of(self, url: str, incarnation: str) -> dict[str, Any] | None:
        same = (state for state in self.remembered if state["incarnation"] == incarnation)
        there = (state for state in self.remembered if state["url"] == url)
        return next(same, None) or next(there, None)


def named(loaders: Sequence[StreamLoader], numbers: Sequence[int]) -> str:
    """The URLs of these."""
    return " and ".join(loaders[number].url for number in numbers)


def _check_mixed(pair: str, one: StreamInfo, other: StreamInfo) -> None:
    if one.incarnation == other.incarnation:
        raise UsageError(f"{pair} are the same stream: give each stream once")
    if one.schema != other.schema:
        raise UsageError(
            f"{pair} have different records, which no batch can hold together: let both producers serve the same "
            "fields and classes, or train on each in a run of its own"
        )
