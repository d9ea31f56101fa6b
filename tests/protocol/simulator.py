"""Both sides of the protocol in simulated time: the real sessions, service and logs, without a socket or a clock.

A seed draws the stream, the runs that read it, the faults of each link, and when either side is killed. After some
seconds the faults stop; then every run must come to the end. Messages of the dead go on arriving. Where a live log
drops its oldest records, each run trains the others and says exactly which those were.
"""

import heapq
from dataclasses import dataclass
from random import Random
from typing import Final

import numpy as np

from producer.append_log import LogSettings, WhenFull
from producer.block import Block
from producer.computed_log import ComputedLog
from producer.memory_log import MemoryLog
from producer.pace import Pace
from producer.passes import pass_order
from producer.service import Service, ServiceSettings
from producer.source import ColumnSource
from protocol.codec import decode_reply, decode_request, encode
from protocol.dealing import Dealing, Positions
from protocol.errors import LogFull, UnknownMessage
from protocol.log import Log
from protocol.messages import ChunkMessage, Credit, Message, Reply, Request, Subscribe
from protocol.schema import Field, Schema
from tests.protocol.faulty_link import CALM, Link, drawn
from tests.protocol.simulated_run import LOST, SimulatedReader, SimulatedRun

SCHEMA: Final = Schema((Field("id", "int64"),))
PATIENCE_S: Final = 60.0


@dataclass
class Said:
    """What a session's reader has said, and how far it was sent: kept apart from either side."""

    reader: SimulatedReader
    credit: Positions
    sent: Positions


