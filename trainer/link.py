"""How one iteration reaches its producer: readers for the records, and questions for what the stream is."""

import logging
import threading
from dataclasses import dataclass
from typing import Final

from protocol.dealing import Positions
from protocol.errors import PeerError, StreamTimeout
from protocol.stream import StreamInfo
from trainer.asking import Asking, Enough
from trainer.readers import Readers
from trainer.reading import Reading
from trainer.shared import ProgressBoard

logger = logging.getLogger(__name__)

#: A connection that is delayed by 1 s each way needs 5: three to be made, two for the commit and its answer.
COMMIT_TIMEOUT_S: Final = 6.0
#: The same of a stream that has ended while others go on, which must not wait.
HASTY_COMMIT_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Link:
    """Of one stream, whose producer knows the run as `group`."""

    reading: Reading
    group: str
    workers: int
    """Worker processes that read; 0: a thread."""
    bell: threading.Event | None
    """Set when there is something, for somebody who waits for several streams and so for none of them alone."""

    def readers(self, info: StreamInfo, positions: Positions, board: ProgressBoard) -> Readers:
        """Readers that begin at these positions."""
        return Readers(self.reading.open, info, positions, self.group, board, self.workers, bell=self.bell)

    def asking(self, enough: Enough = lambda _: True) -> Asking:
        """A question what the stream is now."""
        return Asking(self.reading, self.bell, enough=enough)

    def release(self, info: StreamInfo, positions: Positions) -> None:
        """Tell the producer that the stream was trained to its end, where no checkpoint will: its readers have left."""
        try:
            with self.reading.open() as reader:
                timeout_s = COMMIT_TIMEOUT_S if self.bell is None else HASTY_COMMIT_S
                reader.commit(self.group, info.incarnation, positions, timeout_s=timeout_s)
        except (StreamTimeout, PeerError):
            logger.warning("the producer left before it heard that everything was trained")
