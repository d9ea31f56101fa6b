"""Growth: a stream has got partitions while it was read, and is described anew to know where those begin."""

from collections.abc import Callable

from protocol.dealing import Positions
from protocol.errors import PartitionsAdded, StreamError, StreamReplaced
from protocol.messages import Description
from protocol.stream import StreamInfo
from protocol.subscription import Away
from trainer.asking import Asking, Enough


class Growth:
    """Of the stream that was `info`; `ask` asks its producer, `grow` takes in what it has become and says where what
    was added begins.
    """

    def __init__(
        self,
        info: StreamInfo,
        added: PartitionsAdded,
        ask: Callable[[Enough], Asking],
        grow: Callable[[Description], Positions],
    ) -> None:
        self._info, self._added, self._grow = info, added, grow
        self._asking = ask(self._is_known)

    def begins(self) -> Positions | None:
        """Where the new partitions begin, once; None as long as nobody says.

        Raises `StreamReplaced` where it is another stream by now, `StreamError` where its records are others.
        """
        if (now := self._asking.answer()) is None:
            return None
        if now.info.incarnation != self._info.incarnation:
            raise StreamReplaced(self._info.incarnation, now.info.incarnation)
        if now.info.schema != self._info.schema:
            raise StreamError(f"{self._added}, and its records are others ({now.info.schema.fields_text})")
        return self._grow(now)

    @property
    def waits(self) -> bool:
        """Whether `begins` waits a little for an answer."""
        return self._asking.waits

    def away(self) -> Away | None:
        """That the producer is away, which has to say it; said once."""
        return self._asking.away()

    def close(self) -> None:
        """No more is wanted."""
        self._asking.close()

    def _is_known(self, now: Description) -> bool:
        """Whoever was asked has heard of the partitions: one of several brokers may not have yet."""
        return now.info.incarnation != self._info.incarnation or now.info.dealing.partitions >= self._added.now
