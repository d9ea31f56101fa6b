"""Slots and the progress board: what loader and workers share."""

import resource
import threading
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from protocol.chunk import Chunk, Ragged, ragged, value_of
from protocol.errors import OversizedMessage, UsageError
from protocol.schema import Field, Schema
from tests.trainer.lives import SHARED_MEMORY
from trainer import shared
from trainer.shared import ProgressBoard, Slots, SlottedChunk

SCHEMA = Schema((Field("flag", "bool", ()), Field("id", "int64", ()), Field("x", "float32", (2, 3))))


SCHEMA_DTYPES = {field.name: field.numpy_dtype for field in SCHEMA.fields}


def chunk(first: int, count: int = 3) -> Chunk:
    ids = np.arange(first, first + count)
    x = np.repeat(ids, 6).reshape(count, 2, 3).astype(np.float32)
    return Chunk(5, first, {"flag": ids % 2 == 1, "id": ids, "x": x}, 1_000, 2_000)


def slots_of(workers: int = 1, per_worker: int = 2, rows: int = 5) -> Slots:
    return Slots(workers, per_worker, SCHEMA, rows)


def first_id(slots: Slots, slotted: SlottedChunk) -> int:
    return int(np.asarray(slots.view(slotted).columns["id"])[0])


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_chunk_comes_out_of_its_slot_as_it_went_in(count: int) -> None:
    slots = slots_of(workers=2)
    slotted = slots.put(1, chunk(7, count))
    assert slotted is not None
    found = slots.view(slotted)
    assert (found.partition, found.offset, found.count) == (5, 7, count)
    assert (found.first_time_ns, found.last_time_ns) == (1_000, 2_000)
    assert list(found.columns) == ["flag", "id", "x"]
    for name, column in chunk(7, count).columns.items():
        here = found.columns[name]
        assert isinstance(here, np.ndarray)
        assert here.dtype == SCHEMA_DTYPES[name]
        assert here.flags.aligned
        assert np.array_equal(here, column)  # type: ignore[arg-type]


RAGGED = Schema((Field("id", "int64"), Field("text", "uint8", (None,)), Field("steps", "float32", (None, 2))))


def ragged_chunk(*texts: bytes) -> Chunk:
    text = Ragged(np.array([*map(len, texts)], np.uint32), np.frombuffer(b"".join(texts), np.uint8))
    steps = Ragged(np.ones(len(texts), np.uint32), np.ones((len(texts), 2), np.float32))
    return Chunk(5, 7, {"id": np.arange(len(texts)), "text": text, "steps": steps}, 1_000, 2_000)


def test_records_of_any_length_come_out_of_a_slot_as_they_went_in() -> None:
    slots = Slots(1, 2, RAGGED, 5)
    for texts in ([b"one", b"", b"three"], [b"longer than before", b"x"], [b""]):
        slotted = slots.put(0, ragged_chunk(*texts))
        assert slotted is not None
        found = slots.view(slotted)
        text, steps = ragged(found.columns["text"]), ragged(found.columns["steps"])
        assert [bytes(value_of(text, row)) for row in range(found.count)] == texts
        assert steps.values.shape == (len(texts), 2)
        slots.free(slotted)


def test_a_chunk_is_parted_until_each_part_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "SLOT_BYTES", 64)  # 32 for each of the ragged fields
    slots = Slots(1, 2, RAGGED, 4)
    whole = ragged_chunk(*(b"x" * size for size in (1, 30, 5, 40, 1, 1, 1, 1, 1, 1)))
    parts = list(slots.parts(whole))
    assert [(part.offset, part.count) for part in parts] == [(7, 2), (9, 1), (10, 1), (11, 1), (12, 2), (14, 3)]
    assert [part.offset for part in parts if not slots.fits(part)] == [10]


def test_a_worker_waits_until_the_slot_that_is_next_is_free() -> None:
    slots = slots_of()
    first, second = slots.put(0, chunk(0)), slots.put(0, chunk(10))
    assert first is not None
    assert second is not None
    put: list[int] = []
    waiting = threading.Thread(target=lambda: put.append(slots.put(0, chunk(20)).slot))  # type: ignore[union-attr]
    waiting.start()
    slots.free(second)  # not the one that is next
    time.sleep(0.05)
    assert put == []
    assert first_id(slots, first) == 0
    slots.free(first)
    waiting.join(5)
    assert put == [first.slot]
    assert first_id(slots, first) == 20


def test_a_worker_that_waits_for_a_slot_leaves_when_the_loader_closes() -> None:
    slots = slots_of(per_worker=1)
    slots.put(0, chunk(0))
    threading.Timer(0.05, slots.close).start()
    assert slots.put(0, chunk(10)) is None


def test_a_chunk_that_does_not_fit_is_refused() -> None:
    with pytest.raises(OversizedMessage, match="a chunk of 3 records does not fit a slot of 2"):
        slots_of(rows=2).put(0, chunk(0))


def shared_mappings() -> set[str]:
    """Those of this process, a line each with the file's name and number; other tests have left theirs."""
    return {line for line in Path("/proc/self/maps").read_text().splitlines() if " rw-s " in line}


def test_nothing_of_it_has_a_name_that_a_killed_process_could_leave() -> None:
    before = shared_mappings()
    slots, board = slots_of(workers=3, per_worker=8, rows=1 << 10), ProgressBoard()
    shared = shared_mappings() - before
    assert len(shared) >= 5, (slots, board)
    assert not [line for line in shared if str(SHARED_MEMORY) in line], "had a name until it was unlinked"


def test_without_room_in_shared_memory_the_mend_is_said() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(UsageError, match="no room for 33 MiB: use fewer workers"):
            slots_of(workers=2, per_worker=8, rows=1 << 16)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_board_tells_each_reader_of_its_own_partitions() -> None:
    board = ProgressBoard()
    board.mark({0: 5, 1: 6, 2: 7, 3: 8})
    board.mark({1: 9})
    progress = board.of([1, 3])
    assert progress.trained == {1: 9, 3: 8}
    assert progress.committed is None
    assert not progress.durable
    board.make_durable()
    board.commit({0: 1, 1: 2, 2: 3, 3: 4})
    progress = board.of([1, 3])
    assert progress.committed == {1: 2, 3: 4}
    assert progress.durable
    assert board.durable


def test_a_worker_sees_what_the_loader_writes() -> None:
    board, slots = ProgressBoard(), slots_of(per_worker=1)
    board.mark({0: 1 << 40, 1: 3})
    board.make_durable()
    context = get_context("forkserver")
    answers = context.Queue()
    worker = context.Process(target=_work, args=(board, slots, answers))
    worker.start()
    trained, durable, slotted = answers.get(timeout=60)
    assert (trained, durable) == ({0: 1 << 40, 1: 3}, True)
    assert np.asarray(slots.view(slotted).columns["id"]).tolist() == [40, 41, 42]
    worker.join(10)


def _work(board: ProgressBoard, slots: Slots, answers) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    progress = board.of([0, 1])
    answers.put((progress.trained, progress.durable, slots.put(0, chunk(40))))
