"""What was held out of streams that a life does not read: others have followed them, or they are not there."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protocol.chunk import Chunk
from protocol.dealing import Positions
from protocol.errors import HeadraceError
from protocol.schema import Schema
from trainer.collation import Collate
from trainer.held_out import HeldOut
from trainer.ledger import offsets

logger = logging.getLogger(__name__)


def held_out_of(folder: Path, state: Mapping[str, Any], most: int, collate: Collate | None = None) -> HeldOut | None:
    """Of the stream with this state, up to its positions; None where nothing of it can be read, which is said."""
    incarnation = str(state["incarnation"])
    try:
        info = HeldOut.info_in(folder, incarnation)
        if info is None:
            return None
        before = held_out_before(folder, state, incarnation, info.schema, most)
        return HeldOut(folder, info, most, offsets(state["positions"]), collate=collate, before=before)
    except HeadraceError as error:
        logger.warning("validation does without what was held out of the stream %s: %s", incarnation, error)
        return None


def held_out_before(
    folder: Path, state: Mapping[str, Any] | None, incarnation: str, schema: Schema, most: int
) -> list[Chunk]:
    """Of the streams that the one with this incarnation has followed, when it goes on from the state: the newest, in
    order, as many as may be shown. What no weights have come past is forgotten.
    """
    chunks: list[Chunk] = []
    for followed, positions in reversed(_followed(state, incarnation)):
        if sum(chunk.count for chunk in chunks) < most:
            kept = held_out_of(folder, {"incarnation": followed, "positions": positions, "earlier": []}, most)
            if kept is not None and kept.schema == schema:
                chunks = [*kept.shown, *chunks]
    return chunks


def _followed(state: Mapping[str, Any] | None, incarnation: str) -> list[tuple[str, Positions]]:
    """Each with the positions up to which it was trained, or lost."""
    if state is None:
        return []
    own = [] if state["incarnation"] == incarnation else [state]
    return [(str(each["incarnation"]), offsets(each["positions"])) for each in (*state["earlier"], *own)]
