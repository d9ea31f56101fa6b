"""`StreamLoader`: batches of a live stream in its order, and the positions that have been trained.

The readers hand over chunks as they come; here they are merged and sliced into batches. Only the loader
owns progress: a batch carries the positions after it, `mark_trained` moves them, `state_dict` saves them, `commit`
lets the producer forget.
"""

import logging
import threading
import time
import warnings
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from protocol.beginning import Beginning
from protocol.dealing import Positions
from protocol.errors import UsageError
from protocol.messages import Description
from protocol.open_reader import check_url
from protocol.quarantine import Quarantine
from protocol.reader import OnWait
from protocol.stream import StreamInfo
from protocol.zmq_transport import new_token
from trainer.arrivals import Asked
from trainer.asking import Asking
from trainer.batch import AnyBatch, Batch
from trainer.collation import Collate, Pad
from trainer.decoding import Decoder
from trainer.held_out import HeldOut
from trainer.held_out_before import held_out_of
from trainer.holdout import Holdout
from trainer.idleness import Idleness
from trainer.iteration import Iteration
from trainer.link import COMMIT_TIMEOUT_S, Link
from trainer.one_stream import OneStream, Terms
from trainer.position import OnLoss, RunPosition, check_version
from trainer.reading import Reading
from trainer.sampling import MAX_SEED, SamplingSettings
from trainer.stages import Stages
from trainer.succession import Succession

logger = logging.getLogger(__name__)


