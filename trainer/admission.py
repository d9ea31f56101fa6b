"""Which of a run's streams are there: each is asked for until it answers, then told what the run knows of it."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from protocol.errors import StreamReplaced, StreamTimeout, UsageError
from protocol.messages import Description
from protocol.reader import OnWait
from protocol.stream import StreamInfo
from trainer.asking import Asking
from trainer.loader import StreamLoader

logger = logging.getLogger(__name__)

#: Whoever waits for several streams looks this often what else is due.
LOOK_S: Final = 0.25


class Admission:
    """Of the streams of one loader, over all of its iterations; `bell` is set when one has answered.

    A state belongs to the stream with its incarnation, wherever that is served now; else to the one at its URL, whose
    loader knows whether another stream may follow. What belongs to no stream of this life is `remembered` as it is.
    """

    def __init__(self, loaders: Sequence[StreamLoader], bell: threading.Event) -> None:
        self._loaders, self._bell = loaders, bell
        self._asking: dict[int, Asking] = {}
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
    def missing(self) -> list[int]:
        """Numbers of those that were not heard of in this life and have not ended in an earlier one."""
        over = {state["url"] for state in self.remembered if state["ended"]}
        return [
            number
            for number, loader in enumerate(self._loaders)
            if number not in self.admitted and loader.url not in over
        ]

    @property
    def missing_urls(self) -> list[str]:
        """Where they are looked for."""
        return [self._loaders[number].url for number in self.missing]

    def look(self) -> list[int]:
        """Numbers of those that have answered since the last time. Raises `UsageError` where one cannot be mixed in."""
        came = []
        for number, loader in enumerate(self._loaders):
            if number in self.admitted:
                continue
            if number not in self._asking:
                self._asking[number] = loader.asking(self._bell)
            if (description := self._asking[number].answer()) is not None:
                self._asking.pop(number).close()
                self._admit(number, description)
                came.append(number)
        return came

    def wait(self, *, patience_s: float, timeout_s: float | None, on_wait: OnWait | None) -> None:
        """Until all are there, or after `patience_s` one of them at least; `on_wait` is called about once a second.

        Raises `StreamTimeout` after `timeout_s`, `UsageError` where one cannot be mixed in.
        """
        started_s = said_s = time.monotonic()
        try:
            while True:
                self._bell.clear()
                self.look()
                missing, waited_s = self.missing, time.monotonic() - started_s
                if self.admitted and (not missing or waited_s >= patience_s):
                    return
                if timeout_s is not None and waited_s >= timeout_s:
                    names = named(self._loaders, missing or range(len(self._loaders)))
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
        asking, self._asking = self._asking, {}
        for each in asking.values():
            each.close()

    def _admit(self, number: int, description: Description) -> None:
        loader = self._loaders[number]
        for each in self.admitted:
            _check_mixed(named(self._loaders, sorted((each, number))), description.info, self._loaders[each].info)
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
