"""A training run of the simulation: its readers, what it has trained, and the checkpoint that it goes back to."""

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

import numpy as np

from protocol.chunk import Chunk
from protocol.dealing import Positions, Turns
from protocol.errors import Lost
from protocol.log import Log
from protocol.messages import Commit, Committed, Message, Request
from protocol.reader_session import ReaderSession
from protocol.subscription import Ended, Event, Expired, Heard, Progress, ReaderSettings, Subscription

#: Small, so that credit is always short.
SETTINGS: Final = ReaderSettings(window_bytes=1, sign_of_life_s=0.5, away_after_s=4.0)
RETRY_S: Final = 1.0
#: Stands where a record was lost.
LOST: Final = -1

#: Hands a request of a peer to its link; false where that is full.
Send = Callable[[bytes, Request], bool]


class SimulatedReader:
    """A session as the shell drives it: one message at a time, and none while a chunk is not taken."""

    def __init__(self, peer: bytes, session: ReaderSession, run: "SimulatedRun") -> None:
        self.peer, self.session, self.run = peer, session, run
        self.inbox: deque[Message] = deque()
        self._chunk: Chunk | None = None
        self._busy_until_s = 0.0
        self.ended = False

    def due_s(self) -> float:
        """When there is something to do again."""
        if self.ended:
            return float("inf")
        if self._chunk is not None:
            return self._busy_until_s
        return 0.0 if self.inbox or self.session.outbox else self.session.due_s()

    def act(self, now_s: float, send: Send) -> None:
        """Take what was handed over, then the next message, then let the time pass."""
        if self._chunk is not None:
            self.run.train(self._chunk)
            self.session.take(self._chunk.partition, self._chunk.end, now_s)
            self._chunk = None
        events: list[Event] = []
        due = Turns(self.run.info.dealing, self.session.received).partition
        if self.inbox:
            events += self.session.receive(self.inbox.popleft(), now_s)  # type: ignore[arg-type]
        for event in events + self.session.advance(now_s):
            if isinstance(event, Chunk):
                assert event.partition == due, "not in stream order"
                self._chunk, self._busy_until_s = event, now_s + self.run.pause_s()
            elif isinstance(event, Heard) and event.save_soon:
                self.run.checkpoint()
            elif isinstance(event, Expired):
                for lost in event.lost:
                    self.run.lose(lost)
            elif isinstance(event, Ended):
                self.ended = True
                self.run.end()
        while self.session.outbox:
            if not send(self.peer, self.session.outbox.pop(0)):
                self.session.outbox.clear()


