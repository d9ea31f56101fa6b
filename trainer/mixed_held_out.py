"""What is held out of the streams of a mix, those among them that this life does not read."""

from collections.abc import Mapping, Sequence
from typing import Any

from protocol.schema import Schema
from trainer.admission import Admission
from trainer.held_out import HeldOut
from trainer.holdout import Holdout
from trainer.loader import StreamLoader
from trainer.mix import names_of


class MixedHeldOut:
    """Asks each stream that is read; of the others what they have held out lies beside the run, and stays as it is."""

    def __init__(self, loaders: Sequence[StreamLoader], admission: Admission) -> None:
        self._loaders, self._admission = loaders, admission
        #: By incarnation, of those that are not read.
        self._kept: dict[str, HeldOut | None] = {}

    def by_stream(self, schema: Schema) -> dict[str, Holdout]:
        """Of each stream with such records by its name in charts; nothing of those that hold nothing out."""
        present, unread = self._admission.present, self._admission.remembered
        urls = [*(each.url for each in present), *(str(state["url"]) for state in unread)]
        kept = [*(each.held_out for each in present), *map(self._of, unread)]
        found = zip(names_of(urls), kept, strict=True)
        return {name: holdout for name, holdout in found if holdout is not None and holdout.schema == schema}

    def _of(self, state: Mapping[str, Any]) -> Holdout | None:
        incarnation = str(state["incarnation"])
        if incarnation not in self._kept:
            looked_for = (each.held_out_of(state) for each in self._loaders)
            self._kept[incarnation] = next((each for each in looked_for if each is not None), None)
        kept = self._kept[incarnation]
        return None if kept is None else kept.dataset()
