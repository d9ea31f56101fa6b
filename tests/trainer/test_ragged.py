"""Records that differ in length, all the way: every one once and whole, however they are read and in which order."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from producer.computed_log import split_log
from producer.memory_log import MemoryLog
from protocol.chunk import Ragged
from protocol.dealing import Dealing
from protocol.errors import UsageError
from protocol.schema import Field, Schema
from tests.trainer.streams import computed, ids, serving
from tests.trainer.texts import steps_of, text_of, texts
from trainer.batch import Batch
from trainer.collation import Nested, Pad
from trainer.decoders import Cut
from trainer.decoding import Decoder
from trainer.holdout import Holdout
from trainer.loader import StreamLoader
from trainer.reading import Reading
from trainer.sampling import SamplingSettings
from trainer.shared import SLOT_BYTES
from trainer.splits import batches_of, fetch_splits
from trainer.step import StepSettings
from trainer.training import check_parts

RECORDS = 1500


@pytest.fixture(scope="module")
def stream() -> Iterator[str]:
    with serving(computed(texts(RECORDS), partitions=3), splits={"validation": split_log(texts(100))}) as url:
        yield url


def check_whole(batches: Iterable[Mapping[str, torch.Tensor]]) -> None:
    """Every record is what its id says, padded with zeros behind."""
    for batch in batches:
        for row, record in enumerate(batch["id"].tolist()):
            text, length = text_of(record), int(batch["text.lengths"][row])
            assert batch["text"][row, :length].tolist() == text.tolist()
            assert not batch["text"][row, length:].any()
            steps, length = steps_of(record), int(batch["steps.lengths"][row])
            assert batch["steps"][row, :length].tolist() == steps.tolist()
        assert batch["text"].shape[1] == max(len(text_of(record)) for record in batch["id"].tolist())


@pytest.mark.parametrize("workers", [0, 2])
def test_every_record_comes_once_and_whole(stream: str, workers: int) -> None:
    batches = list(StreamLoader(stream, batch_size=64, num_workers=workers))
    assert sorted(ids(batches)) == list(range(RECORDS))
    check_whole(batches)
    assert list(batches[0]) == ["id", "label", "text", "text.lengths", "steps", "steps.lengths"]
    assert batches[0]["text"].dtype == torch.uint8
    assert batches[-1].count == RECORDS % 64


@pytest.mark.slow
def test_a_record_larger_than_a_slot_comes_from_a_worker_all_the_same() -> None:
    log = MemoryLog(Schema((Field("id", "int64"), Field("text", "uint8", (None,)))), Dealing(2, 4))
    sizes = [3, SLOT_BYTES + 1, 0, SLOT_BYTES // 2, SLOT_BYTES // 2, SLOT_BYTES // 2]
    for record, size in enumerate(sizes):
        log.append({"id": record, "text": np.full(size, record, np.uint8)})
    log.end()
    with serving(log) as url:
        batches = list(StreamLoader(url, batch_size=3, num_workers=1))
    assert ids(batches) == [*range(6)]
    assert torch.cat([batch["text.lengths"] for batch in batches]).tolist() == sizes
    assert all((batch["text"].amax(1) == batch["id"]).all() for batch in batches[1:])


def test_a_shuffled_window_shows_each_of_its_records_whole(stream: str) -> None:
    inside = list(StreamLoader(stream, batch_size=64, sampling=SamplingSettings(shuffle_window=500)))
    assert sorted(ids(inside)) == list(range(RECORDS))
    assert ids(inside) != ids(StreamLoader(stream, batch_size=64))
    check_whole(inside)


@pytest.mark.slow
def test_a_killed_run_goes_on_behind_what_it_trained(stream: str) -> None:
    first = StreamLoader(stream, batch_size=64)
    seen: list[Batch] = []
    for batch in first:
        seen.append(batch)
        first.mark_trained(batch)
        if len(seen) == 7:
            break
    second = StreamLoader(stream, batch_size=64, num_workers=1)
    second.load_state_dict(first.state_dict())
    rest = list(second)
    assert sorted(ids([*seen, *rest])) == list(range(RECORDS))
    check_whole([*seen, *rest])


def test_records_are_held_out_whole(stream: str, tmp_path: Path) -> None:
    settings = SamplingSettings(holdout=0.2, holdout_records=100)
    loader = StreamLoader(stream, batch_size=64, sampling=settings, held_out=tmp_path)
    trained = []
    for batch in loader:
        loader.mark_trained(batch)
        trained += batch["id"].tolist()
    held = loader.held_out
    assert held is not None
    assert len(held) == 100
    assert not {int(held[row]["id"]) for row in range(100)} & set(trained)
    check_whole(batches_of(held, 30))


def test_what_was_held_out_under_other_decoders_is_left_alone(stream: str, tmp_path: Path) -> None:
    settings = SamplingSettings(holdout=0.2, holdout_records=100)
    ways: list[list[Decoder]] = [[], [Cut("text", 4)]]
    for decoders in ways:
        first = StreamLoader(stream, batch_size=64, sampling=settings, held_out=tmp_path, decode=decoders)
        for batch in first:
            first.mark_trained(batch)
            if batch.number == 9:
                break
        state = first.state_dict()
        again = StreamLoader(stream, batch_size=64, sampling=settings, held_out=tmp_path, decode=decoders)
        again.load_state_dict(state)
        held, kept = again.held_out, first.held_out
        assert held is not None
        assert kept is not None
        assert len(held) == len(kept) > 0
        assert [*held[0]] == [*kept[0]]


def test_a_split_is_kept_whole_and_opened_again(stream: str, tmp_path: Path) -> None:
    reading = Reading(url=stream)
    with reading.open() as reader:
        info = reader.describe(timeout_s=5).info
    info = type(info)(**{**vars(info), "splits": {"validation": 100}})
    for _ in range(2):
        held = fetch_splits(reading, info, tmp_path)["validation"]
        check_whole(batches_of(held, 30))
        assert held[9]["text"].tolist() == text_of(9).tolist()
    assert Holdout.open(tmp_path / "splits" / "validation").decoded == ""


def test_a_split_is_fetched_again_where_it_is_decoded_otherwise(stream: str, tmp_path: Path) -> None:
    def fetched(*decoders: Cut) -> Holdout:
        reading = Reading(url=stream, decoders=decoders)
        with reading.open() as reader:
            info = reader.describe(timeout_s=5).info
        return fetch_splits(reading, type(info)(**{**vars(info), "splits": {"validation": 100}}), tmp_path)[
            "validation"
        ]

    assert fetched(Cut("text", 8))[9]["text"].tolist() == text_of(9)[:8].tolist()
    assert fetched(Cut("text", 4))[9]["text"].tolist() == text_of(9)[:4].tolist()
    assert fetched()[9]["text"].tolist() == text_of(9).tolist()


def test_a_nested_tensor_is_the_same_without_padding(stream: str) -> None:
    for batch in StreamLoader(stream, batch_size=64, collate=Nested()):
        for record, text in zip(batch["id"].tolist(), batch["text"].unbind(), strict=True):
            assert text.tolist() == text_of(record).tolist()


def test_padding_may_be_another_number() -> None:
    column = Ragged(np.array([2, 0, 3], np.uint32), np.arange(5, dtype=np.int16))
    padded = Pad(fill=-1)("tokens", column)
    assert padded["tokens"].tolist() == [[0, 1, -1], [-1, -1, -1], [2, 3, 4]]
    assert padded["tokens.lengths"].tolist() == [2, 0, 3]


@pytest.mark.parametrize(("fill", "dtype"), [(-1, "uint8"), (0.5, "int64"), (300, "uint8"), (2, "bool")])
def test_padding_that_the_values_cannot_be_is_refused(fill: float, dtype: str) -> None:
    with pytest.raises(UsageError, match=f"fill {fill:g} is no {dtype}: give a number that the field may hold"):
        Pad(fill)("text", Ragged(np.array([1], np.uint32), np.zeros(1, dtype)))


def test_micro_batches_are_not_made_of_what_records_cannot_part(stream: str) -> None:
    loader = StreamLoader(stream, batch_size=64, collate=Nested())
    with pytest.raises(UsageError, match="--accumulate parts a batch by records, as what Nested makes cannot be"):
        check_parts(loader, StepSettings(accumulate=2))
    check_parts(loader, StepSettings())


def test_a_batch_of_empty_records_has_a_tensor_of_no_columns() -> None:
    padded = Pad()("text", Ragged(np.zeros(2, np.uint32), np.empty((0, 3), np.float32)))
    assert padded["text"].shape == (2, 0, 3)
