"""What is trained on of one stream and in which order: the parts that `SamplingSettings` ask for, put together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protocol.dealing import Positions
from protocol.errors import UsageError
from protocol.quarantine import Quarantine
from protocol.stream import StreamInfo, StreamOrder
from trainer.collation import Collate
from trainer.handed_out import HandedOut, HandedOutWindows
from trainer.held_out import HeldOut
from trainer.held_out_before import held_out_before
from trainer.labels import Rejects
from trainer.merge import Merge
from trainer.order import InOrder, Order
from trainer.position import RunPosition
from trainer.sampling import SamplingSettings
from trainer.selection import Selection
from trainer.shuffle import Shuffled


class Sampler:
    """Of one stream, over all iterations of a life. Held-out records are kept in a folder up to `trained`; a new run
    begins with none, one that goes on from the state `resumed` with its own and those of the streams before.

    Raises `UsageError` where the settings do not go with the stream.
    """

    def __init__(  # noqa: PLR0913  (made in one place, from what that has)
        self,
        info: StreamInfo,
        settings: SamplingSettings,
        seed: int,
        *,
        order: StreamOrder,
        trained: Positions,
        quarantine: Quarantine | None,
        held_out: Path | None,
        resumed: Mapping[str, Any] | None,
        collate: Collate,
    ) -> None:
        if settings.shuffle_window and order == "arrival":
            raise UsageError(
                "--shuffle_window: a window is a range of a stream's own order, and this one is read in order of "
                "arrival: leave it out" + (", or --order arrival" if info.order != "arrival" else "")
            )
        self._info, self._settings, self._seed = info, settings, seed
        self.selection = Selection(info, Rejects(quarantine), settings, seed)
        self.held_out: HeldOut | None = None
        if settings.holdout:
            assert held_out is not None, "the loader has looked"
            most, new = settings.holdout_records, resumed is None or resumed["incarnation"] != info.incarnation
            before = held_out_before(held_out, resumed, info.incarnation, info.schema, most)
            self.held_out = HeldOut(held_out, info, most, trained, new=new, collate=collate, before=before)

    def handed_out(self, batch_size: int, *, goes_on: bool) -> HandedOut:
        """The account that this order needs; `goes_on` says what becomes of a window that has lost records."""
        return HandedOutWindows(batch_size, goes_on=goes_on) if self._settings.shuffle_window else HandedOut(batch_size)

    def order(self, merge: Merge, handed_out: HandedOut, position: RunPosition) -> Order:
        """Of one iteration, which begins at a position."""
        keep = None if self.held_out is None else self.held_out.keep
        if not isinstance(handed_out, HandedOutWindows):
            return InOrder(merge, handed_out, keep)
        return Shuffled(
            merge,
            handed_out,
            keep,
            schema=self._info.schema,
            dealing=self._info.dealing,
            size=self._settings.shuffle_window,
            seed=self._seed,
            label=self._info.schema.label if self._settings.balance else None,
            trained=position.ahead.rows,
        )