class StreamLoader:
    """Iterate over it as over a `DataLoader`; tell it which batches have been trained.

    `num_workers` 0 reads in a thread; worker processes need the usual `if __name__ == "__main__"` guard. `keys` is a
    client's folder of keys, for a producer that has some; its client needs the rights to read and to commit. `group`
    names the run for the producer (unique by default). `start` is 'earliest', 'latest', a time ('2026-11-26T07:30') or
    a time ago ('10m'), where there is no state to resume. `connect_timeout_s` bounds the wait for a producer (None
    waits for ever; `on_wait` is called each second with the seconds waited). After `idle_timeout_s` without a record
    `on_timeout` says whether iteration should 'raise' `StreamTimeout` or 'end'. `on_idle` is called at least once a
    second while no batch is ready. A record whose label is outside the schema's range raises `DataFault`; with
    `quarantine` it is kept in this file, is in no batch, and counts as rejected.

    Raises `StreamReplaced`, `RecordsLost` or `BeyondLogEnd` where the stream cannot go on from the positions, and
    `AccessDenied` where the producer does not let this client in or gives it too few rights. With `on_loss` 'continue'
    the first two are counted as lost in the ledger, said in one line, and the run goes on with what there is: behind
    what the log forgot, or on the stream that has taken the other's place. Each batch is then to be marked before the
    next is asked for.

    `decode` are decoders (trainer/decoding.py) that each chunk goes through where it arrives, in the workers if there
    are any: `info` shows what records are afterwards. A record that cannot be decoded raises `DataFault`, or is kept in
    `quarantine` and counts as rejected. `collate` (trainer/collation.py) makes tensors of fields that are still of
    any length then; by default they are padded.

    `order` "arrival" trains records as they come, those of each partition by offset: no partition waits for another,
    and two runs see other orders. By default the order is the stream's own, which is that of arrival where many write
    it (`info.order`). A state may be resumed in either. Partitions that such a stream gets while it is read are read
    from their first record on.
    """

    def __init__(  # noqa: PLR0913  (a library's front door: each is one word in a user's call)
        self,
        url: str,
        *,
        batch_size: int,
        num_workers: int = 0,
        keys: str | Path = "",
        group: str | None = None,
        start: str = "earliest",
        connect_timeout_s: float | None = None,
        idle_timeout_s: float | None = None,
        on_timeout: str = "raise",
        on_loss: OnLoss = "stop",
        order: Asked = "stream",
        on_idle: Callable[[], None] | None = None,
        on_wait: OnWait | None = None,
        pin_memory: bool = False,
        stages: Stages | None = None,
        quarantine: str | Path | None = None,
        sampling: SamplingSettings | None = None,
        held_out: str | Path | None = None,
        decode: Sequence[Decoder] = (),
        collate: Collate | None = None,
        seed: int = 0,
    ) -> None:
        check_url(url)
        if batch_size < 1 or num_workers < 0:
            raise UsageError("batch_size is at least 1 and num_workers at least 0")
        if on_loss not in get_args(OnLoss):
            raise UsageError(f"on_loss is one of {', '.join(get_args(OnLoss))}, not {on_loss!r}")
        if order not in get_args(Asked):
            raise UsageError(f"order is one of {', '.join(get_args(Asked))}, not {order!r}")
        self.url, self.batch_size, self.num_workers = url, batch_size, num_workers
        self.reading = Reading(url=url, keys=keys, decoders=decode, collate=collate or Pad())
        self.group = group or f"group-{new_token():016x}"
        self._sampling, self._seed = sampling or SamplingSettings(), seed
        self._idleness = Idleness(url, idle_timeout_s, on_timeout, on_idle)
        self._connect_timeout_s, self._on_wait, self.pin_memory = connect_timeout_s, on_wait, pin_memory
        self.stages = stages or Stages()
        if not 0 <= seed <= MAX_SEED:
            raise UsageError(f"seed is from 0 to {MAX_SEED}")
        if self._sampling.holdout and held_out is None:
            raise UsageError("a holdout needs a folder to keep its records in: give held_out")
        terms = Terms(
            reading=self.reading,
            batch_size=batch_size,
            order=order,
            on_loss=on_loss,
            sampling=self._sampling,
            seed=seed,
            quarantine=None if quarantine is None else Quarantine(Path(quarantine), logger.warning, stream=url),
            # What was decoded otherwise is of no use here.
            held_out=None if held_out is None else Path(held_out, self.reading.identity),
            owned=not num_workers,
            pin_memory=pin_memory,
        )
        self._succession = Succession(terms, Beginning.of(start))
        self._resumed: Mapping[str, Any] | None = None
        self._iteration: Iteration | None = None

    def join(self, group: str, taken: Callable[[], Collection[str]]) -> None:
        """It is one of several streams of a run (trainer/mixed_loader.py), which is known as `group`; incarnations that
        are `taken` are read elsewhere in it, or were.
        """
        self.group = group
        self._succession.producer, self._succession.taken = f"the producer at {self.url}", taken

    # --- what the stream is --------------------------------------------------------------------------------------

    def connect(self, description: Description | None = None) -> Description:
        """What the producer says of the stream; asks (and waits) the first time, unless it was asked already."""
        if self._succession.now is not None:
            return self._succession.now.description
        if description is None:
            with self.reading.open() as reader:
                description = reader.describe(
                    time_ns=self._succession.start.time_ns, timeout_s=self._connect_timeout_s, on_wait=self._on_wait
                )
        self._succession.begin(description, self._resumed, durable=self._resumed is not None)
        return description

    @property
    def _read(self) -> OneStream:
        """The stream that is read now. May be asked from any thread."""
        if self._succession.now is None:
            self.connect()
            assert self._succession.now is not None
        return self._succession.now

    def asking(self, bell: threading.Event) -> Asking:
        """The same for somebody who does not wait: what it answers is for `connect`."""
        return Asking(self.reading, bell, time_ns=self._succession.start.time_ns)

    @property
    def info(self) -> StreamInfo:
        """Schema, partitions, splits."""
        return self.connect().info

    @property
    def streams(self) -> "tuple[StreamLoader]":
        """The one that it reads: a loader may have several (trainer/mixed_loader.py)."""
        return (self,)

    #: Those that have been heard of.
    present = streams

    @property
    def incarnation(self) -> str:
        """Of the stream that is read now. May be asked from any thread."""
        return self._read.info.incarnation

    @property
    def away_s(self) -> float | None:
        """For how long the producer has been away; None while it is there. May be asked from any thread."""
        since_s = self._read.accounting.uncounted.away_since_s
        return None if since_s is None else time.monotonic() - since_s

    @property
    def awaited(self) -> str:
        """What is waited for while no batch comes."""
        return "records of the stream" if self.away_s is None else f"the producer at {self.url} to come back"

    # --- iteration -----------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Batch]:
        """Batches from what was marked on. The last one of a stream may be smaller.

        Another iteration that is still open ends here.
        """
        return cast("Iterator[Batch]", self._iterate(None))  # None comes only where there is a bell

    def polled(self, bell: threading.Event) -> Generator[Batch | None, None, None]:
        """The same for somebody who waits for several streams: None where nothing is there now.

        The bell is set when there may be. Whoever takes a batch says so (`hand`) before asking for the next one; what
        was not taken at the end comes again.
        """
        return self._iterate(bell)

    def hand(self, batch: Batch) -> None:
        """The batch that `polled` has given will be trained."""
        self._read.accounting.handed_out.hand(batch)

    def _iterate(self, bell: threading.Event | None) -> Generator[Batch | None, None, None]:
        accounting = self._read.accounting
        if accounting.position.ended and self._succession.terms.on_loss == "stop":
            return  # its producer may have left, and nothing may follow in this life
        if self._iteration is not None:
            self._iteration.close()
        if count := accounting.begin():
            warnings.warn(f"{count} records were handed out and never marked as trained; they come again", stacklevel=2)
        self._idleness.stopping = False
        link = Link(reading=self.reading, group=self.group, workers=self.num_workers, bell=bell)
        self._iteration = Iteration(self._succession, link, self.stages, self._idleness)
        yield from self._iteration.batches()

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

    def mark_trained(self, batch: AnyBatch) -> None:
        """This batch and all before it have been trained. Raises `UsageError` for anything but a batch of a loader."""
        self.mark(_own(batch).number)

    def mark_skipped(self, batch: AnyBatch) -> None:
        """All batches before this one have been trained, and this one never will be: its records count as skipped."""
        self.mark(_own(batch).number, skipped=True)

    def mark(self, number: int, *, skipped: bool = False) -> None:
        """The same by a batch's number, for whoever keeps no batches."""
        accounting = self._read.accounting
        (accounting.mark_skipped if skipped else accounting.mark_trained)(number)

    @property
    def position(self) -> RunPosition:
        """Where the run stands, all that was marked among it."""
        return self._read.accounting.position

    # --- where it stands -----------------------------------------------------------------------------------------

    def in_hand(self) -> dict[str, int]:
        """Records that have come and are not trained: `buffered` and `unmarked`."""
        buffered, unmarked = self._read.accounting.in_hand(self._waiting())
        return {"buffered": sum(buffered.values()), "unmarked": sum(unmarked.values())}

    def check_ledger(self) -> None:
        """Raise `LedgerUnbalanced` where a record was counted twice or not at all."""
        self._read.accounting.check(self._waiting())

    def _waiting(self) -> Positions:
        """Records by partition that have come and are not copied yet."""
        return {} if self._iteration is None else self._iteration.waiting()

    @property
    def holds_out(self) -> bool:
        """Whether records are held out of the stream to validate on."""
        return self._sampling.holdout > 0

    @property
    def held_out(self) -> Holdout | None:
        """The newest of the records that were held out (`SamplingSettings.holdout`), a map-style dataset; None without.

        It shows what the marked batches have come past, and stays as it is when more of them are.
        """
        return self._read.held_out

    @property
    def held_out_by_stream(self) -> dict[str, Holdout]:
        """The same by the name of the stream, as a mix has it of several; empty without."""
        return {} if (held_out := self.held_out) is None else {self.url: held_out}

    def held_out_of(self, state: Mapping[str, Any]) -> HeldOut | None:
        """What another stream of the run has held out that this life does not read, as its state knows it."""
        folder, sampling = self._succession.terms.held_out, self._sampling
        if folder is None or not sampling.holdout:
            return None
        return held_out_of(folder, state, sampling.holdout_records, self.reading.collate)

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What has been trained; plain values that `torch.load(weights_only=True)` accepts.

        From here on the producer keeps what comes after these positions until a later state is committed.
        """
        return {"url": self.url, "group": self.group, **self._read.state_dict()}

    def drop_group(self, *, timeout_s: float = COMMIT_TIMEOUT_S) -> None:
        """The run is given up: the producer need not keep anything for it."""
        with self.reading.open() as reader:
            reader.drop(self.group, timeout_s=timeout_s)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, under its group. Only before the first batch."""
        if self._succession.now is not None:
            raise RuntimeError("load_state_dict comes before the first batch and before the stream is asked for")
        check_version(state)
        self._sampling.check_same(state["sampling"], self._seed)
        self._resumed = dict(state)
        self.group = str(state["group"])

    def commit(self, state: Mapping[str, Any], *, timeout_s: float = COMMIT_TIMEOUT_S) -> None:
        """The checkpoint with this state is durable: the producer may forget what it has seen.

        May be called from any thread. Raises `StreamTimeout` where the producer does not answer; the commit is said
        again when a reader subscribes.
        """
        stream = self._read  # one look, since this may be another thread than that which changes streams
        if state["incarnation"] == stream.info.incarnation:  # of one that is over nobody keeps anything
            stream.commit(state, self.group, timeout_s=timeout_s)


def _own(batch: AnyBatch) -> Batch:
    if not isinstance(batch, Batch):
        raise UsageError("mark_trained takes the batch that the loader gave, not a copy of its columns")
    return batch