class Simulation:
    """`play` raises AssertionError where a promise is broken."""

    def __init__(self, seed: int) -> None:
        draw = self.draw = Random(seed)
        self.now_s = 0.0
        self.faulty_until_s = draw.uniform(0.5, 8)
        self._on_wire = seed % 10 == 0
        self._full: WhenFull = "drop-oldest" if seed % 4 == 1 else "block"
        self._arriving: list[tuple[float, int, bytes, Message, bool]] = []
        self._number = 0
        self.dealing = Dealing(draw.randint(1, 5), draw.randint(1, 8))
        self.log, self.expected = self._stream()
        self.live = isinstance(self.log, MemoryLog)
        self.to_server, self.to_readers = Link(drawn(draw), draw), Link(drawn(draw), draw)
        self.service: Service | None = None
        self._server_s = float("inf")
        self._appended, self._append_s = 0, 0.0 if self.live else float("inf")
        self.runs = [self._run(number) for number in range(draw.choice((1, 1, 2)))]
        self._said: dict[int, Said] = {}
        self._fates = self._drawn_fates()

    # --- what is drawn -------------------------------------------------------------------------------------------

    def _stream(self) -> tuple[Log, dict[int, list[int]]]:
        draw, dealing = self.draw, self.dealing
        count = draw.randint(1, 4 * dealing.partitions * dealing.stripe)
        log: Log
        if draw.random() < 0.4:
            least = (dealing.partitions + 1) * Block.bytes_for(SCHEMA.fields, dealing.stripe)
            settings = LogSettings(bytes=int(least * draw.uniform(1, 3)), full=self._full)
            log = MemoryLog(SCHEMA, dealing, settings, wall_clock_ns=lambda: 0)
            order = np.arange(count)
        else:
            passes = draw.randint(1, 3)
            source = ColumnSource("numbers", SCHEMA, {"id": np.arange(count)})
            pace = Pace(draw.choice((0, 0, 20 * count, count / 3)), lambda: self.now_s, lambda: 0)
            log = ComputedLog(source, dealing, passes=passes, pace=pace)
            order = np.concatenate([pass_order(count, 0, number) for number in range(passes)])
        expected: dict[int, list[int]] = {p: [] for p in range(dealing.partitions)}
        for record, identity in enumerate(order.tolist()):
            expected[dealing.locate(record)[0]].append(identity)
        return log, expected

    def _run(self, number: int) -> SimulatedRun:
        grouped = self.live or self.draw.random() < 0.6  # only a group keeps a live log from forgetting
        group = f"group {number}" if grouped else None
        saves = grouped and self.draw.random() < 0.6
        return SimulatedRun(f"run {number}", self.log, self.draw, group=group, saves=saves)

    def _drawn_fates(self) -> list[tuple[float, int, str]]:
        """When somebody comes to life or dies, in order."""
        draw = self.draw
        fates = [
            (draw.uniform(0, 1), "server lives"),
            *((draw.uniform(0, 1), f"{run.name} lives") for run in self.runs),
        ]
        for _ in range(draw.choice((0, 1, 1, 2, 4))):
            # Really a live log dies with its server. Here it lives on, and only one run may rest on what was forgotten.
            lone = len(self.runs) == 1 or not self.live
            name = draw.choice([run.name for run in self.runs] + ["server"] * lone)
            at_s = draw.uniform(1, self.faulty_until_s + 1)
            fates += [(at_s, f"{name} dies"), (at_s + draw.choice((0.0, 0.3, 6.0)), f"{name} lives")]
        return sorted(((at_s, number, fate) for number, (at_s, fate) in enumerate(fates)), reverse=True)

    # --- time ----------------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Until every run is done; what was trained is then the stream, record for record."""
        while self._fates or not all(run.done for run in self.runs):
            self._step()
            assert self.now_s < self.faulty_until_s + PATIENCE_S, "it does not come to an end"
        for run in self.runs:
            assert run.got == self._without_lost(run), f"{run.name} did not train the stream"
        if self.service is not None:
            assert not self.service.refused, f"an honest reader was refused: {self.service.refused}"

    def _without_lost(self, run: SimulatedRun) -> dict[int, list[int]]:
        """The stream with holes where a run says that records were lost; only a log that drops them may cause one."""
        assert self._full == "drop-oldest" or not run.lost
        return {
            partition: [LOST if (partition, at) in run.lost else identity for at, identity in enumerate(identities)]
            for partition, identities in self.expected.items()
        }

    def _step(self) -> None:
        readers = [reader for run in self.runs for reader in run.readers]
        due = [reader.due_s() for reader in readers] + [run.due_s() for run in self.runs]
        times = [self._server_s, self._append_s, *due]
        times += [self._arriving[0][0]] if self._arriving else []
        times += [self._fates[-1][0]] if self._fates else []
        self.now_s = max(self.now_s, min(times))
        if self.now_s >= self.faulty_until_s:
            self.to_server.faults = self.to_readers.faults = CALM
        while self._fates and self._fates[-1][0] <= self.now_s:
            self._meet(self._fates.pop()[2])
        while self._arriving and self._arriving[0][0] <= self.now_s:
            _, _, peer, message, upwards = heapq.heappop(self._arriving)
            self._arrive(peer, message, upwards=upwards)
        if self._append_s <= self.now_s:
            self._append()
        actors: list[SimulatedRun | SimulatedReader] = [
            *self.runs,
            *(each for run in self.runs for each in run.readers),
        ]
        for actor in actors:
            if actor.due_s() <= self.now_s:
                actor.act(self.now_s, self._ask)
        if self.service is not None and self._server_s <= self.now_s:
            self.service.advance(self.now_s)
            self.service.pump(self._answer, self.now_s, most_chunks=self.draw.choice((1, 16)))
            self._server_s = self.now_s + self.service.due_in_s()

    def _meet(self, fate: str) -> None:
        name, _, verb = fate.rpartition(" ")
        lives = verb == "lives"
        if name == "server":
            fresh = Service(
                {"": self.log},
                ServiceSettings(linger_s=0.01, silent_reader_s=self.draw.choice((5.0, 60.0))),
                self.now_s,
                clock_s=lambda: self.now_s,
            )
            self.service, self._server_s = (fresh, self.now_s) if lives else (None, float("inf"))
        for run in self.runs:
            if run.name == name:
                run.die()
                if lives:
                    run.live(self.now_s)

    def _append(self) -> None:
        assert isinstance(self.log, MemoryLog)
        if not self._appended and (self.service is None or len(self.service.groups) < len(self.runs)):
            self._append_s = self.now_s + 0.05  # the runs are there from the start: none of them misses any
            return
        total = sum(map(len, self.expected.values()))
        try:
            for _ in range(min(self.draw.choice((1, 5)), total - self._appended)):
                self.log.append({"id": self._appended}, timeout_s=0)
                self._appended += 1
        except LogFull:
            pass  # it waits for the trainers
        self._append_s = self.now_s + self.draw.choice((0.001, 0.05, 0.2))
        self._server_s = self.now_s if self.service else float("inf")
        if self._appended == total:
            self.log.end()
            self._append_s = float("inf")

    # --- messages ------------------------------------------------------------------------------------------------

    def _arrive(self, peer: bytes, message: Message, *, upwards: bool) -> None:
        if upwards:
            if self.service is not None:
                request = decode_request(encode(message)) if self._on_wire else message
                self.service.receive(peer, request, self.now_s)  # type: ignore[arg-type]
                self._server_s = self.now_s
            return
        reply = decode_reply(encode(message)) if self._on_wire else message
        for run in self.runs:
            if run.name.encode() == peer:
                run.answered(reply)
            for reader in run.readers:
                if reader.peer == peer:
                    reader.inbox.append(reply)

    def _ask(self, peer: bytes, request: Request) -> bool:
        if isinstance(request, Subscribe):
            reader = next(reader for run in self.runs for reader in run.readers if reader.peer == peer)
            self._said[request.session] = Said(reader, {}, dict(request.positions))
        elif isinstance(request, Credit):
            credit = self._said[request.session].credit
            for partition, offset in request.until.items():
                credit[partition] = max(offset, credit.get(partition, 0))
        return self._give(self.to_server, peer, request, upwards=True)

    def _answer(self, peer: bytes, reply: Reply) -> bool:
        known = {reader.peer for run in self.runs for reader in run.readers} | {run.name.encode() for run in self.runs}
        if peer not in known:
            if self.draw.random() < 0.5:
                raise UnknownMessage("the peer is gone")
            return True  # ZeroMQ has not noticed yet
        if not self._give(self.to_readers, peer, reply, upwards=False):
            return False
        if isinstance(reply, ChunkMessage):
            self._check_credit(reply)
        return True

    def _check_credit(self, chunk: ChunkMessage) -> None:
        """What is sent never passes what was allowed, nor does what is under way ever exceed the window."""
        said, end = self._said[chunk.session], chunk.offset + chunk.count
        assert end <= said.credit.get(chunk.partition, 0), "a chunk beyond credit"
        said.sent[chunk.partition] = max(end, said.sent[chunk.partition])
        run, stripe = said.reader.run, self.dealing.stripe
        under_way = sum(max(0, end - len(run.got[partition])) for partition, end in said.sent.items())
        assert under_way <= 2 * stripe, f"{under_way} records under way, where the window is {2 * stripe}"

    def _give(self, link: Link, peer: bytes, message: Message, *, upwards: bool) -> bool:
        arrivals = link.arrivals(self.now_s)
        for at_s in arrivals or []:
            self._number += 1
            heapq.heappush(self._arriving, (at_s, self._number, peer, message, upwards))
        return arrivals is not None
