"""What was held out of a stream that a life does not read is what the weights have come past, whatever else lies by."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.chunk import Chunk
from protocol.dealing import Dealing, Positions
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo
from trainer.held_out import HeldOut
from trainer.held_out_before import held_out_of
from trainer.merge import Piece

SCHEMA = Schema((Field("id", "int64"),))
MOST = 10


def held_out(folder: Path, trained: Positions) -> HeldOut:
    """Of a stream in order of arrival that had two partitions when it began."""
    info = StreamInfo(
        incarnation="grown", schema=SCHEMA, dealing=Dealing(partitions=2, stripe=16), order="arrival", source="many"
    )
    return HeldOut(folder, info, MOST, trained, new=True)


def keep(kept: HeldOut, trained: Positions, partition: int, number: int) -> None:
    """The next record of a partition is held out, and the weights come past it."""
    offset = trained.get(partition, 0)
    chunk = Chunk(partition, offset, {"id": np.array([number])}, number, number)
    trained.setdefault(partition, 0)
    kept.keep(Piece(chunk, 0, 1, None, "held_out"))
    trained[partition] = offset + 1


def state_at(positions: Positions) -> dict[str, Any]:
    return {"incarnation": "grown", "positions": dict(positions), "earlier": []}


def shown(kept: HeldOut | None) -> list[int]:
    assert kept is not None
    holdout = kept.dataset()
    return [int(holdout[row]["id"]) for row in range(len(holdout))]


def test_of_a_partition_that_was_added_an_older_checkpoint_is_shown_what_it_saw(tmp_path: Path) -> None:
    trained: Positions = {0: 0, 1: 0}
    kept = held_out(tmp_path, trained)
    keep(kept, trained, 0, 1)
    keep(kept, trained, 2, 2)  # the stream has got a third
    kept.save()
    older = state_at(trained)
    keep(kept, trained, 2, 3)
    keep(kept, trained, 0, 4)
    kept.save()
    assert shown(held_out_of(tmp_path, state_at(trained), MOST)) == [1, 2, 3, 4]
    assert shown(held_out_of(tmp_path, older, MOST)) == [1, 2]
    assert shown(held_out_of(tmp_path, state_at({0: 1, 1: 0}), MOST)) == [1]


def test_a_folder_that_cannot_be_read_is_said_and_does_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert held_out_of(tmp_path, state_at({0: 0, 1: 0}), MOST) is None
    assert not caplog.text, "there was none"
    trained: Positions = {0: 0, 1: 0}
    kept = held_out(tmp_path, trained)
    keep(kept, trained, 0, 1)
    kept.save()
    (tmp_path / "grown" / "data.mdb").write_bytes(b"damaged" * 1000)
    assert held_out_of(tmp_path, state_at(trained), MOST) is None
    assert "validation does without what was held out of the stream grown" in caplog.text
