"""Which stream a run is on: the one that it has begun with or goes on from, then those that take its place."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from protocol.beginning import Beginning
from protocol.errors import StreamError, StreamReplaced
from protocol.messages import Description
from trainer.one_stream import OneStream, Terms


class Succession:
    """Of one life. A new run begins at `start`; whichever stream is read is read on the same `terms`."""

    def __init__(self, terms: Terms, start: Beginning) -> None:
        self.terms, self.start = terms, start
        #: What the producer is called where it is said that it is away.
        self.producer = "the producer"
        #: Incarnations that are read elsewhere in the same run, or were: following onto one would train it twice.
        self.taken: Callable[[], Collection[str]] = frozenset
        #: The stream that is read now, once one was heard of. May be asked from any thread.
        self.now: OneStream | None = None

    def begin(self, description: Description, resumed: Mapping[str, Any] | None, *, durable: bool) -> None:
        """What is described is read from here on, as the state says that is `resumed`."""
        self.now = self._described(description, resumed, durable=durable)

    def follow(self, description: Description, replaced: StreamReplaced) -> None:
        """What is described has taken the place of the stream that was read.

        Raises `StreamError` where its records are others, or the run reads it already.
        """
        before = self.now
        assert before is not None
        if description.info.schema != before.info.schema:
            raise StreamError(f"the records of the stream that follows are others: {replaced}") from replaced
        if description.info.incarnation in {*self.taken()} - {before.info.incarnation}:
            url = self.terms.reading.url
            raise StreamError(f"{url} serves a stream now that this run reads already: {replaced}") from replaced
        position, durable = before.accounting.position, before.accounting.board.durable
        before.keep_held_out()
        now = self._described(description, position.state_dict(), durable=durable)
        now.accounting.position.received_before = position.received
        self.now = now

    def _described(self, description: Description, resumed: Mapping[str, Any] | None, *, durable: bool) -> OneStream:
        start = self.start.positions(description) if resumed is None else description.log_start
        terms, producer = self.terms, self.producer
        return OneStream(description, terms, start=start, resumed=resumed, durable=durable, producer=producer)
