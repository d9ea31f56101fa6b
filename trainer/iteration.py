"""One iteration over a loader: the batches of its stream, and of those that take its place meanwhile."""

from collections.abc import Generator
from contextlib import closing

from protocol.errors import StreamReplaced
from trainer.batch import Batch
from trainer.batching import Batching
from trainer.idleness import Idleness
from trainer.link import Link
from trainer.one_stream import OneStream
from trainer.stages import Stages
from trainer.succession import Succession


class Iteration:
    """From the trained positions on, until the stream ends, a stop is asked for, or it is closed."""

    def __init__(self, succession: Succession, link: Link, stages: Stages, idleness: Idleness) -> None:
        self._succession, self._link, self._stages, self._idleness = succession, link, stages, idleness
        self._batching: Batching | None = None
        self._closed = False

    def batches(self) -> Generator[Batch | None, None, None]:
        """All of them; None where nothing is there now and somebody waits for several streams, who then says which
        batches are taken (`StreamLoader.polled`).
        """
        replaced = yield from self._of_one()
        while replaced is not None and not self._closed and (yield from self._follow(replaced)):
            replaced = yield from self._of_one()

    @property
    def _read(self) -> OneStream:
        assert self._succession.now is not None, "the stream was described before"
        return self._succession.now

    @property
    def _over(self) -> bool:
        return self._closed or self._idleness.stopping

    def _of_one(self) -> Generator[Batch | None, None, StreamReplaced | None]:
        """Those of the stream that is read now; returns why another one follows, if one does."""
        accounting, handed_out = self._read.accounting, self._read.accounting.handed_out
        batching = self._batching = self._read.batching(self._link, self._stages, self._idleness)
        try:
            handed = -1
            while not self._closed and handed != handed_out.number:
                if (batches := batching.next()) is None:
                    yield None
                    continue
                handed = handed_out.number
                for batch in batches:
                    if self._over:
                        break
                    left_out = self._leaves_out(batch)
                    if self._link.bell is None or left_out:
                        handed_out.hand(batch)
                    if left_out:
                        accounting.drop(batch.number)
                    else:
                        yield batch
            if accounting.position.ended and not accounting.board.durable:
                self._link.release(self._read.info, accounting.position.trained)
        finally:
            if not self._closed:
                self._end_readers()
                accounting.drop_unhanded()
        return batching.replaced

    def _leaves_out(self, batch: Batch) -> bool:
        terms = self._succession.terms
        return terms.sampling.drop_last and batch.count < terms.batch_size

    def _follow(self, replaced: StreamReplaced) -> Generator[None, None, bool]:
        """Go on with the stream that has taken the other's place; false where no more is wanted meanwhile."""
        accounting = self._read.accounting
        if accounting.handed_out.unmarked_rows:
            raise accounting.position.explained(replaced)  # marks that come later would be of no stream
        accounting.check({})  # here its account is closed
        with closing(self._link.asking()) as asking:
            while (description := asking.answer()) is None:
                if self._over:
                    return False
                if (away := asking.away()) is not None:
                    accounting.position.hear(away)
                self._idleness.go_on()
                if not asking.waits:
                    yield None
        self._succession.follow(description, replaced)
        return True

    def waiting(self) -> dict[int, int]:
        """Records by partition that have come and are not copied yet."""
        return {} if self._batching is None else self._batching.waiting()

    def close(self) -> None:
        """Another one takes over: what this one has in hand is read again."""
        self._closed = True
        self._end_readers()

    def _end_readers(self) -> None:
        if self._batching is not None:
            self._batching.close()
            self._batching = None