class SimulatedRun:
    """`group` None holds nothing back; a run that `saves` goes back to its checkpoint when it is killed.

    `got[p]` are the ids of partition p in the order in which they were trained, `lost` the (partition, offset) of those
    that the log had forgotten.
    """

    def __init__(self, name: str, log: Log, draw: Random, *, group: str | None, saves: bool) -> None:
        self.name, self.log, self.info, self.group, self.saves = name, log, log.info, group, saves
        self._draw = draw
        self.got: dict[int, list[int]] = {p: [] for p in range(self.info.dealing.partitions)}
        self.lost: set[tuple[int, int]] = set()
        self.readers: list[SimulatedReader] = []
        self.saved: Positions | None = None
        self.committed: Positions | None = None
        self._to_commit: Positions | None = None
        self._commit: Commit | None = None
        self._said_s = float("-inf")
        self._lives = 0

    # --- lives ---------------------------------------------------------------------------------------------------

    def live(self, now_s: float) -> None:
        """Begin anew with some number of readers from what is safe: the checkpoint, or what was trained."""
        self._lives += 1
        if self.saved is not None:
            for partition, offset in self.saved.items():
                del self.got[partition][offset:]
            self.lost = {(partition, offset) for partition, offset in self.lost if offset < self.saved[partition]}
        self._to_commit = self._commit = self.committed = None  # a new life remembers nothing of what it had said
        count = self._draw.randint(1, self.info.dealing.partitions)
        named = self._draw.random() < 0.7
        for reader in range(count):
            owned = self.info.dealing.owned(reader, count)
            asked = Subscription(
                split="",
                positions={partition: len(self.got[partition]) for partition in owned},
                incarnation=self.info.incarnation if named or self.saved else None,
                group=self.group,
                pass_lost=True,
            )
            session = ReaderSession(asked, SETTINGS, self._token, now_s, partial(self._progress, owned))
            peer = f"{self.name} life {self._lives} reader {reader}".encode()
            self.readers.append(SimulatedReader(peer, session, self))

    def die(self) -> None:
        """Nothing is left but the checkpoint, or, where none is ever made, what was trained."""
        self.readers.clear()

    def _token(self) -> int:
        return self._draw.getrandbits(63)

    def _progress(self, owned: range) -> Progress:
        return Progress(
            trained={p: len(self.got[p]) for p in owned},
            committed=None if self.committed is None else {p: self.committed[p] for p in owned},
            durable=self.saved is not None,
        )

    # --- training ------------------------------------------------------------------------------------------------

    def pause_s(self) -> float:
        """How long a chunk lies before it is taken; now and then the run stands still."""
        return self._draw.uniform(2, 10) if self._draw.random() < 0.01 else self._draw.choice((0.0, 0.0, 0.05))

    def train(self, chunk: Chunk) -> None:
        """Exactly the next records of the partition, and no others."""
        got = self.got[chunk.partition]
        assert chunk.offset == len(got), f"{self.name}: offset {chunk.offset} after {len(got)} records"
        ids = chunk.columns["id"]
        assert isinstance(ids, np.ndarray)
        got += ids.tolist()
        if self._draw.random() < 0.1:
            self.checkpoint()

    def lose(self, lost: Lost) -> None:
        """Exactly the next records of the partition, and the log has none of them."""
        got = self.got[lost.partition]
        assert lost.first == len(got) < lost.end <= self.log.log_start()[lost.partition], f"{self.name}: {lost}"
        self.lost.update((lost.partition, offset) for offset in range(lost.first, lost.end))
        got += [LOST] * lost.records

    def checkpoint(self) -> None:
        """Save, and commit what was saved once the commit before it was answered."""
        if self.saves:
            self.saved = self._to_commit = self.positions()

    def end(self) -> None:
        """A reader has come to its end; after the last of them there is a last checkpoint and a last commit."""
        if self.ended and self.group is not None:
            self.checkpoint()
            self._to_commit = self.positions()

    def positions(self) -> Positions:
        """What was trained."""
        return {partition: len(ids) for partition, ids in self.got.items()}

    # --- commits: asked again until they are answered --------------------------------------------------------------

    def due_s(self) -> float:
        """When there is something to commit, or to ask again."""
        return float("inf") if self._commit is None and self._to_commit is None else self._said_s + RETRY_S

    def act(self, now_s: float, send: Send) -> None:
        """Commit what was saved; at the end, what was trained."""
        self._said_s = now_s
        if self._commit is None:
            assert self.group is not None
            assert self._to_commit is not None
            self.committed, self._to_commit = self._to_commit, None
            self._commit = Commit(
                request=self._token(),
                group=self.group,
                incarnation=self.info.incarnation,
                positions=self.committed,
            )
        send(self.name.encode(), self._commit)

    def answered(self, reply: Message) -> None:
        """The answer to a commit has come, perhaps not for the first time."""
        assert isinstance(reply, Committed), reply
        if self._commit is not None and reply.request == self._commit.request:
            self._commit = None

    @property
    def ended(self) -> bool:
        """Whether every reader has seen the end and taken everything."""
        return bool(self.readers) and all(reader.ended for reader in self.readers)

    @property
    def done(self) -> bool:
        """Whether it has ended and its last commit was answered."""
        return self.ended and (self.group is None or (self.committed == self.positions() and self._commit is None))
