"""An inlet under fire: golden messages with other bytes and values raise nothing but what is meant, and harm nobody."""

import random
import resource
from collections.abc import Sequence
from functools import partial

import msgpack
import numpy as np
import pytest

from producer.append_log import LogSettings
from producer.bad_records import BadRecords, BadRecordSettings
from producer.inlet import Inlet, InletSettings
from producer.intake import Intake
from producer.open_log import open_log
from protocol.chunk import Buffer
from protocol.codec import decode_push, decode_reply, encode
from protocol.errors import PeerError
from protocol.messages import Greeting, Hello, Push, RecordsMessage, Reply, Taken
from tests.allocations import at_most
from tests.protocol.fuzzing import GOLDEN, Mutator
from tests.protocol.golden_messages import MESSAGES, SCHEMA

MIB = 1 << 20
PUSHES = [GOLDEN[name] for name, message in MESSAGES.items() if isinstance(message, Push)]
HONEST = b"honest"


class PushMutator(Mutator):
    """Changes values inside the maps of a message as well."""

    def frames(self) -> list[bytes]:
        frames = super().frames()
        if len(frames) > 1 and self._draw.random() < 0.4:
            frames[1] = self._other_value(frames[1])
        return frames


class HostileWriters:
    """An inlet, a few peers that send it anything, and an honest writer whose records enter the log one by one."""

    def __init__(self, draw: random.Random) -> None:
        log = LogSettings(bytes=8 * MIB, full="drop-oldest")
        opened = partial(open_log, partitions=2, settings=log, source="inlet")
        self.intake = Intake(opened, BadRecords(BadRecordSettings()))
        self.inlet = Inlet(self.intake, InletSettings())
        self._draw, self._now_s, self._replies = draw, 0.0, list[Reply]()
        self.refused = self.pushed = 0
        self.push()

    def send(self, frames: Sequence[Buffer]) -> None:
        """A message of one of the peers. Everything but a `PeerError` is a fault."""
        peer = bytes([self._draw.randrange(5)])
        self._now_s += 0.0001
        try:
            self.inlet.receive(peer, decode_push(frames), self._now_s)
        except PeerError as error:
            self.refused += 1
            self.inlet.refuse(peer, error)
        if self._draw.random() < 0.05:
            self._turn()

    def push(self) -> None:
        """The honest writer's next record is taken as if nobody else were there."""
        session = self._draw.getrandbits(62)
        self.inlet.receive(HONEST, Hello(session=session, writer="honest", schema=SCHEMA), self._now_s)
        record = {"id": self.pushed, "image": [[[1, 2], [3, 4]]], "label": 1}
        frame = msgpack.packb([record])
        self.inlet.receive(
            HONEST, RecordsMessage(session=session, number=self.pushed, count=1, frames=(frame,)), self._now_s
        )
        self._now_s += 0.01
        self._turn()
        greeting, *_, taken = self._replies
        self._replies = []
        assert isinstance(greeting, Greeting)
        assert greeting.due == self.pushed
        assert isinstance(taken, Taken)
        assert taken.due == self.pushed + 1
        log = self.intake.log
        assert log is not None
        ids = log.read(*log.info.dealing.locate(log.records - 1), 1).columns["id"]
        assert isinstance(ids, np.ndarray)
        assert ids.tolist() == [self.pushed]
        self.pushed += 1

    def _turn(self) -> None:
        self.inlet.advance(self._now_s)
        self.inlet.pump(self._take, self._now_s)

    def _take(self, peer: bytes, message: Reply) -> bool:
        if peer == HONEST:
            self._replies.append(message)
        else:
            decode_reply(encode(message))  # what an inlet says is always a message, whatever it was told
        return self._draw.random() < 0.9 or peer == HONEST


def fuzz(seed: int, frames: int, *, check_every: int) -> int:
    """How many records of the mutated pushes were taken."""
    draw = random.Random(seed)
    mutator, writers = PushMutator(draw, PUSHES), HostileWriters(draw)
    for number in range(frames):
        writers.send(mutator.frames())
        if number % check_every == 0:
            writers.push()
    assert writers.intake.log is not None
    assert writers.inlet.outbox.refused.total() >= writers.refused > 0.5 * frames, "each is counted"
    return writers.intake.log.records - writers.pushed


@pytest.mark.slow
def test_mutated_pushes_raise_nothing_but_what_is_meant_and_harm_no_other_writer(seed: int) -> None:
    with at_most(24 * MIB):
        fuzz(seed, 4000, check_every=50)


@pytest.mark.faults
def test_a_million_mutated_pushes_raise_nothing_but_what_is_meant_and_harm_no_other_writer(seed: int) -> None:
    fuzz(seed, 20_000, check_every=500)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert fuzz(seed + 1, 1_000_000, check_every=500) > 0, "none was obeyed, so this shows less than it could"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"a million frames: the most memory that was ever held grew by {grown / MIB:.1f} MiB")
    assert grown < 64 * MIB
