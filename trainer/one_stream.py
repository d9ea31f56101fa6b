"""One stream as a run reads it: what it is, what becomes of its records, and the account of them.

Another takes its place where the stream is replaced by the next one; it grows where the stream gets partitions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.dealing import Positions
from protocol.errors import PartitionsAdded
from protocol.messages import Description
from protocol.quarantine import Quarantine
from protocol.stream import StreamInfo
from trainer.accounting import Accounting
from trainer.arrivals import Asked, read_in, turns_of
from trainer.assembly import Assembly
from trainer.batching import Batching
from trainer.growth import Growth
from trainer.holdout import Holdout
from trainer.idleness import Idleness
from trainer.incoming import Incoming
from trainer.ledger import offsets
from trainer.link import Link
from trainer.position import OnLoss, RunPosition
from trainer.readers import Readers
from trainer.reading import Reading
from trainer.sampler import Sampler
from trainer.sampling import SamplingSettings
from trainer.stages import Stages


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How a run reads whichever stream it is on."""

    reading: Reading
    batch_size: int
    order: Asked
    on_loss: OnLoss
    sampling: SamplingSettings
    seed: int
    quarantine: Quarantine | None
    held_out: Path | None
    owned: bool
    pin_memory: bool


class OneStream:
    """A new run begins at `start`, one that goes on with its state, `resumed`.

    Raises `StreamReplaced` where the state belongs to another stream that this one may not follow, `UsageError` where
    the terms do not go with the stream.
    """

    def __init__(
        self,
        description: Description,
        terms: Terms,
        *,
        start: Positions,
        resumed: Mapping[str, Any] | None,
        durable: bool,
        producer: str,
    ) -> None:
        info = description.info
        self.description, self._terms = description, terms
        self._order = read_in(terms.order, info)
        position = RunPosition(
            description, start=start, resumed=resumed, on_loss=terms.on_loss, order=self._order, producer=producer
        )
        self._sampler = Sampler(
            info,
            terms.sampling,
            terms.seed,
            order=self._order,
            trained=position.trained,
            quarantine=terms.quarantine,
            held_out=terms.held_out,
            resumed=resumed,
            collate=terms.reading.collate,
        )
        handed_out = self._sampler.handed_out(terms.batch_size, goes_on=terms.on_loss == "continue")
        self.accounting = Accounting(position, handed_out)
        if durable:
            self.accounting.board.make_durable()
        self._assembly = Assembly(
            info.schema,
            terms.batch_size,
            owned=terms.owned,
            pin_memory=terms.pin_memory,
            collate=terms.reading.collate,
        )
        self._said: Positions | None = None

    @property
    def info(self) -> StreamInfo:
        """Schema, partitions, splits."""
        return self.description.info

    def batching(self, link: Link, stages: Stages, idleness: Idleness) -> Batching:
        """An iteration from the trained positions on."""
        accounting = self.accounting
        position, board = accounting.position, accounting.board

        def readers(positions: Positions) -> Readers:
            return link.readers(self.info, positions, board)

        def growth(added: PartitionsAdded) -> Growth:
            return Growth(self.info, added, link.asking, self._grow)

        turns = turns_of(self._order, self.info.dealing, position.trained)
        incoming = Incoming(readers, growth, self._sampler.selection, turns, position.ledger, stages)
        order = self._sampler.order(incoming.merge, accounting.handed_out, position)
        return Batching(incoming, self._assembly, accounting, order, stages, idleness)

    def _grow(self, description: Description) -> Positions:
        """The stream has more partitions: where they begin."""
        self.description = description
        positions = self.accounting.position.grow(description)
        self.accounting.board.mark(positions)
        return positions

    @property
    def held_out(self) -> Holdout | None:
        """The newest of the records that were held out; None where none are."""
        if self._sampler.held_out is None:
            return None
        self.accounting.count()
        return self._sampler.held_out.dataset()

    def keep_held_out(self) -> None:
        """Another one follows; what was held out of this one stays."""
        if self._sampler.held_out is not None:
            self._sampler.held_out.save()

    def state_dict(self) -> dict[str, Any]:
        """What has been trained; from here on the producer keeps what comes after it."""
        self.accounting.board.make_durable()
        held_out = {} if self._sampler.held_out is None else self._sampler.held_out.save()
        chosen = {"sampling": self._terms.sampling.state_dict(self._terms.seed), "held_out": held_out}
        return {**chosen, **self.accounting.position.state_dict()}

    def commit(self, state: Mapping[str, Any], group: str, *, timeout_s: float) -> None:
        """The checkpoint with this state of the stream is durable; from any thread.

        What the producer has confirmed is not said again: one whose stream has ended may have left since.
        """
        positions = offsets(state["positions"])
        self.accounting.board.commit(positions)
        if self._sampler.held_out is not None:
            self._sampler.held_out.trim(offsets(state["held_out"]))
        if positions == self._said:
            return
        with self._terms.reading.open() as reader:
            reader.commit(group, self.info.incarnation, positions, timeout_s=timeout_s)
        self._said = positions
