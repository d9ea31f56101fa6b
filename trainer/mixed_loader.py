"""`MixedLoader`: batches of several streams, each with positions, ledger and commits of its own.

Nothing of a stream is done here: each has its `StreamLoader`, which is asked for a batch and may have none yet. What is
decided here is whose records the next batch has, and who is waited for.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple, get_args

from protocol.errors import LedgerUnbalanced, PeerError, StreamTimeout, UsageError
from protocol.reader import OnWait
from protocol.stream import StreamInfo
from trainer.admission import Admission, named
from trainer.arrivals import Asked
from trainer.asking import LOOK_S
from trainer.batch import AnyBatch, Part
from trainer.choice import Choice
from trainer.commits import commit_each
from trainer.holdout import Holdout
from trainer.idleness import Idleness
from trainer.link import COMMIT_TIMEOUT_S
from trainer.loader import StreamLoader
from trainer.mix import OnAway
from trainer.mixed_batch import Joining, MixedBatch
from trainer.mixed_held_out import MixedHeldOut
from trainer.mixed_position import MIX_VERSION, MixedPosition, states_in
from trainer.position import check_version
from trainer.reading import Reading
from trainer.stages import WAITING
from trainer.taps import Taps

logger = logging.getLogger(__name__)


class _Handed(NamedTuple):
    """A batch that was handed out: its number, and those of its parts, by stream. The batch itself is not kept."""

    number: int
    parts: tuple[tuple[int, int], ...]


class MixedLoader:
    """Iterate over it as over a `StreamLoader`; each of `loaders` gives its whole `batch_size` to every batch.

    With `order` 'arrival' a batch has the records of one stream, whichever has a batch ready. One that ends is missing
    from then on; the iteration ends when all have. `on_away` is what is done while a producer is away: 'go_on' trains
    without it once that has lasted for `without_after_s`, until it is back; 'wait' waits; 'stop' raises `StreamError`.
    A stream that is not there in the beginning is waited for as long, the first one as long as `connect_timeout_s`
    says. `group` names the run for all producers. Of what a `StreamLoader` takes, `on_idle`, time-outs and `on_wait`
    are those of the mix, the rest is each one's own.

    Raises `UsageError` where the records of the streams differ, two of them are the same stream, or one has been read
    in this run before another followed it. A stream of which that shows in mid-iteration is said and left out instead.
    """

    def __init__(  # noqa: PLR0913  (a library's front door: each is one word in a user's call)
        self,
        loaders: Sequence[StreamLoader],
        *,
        order: Asked = "stream",
        on_away: OnAway = "go_on",
        without_after_s: float = 10.0,
        group: str | None = None,
        connect_timeout_s: float | None = None,
        idle_timeout_s: float | None = None,
        on_timeout: str = "raise",
        on_idle: Callable[[], None] | None = None,
        on_wait: OnWait | None = None,
    ) -> None:
        if not loaders or len({each.url for each in loaders}) < len(loaders):
            raise UsageError("a mix has one or more streams, each of them once")
        for name, value, known in (("order", order, get_args(Asked)), ("on_away", on_away, get_args(OnAway))):
            if value not in known:
                raise UsageError(f"{name} is one of {', '.join(known)}, not {value!r}")
        self._loaders = tuple(loaders)
        self.url = ",".join(each.url for each in loaders)
        self.group = group or loaders[0].group
        for each in loaders:
            each.join(self.group, self._incarnations)
        self._on_away, self._without_after_s = on_away, without_after_s
        self._choice = Choice(self._loaders, order, on_away, without_after_s)
        self._connect_timeout_s, self._on_wait = connect_timeout_s, on_wait
        self._idleness = Idleness(self.url, idle_timeout_s, on_timeout, on_idle)
        self._bell = threading.Event()
        self._admission = Admission(self._loaders, self._bell)
        self._position = MixedPosition(self._admission)
        self._held_out = MixedHeldOut(self._loaders, self._admission)
        self._stages = loaders[0].stages
        self._info: StreamInfo | None = None
        self._unmarked: deque[_Handed] = deque()
        self._waited_for: Sequence[int] = range(len(loaders))
        self._iterations = 0

    # --- what the streams are ------------------------------------------------------------------------------------

    def connect(self) -> StreamInfo:
        """What the records are; the first time asks for all streams, and waits for those that are waited for."""
        if self._info is not None:
            return self._info
        patience_s = inf if self._on_away == "wait" else self._without_after_s
        self._admission.wait(patience_s=patience_s, timeout_s=self._connect_timeout_s, on_wait=self._on_wait)
        if missing := self._admission.missing:
            if self._on_away == "stop":
                raise StreamTimeout(f"no producer answered at {self._named(missing)} within {patience_s:g} s")
            logger.warning("no producer at %s yet: going on without it until there is one", self._named(missing))
        self._admission.say_left()
        described = next((each for each in self.present if each.info.splits), self.present[0])
        if len(self.present) > 1 and described.info.splits:
            logger.info("the splits are those of %s", described.url)
        self._described = described
        # What a position tells of a stream, it tells of one: what is asked of the mix are the records and splits.
        self._info = replace(described.info, records_per_pass=None, changes=())
        self._joining = Joining(self._info.schema, described.reading.collate, pin_memory=described.pin_memory)
        return self._info

    @property
    def info(self) -> StreamInfo:
        """Schema and splits: of the stream that has some, else of the first."""
        return self.connect()

    @property
    def reading(self) -> Reading:
        """How the stream is read that `info` is of."""
        self.connect()
        return self._described.reading

    @property
    def streams(self) -> Sequence[StreamLoader]:
        """All of them, by number."""
        return self._loaders

    @property
    def present(self) -> Sequence[StreamLoader]:
        """Those that were heard of in this life."""
        return self._admission.present

    def _incarnations(self) -> set[str]:
        """Of all streams that this run reads or has read."""
        remembered = (str(state["incarnation"]) for state in self._admission.remembered)
        return {*remembered, *(each.incarnation for each in self.present), *self._admission.closed}

    def _named(self, numbers: Sequence[int]) -> str:
        return named(self._loaders, numbers)

    # --- iteration -----------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[MixedBatch]:
        """Batches from what was marked on; another iteration that is still open ends here."""
        self.connect()
        self._iterations += 1
        iteration, number = self._iterations, self._position.batches
        self._unmarked.clear()
        self._idleness.stopping = False
        taps = Taps(self._loaders, self._bell)
        try:
            for each in self._admission.admitted:
                if not self._loaders[each].position.ended:
                    taps.open(each)
            while parts := self._next(taps, iteration):
                number += 1
                batch = MixedBatch(parts, number, self._joining)
                self._unmarked.append(_Handed(number, tuple((each.stream, each.batch.number) for each in parts)))
                yield batch
        finally:
            taps.close()
            self._admission.close()

    def _next(self, taps: Taps, iteration: int) -> tuple[Part, ...]:
        """What the next batch is made of; nothing where none will come or the end was asked for."""
        self._idleness.begin()
        received = -1
        while not self._stopped(iteration):
            self._bell.clear()
            for number in self._admission.look():
                logger.info("the stream at %s is there", self._loaders[number].url)
                self._position.save_soon = True
                taps.open(number)
            ended = taps.poll()
            if self._stopped(iteration):
                break
            self._choice.say_ended(ended, taps)
            if chosen := self._choice.of(taps):
                return taps.take(chosen)
            self._waited_for = taps.waited_for
            if not self._waited_for and not self._admission.missing:
                break
            if (now := self._position.received) != received:
                received = now
                self._idleness.received()
            with self._stages.of(WAITING):
                self._bell.wait(LOOK_S)
            self._idleness.go_on()
        return ()

    def _stopped(self, iteration: int) -> bool:
        return self._idleness.stopping or iteration != self._iterations

    @property
    def on_idle(self) -> Callable[[], None] | None:
        """Called at least once a second while no batch is ready."""
        return self._idleness.on_idle

    @on_idle.setter
    def on_idle(self, on_idle: Callable[[], None] | None) -> None:
        self._idleness.on_idle = on_idle

    def stop(self) -> None:
        """End the iteration at the next opportunity; what is buffered is read again another time."""
        self._idleness.stopping = True
        for each in self._loaders:
            each.stop()

    def mark_trained(self, batch: AnyBatch) -> None:
        """This batch and all before it have been trained."""
        for each in self._before(batch, also=True):
            self._mark(each)

    def mark_skipped(self, batch: AnyBatch) -> None:
        """All batches before this one have been trained, and this one never will be: its records count as skipped."""
        for each in self._before(batch, also=False):
            self._mark(each)
        for each in self._before(batch, also=True):
            self._mark(each, skipped=True)

    def _mark(self, handed: _Handed, *, skipped: bool = False) -> None:
        for stream, number in handed.parts:
            self._loaders[stream].mark(number, skipped=skipped)
        self._position.batches = handed.number

    def _before(self, batch: AnyBatch, *, also: bool) -> Iterator[_Handed]:
        """The batches before this one that were not marked yet, and this one `also`; each is given once."""
        if not isinstance(batch, MixedBatch):
            raise UsageError("mark_trained takes the batch that the loader gave, not a copy of its columns or a part")
        while self._unmarked and self._unmarked[0].number < batch.number + also:
            yield self._unmarked.popleft()

    # --- where it stands -----------------------------------------------------------------------------------------

    @property
    def position(self) -> MixedPosition:
        """Where the run stands on all streams, all that was marked among it."""
        return self._position

    @property
    def awaited(self) -> str:
        """What is waited for while no batch comes."""
        away = [number for number in self._admission.admitted if self._loaders[number].away_s is not None]
        if gone := [*away, *self._admission.missing]:
            return f"the producer at {self._named(gone)}"
        return f"records of {self._named(self._waited_for)}"

    def in_hand(self) -> dict[str, int]:
        """Records that have come and are not trained: `buffered` and `unmarked`."""
        each = [loader.in_hand() for loader in self.present]
        return {name: sum(counts[name] for counts in each) for name in ("buffered", "unmarked")}

    def check_ledger(self) -> None:
        """Raise `LedgerUnbalanced` where a record of any stream was counted twice or not at all."""
        for loader in self.present:
            try:
                loader.check_ledger()
            except LedgerUnbalanced as fault:
                raise LedgerUnbalanced(f"{loader.url}: {fault}") from fault

    @property
    def holds_out(self) -> bool:
        """Whether records are held out of any stream to validate on."""
        return any(each.holds_out for each in self._loaders)

    @property
    def held_out_by_stream(self) -> dict[str, Holdout]:
        """`StreamLoader.held_out` of each stream, by its name in charts; also of those that are not read now."""
        return self._held_out.by_stream(self.connect().schema)

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What has been trained of each stream, by its URL, those among them that are not read in this life.

        Plain values; from here on the producers keep what comes after these positions until a later state is committed.
        """
        self.connect()
        self._admission.durable = True
        streams = [each.state_dict() for each in self.present]
        return {
            "version": MIX_VERSION,
            "group": self.group,
            "batches": self._position.batches,
            "ended": self._position.ended,
            "streams": [*streams, *self._admission.remembered],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, under its group. Only before the first batch.

        Streams may be given in any order, be new, or be left out. The state of a `StreamLoader` is that of one of them,
        whichever it is.
        """
        if self._info is not None:
            raise RuntimeError("load_state_dict comes before the first batch and before the streams are asked for")
        streams = states_in(state)
        for each in streams:
            check_version(each)
        self._admission.remember(streams)
        self._position.batches = int(state["batches"])
        self.group = str(state["group"])
        for loader in self._loaders:
            loader.group = self.group

    def commit(self, state: Mapping[str, Any], *, timeout_s: float = COMMIT_TIMEOUT_S) -> None:
        """The checkpoint with this state is durable: each producer may forget what it has seen.

        May be called from any thread. All are told, then raises `StreamTimeout` or what else one of them has met.
        """
        self.connect()
        commit_each(self.present, states_in(state), timeout_s)

    def drop_group(self, *, timeout_s: float = COMMIT_TIMEOUT_S) -> None:
        """The run is given up: the producers need not keep anything for it."""
        failed: list[StreamTimeout | PeerError] = []
        for each in self.present:
            try:
                each.drop_group(timeout_s=timeout_s)
            except (StreamTimeout, PeerError) as error:
                failed.append(error)
        if failed:
            raise failed[0]
