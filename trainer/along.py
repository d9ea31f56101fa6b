"""Reading a stream along, for somebody who keeps no positions: also the partitions that it gets, from their first
record on.
"""

from collections.abc import Iterator
from dataclasses import replace

from protocol.chunk import Chunk
from protocol.dealing import Positions
from protocol.errors import PartitionsAdded, StreamError
from protocol.messages import Description
from protocol.reader import Reader
from protocol.subscription import Absent, Event, Expired, Subscription, Undecodable
from trainer.asking import Asking, Enough
from trainer.growth import Growth
from trainer.reading import Reading


class Along:
    """Reads with `reader` the stream that `said` describes, as `asked`: its positions are those where this reader of
    several begins, which are `share` (number k of n). A stream that has grown is asked for anew as `reading` says.
    """

    def __init__(
        self,
        reading: Reading,
        reader: Reader,
        said: Description,
        asked: Subscription,
        *,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._reading, self._reader, self._info, self._share = reading, reader, said.info, share
        self._asked, self._at = asked, dict(asked.positions)

    def events(self, *, idle_s: float = 1.0) -> Iterator[list[Event]]:
        """As they come together; now and then none. Raises `StreamError` where nobody would read what was added."""
        while True:
            known = replace(self._asked, positions=dict(self._at), partitions=self._info.dealing.partitions)
            try:
                for events in self._reader.read(known, idle_s=idle_s):
                    for event in events:
                        self._pass(event)
                    yield events
            except PartitionsAdded as added:
                growth = self._growth(added)
            else:
                return
            yield from self._grown(growth)

    def _pass(self, event: Event) -> None:
        match event:
            case Chunk():
                self._at[event.partition] = event.end
            case Undecodable():
                self._at[event.chunk.partition] = event.chunk.end
            case Absent():
                self._at[event.partition] = event.end
            case Expired():
                self._at |= {each.partition: each.end for each in event.lost}
            case _:
                return

    def _growth(self, added: PartitionsAdded) -> Growth:
        _, readers = self._share
        if added.before < readers:
            gone = f"fewer than the {readers} workers that read it, and those without any have ended"
            raise StreamError(f"{added}, {gone}: begin anew, with {added.before} workers at most") from added
        return Growth(self._info, added, self._ask, self._grow)

    def _ask(self, enough: Enough) -> Asking:
        return Asking(self._reading, enough=enough)

    def _grown(self, growth: Growth) -> Iterator[list[Event]]:
        """Signs of life until it is known where the partitions begin."""
        try:
            while (begins := growth.begins()) is None:
                yield []
        finally:
            growth.close()
        self._at |= begins

    def _grow(self, now: Description) -> Positions:
        before, self._info = self._info.dealing.partitions, now.info
        owned = now.info.dealing.owned(*self._share)
        return {partition: now.log_start[partition] for partition in owned if partition >= before}
