"""The examples of protocol/SPEC.md as objects, and the bytes that tests/protocol/golden holds for them."""

from pathlib import Path
from typing import Final

import msgpack
import numpy as np

from protocol.chunk import Columns, Ragged, to_frames
from protocol.dealing import Dealing
from protocol.messages import (
    Bye,
    ChunkMessage,
    ColumnsMessage,
    Commit,
    Committed,
    Credit,
    Describe,
    Description,
    Done,
    Drop,
    Dropped,
    End,
    Greeting,
    GroupState,
    Hello,
    Message,
    RecordsMessage,
    Refusal,
    Status,
    Subscribe,
    Taken,
    Welcome,
)
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo

FILE: Final = Path(__file__).parent / "golden" / "messages.txt"

SCHEMA = Schema(
    (Field("id", "int64"), Field("image", "uint8", (1, 2, 2)), Field("label", "int64")),
    label="label",
    class_names=("bag", "boot"),
    label_range=(0, 1),
)
INFO = StreamInfo(
    incarnation="c0ffee",
    schema=SCHEMA,
    dealing=Dealing(2, 4),
    splits={"test": 3},
    records_per_pass=14,
    source="shoes",
)
RAGGED = Schema((Field("id", "int64"), Field("words", "int32", (None,)), Field("boxes", "float32", (None, 2))))

FIXED_COLUMNS: Columns = {
    "id": np.array([6, 300], "<i8"),
    "image": np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2),
    "label": np.array([0, 1], "<i8"),
}
RAGGED_COLUMNS: Columns = {
    "id": np.array([1, 2, 3], "<i8"),
    "words": Ragged(np.array([2, 0, 1], "<u4"), np.array([7, -1, 258], "<i4")),
    "boxes": Ragged(np.array([0, 1, 0], "<u4"), np.array([[0.5, -2.0]], "<f4")),
}


#: The same two records as maps: an array in full, or as lists.
FIXED_RECORDS = [
    {"id": 6, "image": {"dtype": "uint8", "shape": [1, 2, 2], "data": bytes(range(4))}, "label": 0},
    {"id": 300, "image": [[[4, 5], [6, 7]]], "label": 1},
]


def _frames(schema: Schema, columns: Columns) -> tuple[bytes, ...]:
    return tuple(bytes(frame) for frame in to_frames(schema, columns))


EXPIRED: Final = Refusal(
    code="expired",
    text="partition 1 lost 4 records: offsets 0 to 3",
    session=9,
    partition=1,
    first=0,
    end=4,
    log_start={0: 4, 1: 4},
)
MESSAGES: Final[dict[str, Message]] = {
    "describe": Describe(request=7, split="", time_ns=1700000000000000000),
    "description": Description(
        request=7,
        info=INFO,
        log_start={0: 0, 1: 0},
        log_end={0: 8, 1: 6},
        ended=True,
        uptime_s=1.5,
        refused=0,
        groups=(
            GroupState(
                name="run", durable=True, readers=1, silent_s=0.25, committed={0: 0, 1: 0}, trained={0: 4, 1: 0}
            ),
        ),
        at={0: 8, 1: 4},
    ),
    "subscribe": Subscribe(
        session=1234567890123456789,
        split="",
        group="run",
        durable=True,
        incarnation="c0ffee",
        positions={0: 8, 1: 4},
        trained={0: 4, 1: 4},
        committed={0: 0, 1: 0},
    ),
    "subscribe to a split": Subscribe(
        session=9,
        split="test",
        group=None,
        durable=False,
        incarnation=None,
        positions={0: 0},
        trained={},
        committed=None,
    ),
    "welcome": Welcome(session=1234567890123456789, info=INFO, log_end={0: 8, 1: 6}),
    "credit": Credit(session=1234567890123456789, until={0: 12, 1: 8}, trained={0: 6, 1: 4}, durable=True),
    "chunk": ChunkMessage(
        session=1234567890123456789,
        partition=1,
        offset=4,
        count=2,
        first_time_ns=1700000000000000000,
        last_time_ns=1700000000000500000,
        source_s=0.5,
        frames=_frames(SCHEMA, FIXED_COLUMNS),
    ),
    "chunk of ragged records": ChunkMessage(
        session=9,
        partition=0,
        offset=0,
        count=3,
        first_time_ns=-1,
        last_time_ns=0,
        frames=_frames(RAGGED, RAGGED_COLUMNS),
    ),
    "status": Status(
        session=1234567890123456789, next={0: 8, 1: 6}, log_end={0: 8, 1: 6}, save_soon=False, source_s=1.25
    ),
    "end": End(session=1234567890123456789, final={0: 8, 1: 6}),
    "bye": Bye(session=1234567890123456789),
    "commit": Commit(request=8, group="run", incarnation="c0ffee", positions={0: 8, 1: 6}),
    "committed": Committed(request=8, group="run"),
    "drop": Drop(request=9, group="run"),
    "dropped": Dropped(request=9, group="run", known=True),
    "refusal": Refusal(code="no_session", text="subscribe first", session=1234567890123456789),
    "refusal of an expired position": EXPIRED,
    "hello": Hello(session=11, writer="camera 1", schema=SCHEMA),
    "hello without a schema": Hello(session=12, writer="camera 2"),
    "greeting": Greeting(session=11, schema=SCHEMA, due=0, durable=0, until=16384),
    "greeting without a schema": Greeting(session=12, schema=None, due=0, durable=0, until=16384),
    "records": RecordsMessage(
        session=11, number=0, count=2, time_ns=1700000000000000000, frames=(msgpack.packb(FIXED_RECORDS),)
    ),
    "columns": ColumnsMessage(session=11, number=2, count=2, frames=_frames(SCHEMA, FIXED_COLUMNS)),
    "taken": Taken(session=11, due=4, durable=2, until=16386, done=False),
    "done": Done(session=11, number=4),
    "refusal of a gap": Refusal(
        code="gap", text="record 9 has come where 4 is due: send again from there", session=11, first=9, end=4
    ),
}


def read_golden(text: str) -> dict[str, list[bytes]]:
    """Name → frames: a line `# name`, then a line of hex digits a frame (`-` is an empty one)."""
    found: dict[str, list[bytes]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("# "):
            name = line[2:]
            found[name] = []
        elif line:
            found[name].append(bytes.fromhex(line.replace("-", "")))
    return found
