from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Subset

from protocol.chunk import Chunk
from protocol.errors import DataFault, UsageError
from protocol.schema import DTYPES, Field, Schema
from trainer.holdout import Holdout

SCHEMA = Schema(
    (Field("id", "int64"), Field("image", "uint8", (1, 4, 4)), Field("label", "int64")),
    label="label",
    class_names=("a", "b"),
    label_range=(0, 1),
)
COUNT = 23


def columns() -> dict[str, np.ndarray]:
    random = np.random.RandomState(0)
    return {
        "id": np.arange(COUNT, dtype="<i8") * 7,
        "image": random.randint(0, 256, (COUNT, 1, 4, 4)).astype(np.uint8),
        "label": random.randint(0, 2, COUNT).astype("<i8"),
    }


def chunks(size: int = 5, count: int = COUNT) -> Iterator[Chunk]:
    whole = Chunk(0, 0, columns(), 0, 0)
    for start in range(0, count, size):
        yield whole.part(start, min(start + size, count))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "validation"
    Holdout.save(path, SCHEMA, chunks(), count=COUNT, incarnation="log-1")
    return path


def batches(loader: DataLoader[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    got = list(loader)
    return {name: torch.cat([batch[name] for batch in got]) for name in got[0]}


def assert_all_records_are_there(read: dict[str, torch.Tensor]) -> None:
    for name, column in columns().items():
        assert read[name].numpy().dtype == column.dtype
        assert np.array_equal(read[name].numpy(), column)


def test_what_came_in_chunks_is_read_in_batches(folder: Path) -> None:
    holdout = Holdout.open(folder)
    assert len(holdout) == COUNT
    assert holdout.schema == SCHEMA
    assert holdout.incarnation == "log-1"
    assert_all_records_are_there(batches(DataLoader(holdout, batch_size=4, collate_fn=Holdout.collate)))


def test_it_is_an_ordinary_map_style_set(folder: Path) -> None:
    holdout = Holdout.open(folder)
    assert_all_records_are_there(batches(DataLoader(holdout, batch_size=4)))
    assert_all_records_are_there(batches(DataLoader(Subset(holdout, range(COUNT)), batch_size=4)))
    assert_all_records_are_there(
        batches(DataLoader(Subset(holdout, range(COUNT)), batch_size=4, collate_fn=Holdout.collate))
    )
    each = [holdout[index] for index in range(COUNT)]
    assert_all_records_are_there(Holdout.collate(each))
    assert each[3]["image"].shape == (1, 4, 4)
    assert each[3]["label"].shape == ()


def test_worker_processes_read_it_too(folder: Path) -> None:
    loader = DataLoader(
        Holdout.open(folder), 9, num_workers=1, collate_fn=Holdout.collate, multiprocessing_context="forkserver"
    )
    assert_all_records_are_there(batches(loader))


def test_records_come_in_the_order_that_was_asked_for(folder: Path) -> None:
    rows = Holdout.open(folder).__getitems__([5, 2, 5])
    assert rows.columns["id"].tolist() == [35, 14, 35]
    assert [row["id"].item() for row in rows] == [35, 14, 35]
    assert rows[-1]["id"].item() == 35
    with pytest.raises(IndexError):
        rows[3]
    with pytest.raises(IndexError):
        Holdout.open(folder)[COUNT]


def test_a_batch_owns_its_memory(folder: Path) -> None:
    holdout = Holdout.open(folder)
    Holdout.collate(holdout.__getitems__([0, 1]))["image"].fill_(0)
    holdout[0]["image"].fill_(0)
    assert_all_records_are_there(batches(DataLoader(holdout, batch_size=4, collate_fn=Holdout.collate)))


def test_the_columns_lie_as_arrays_that_numpy_reads_with_nothing_else_beside_them(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        *("00-id.npy", "01-image.npy", "02-label.npy", "schema.json", "manifest.json"),
    }
    assert np.array_equal(np.load(folder / "01-image.npy"), columns()["image"])
    assert [path.name for path in folder.parent.iterdir()] == ["validation"]


@settings(max_examples=25)
@given(
    fields=st.lists(
        st.builds(
            Field,
            st.text(min_size=1, max_size=8),
            st.sampled_from(sorted(DTYPES)),
            st.lists(st.integers(1, 3), max_size=3).map(tuple),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda field: field.name,
    ),
    count=st.integers(0, 6),
)
def test_any_schema_comes_back_bit_for_bit(
    fields: list[Field], count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    schema = Schema(tuple(fields))
    random = np.random.RandomState(count)
    given_columns = {
        field.name: random.randint(0, 2, (count, *field.item_shape)).astype(field.numpy_dtype) for field in fields
    }
    path = tmp_path_factory.mktemp("holdout") / "split"
    stream = [Chunk(0, 0, given_columns, 0, 0)] if count else []
    Holdout.save(path, schema, stream, count=count, incarnation="x")
    holdout = Holdout.open(path)
    assert holdout.schema == schema
    assert len(holdout) == count
    for name, column in holdout.__getitems__(range(count)).columns.items():
        assert column.numpy().dtype == given_columns[name].dtype
        assert column.numpy().tobytes() == given_columns[name].tobytes()


def test_a_fields_name_never_becomes_a_path(tmp_path: Path) -> None:
    schema = Schema((Field("../../x/\0evil", "uint8"),))
    Holdout.save(
        tmp_path / "a" / "b" / "split",
        schema,
        [Chunk(0, 0, {"../../x/\0evil": np.zeros(2, np.uint8)}, 0, 0)],
        count=2,
        incarnation="x",
    )
    assert not list(tmp_path.glob("x*"))
    assert (tmp_path / "a" / "b" / "split" / "00-______x__evil.npy").exists()


def test_saving_again_replaces_the_split(folder: Path) -> None:
    Holdout.save(folder, SCHEMA, chunks(count=3), count=3, incarnation="log-2")
    assert len(Holdout.open(folder)) == 3
    assert Holdout.open(folder).incarnation == "log-2"


def test_chunks_of_several_partitions_may_mix(tmp_path: Path) -> None:
    def part(partition: int, offset: int) -> Chunk:
        return Chunk(partition, offset, {name: column[:2] for name, column in columns().items()}, 0, 0)

    Holdout.save(tmp_path / "x", SCHEMA, [part(0, 0), part(1, 0), part(0, 2), part(1, 2)], count=8, incarnation="x")
    assert len(Holdout.open(tmp_path / "x")) == 8


@pytest.mark.parametrize("announced", [COUNT - 1, COUNT + 1])
def test_a_split_that_comes_short_or_long_is_not_kept(folder: Path, announced: int) -> None:
    with pytest.raises(DataFault, match=f"{COUNT} records came of a split that was announced with {announced}"):
        Holdout.save(folder, SCHEMA, chunks(), count=announced, incarnation="log-2")
    assert Holdout.open(folder).incarnation == "log-1", "what was there before is still there"
    assert [path.name for path in folder.parent.iterdir()] == ["validation"]


def test_a_gap_between_chunks_is_found(tmp_path: Path) -> None:
    first, second, *_ = chunks()
    for wrong in ([second], [first, first]):
        with pytest.raises(DataFault, match=r"offset \d of a split came where \d was due"):
            Holdout.save(tmp_path / "x", SCHEMA, wrong, count=10, incarnation="x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["00-id.npy", "01-image.npy", "schema.json", "manifest.json"])
def test_a_flipped_bit_is_found_when_it_is_opened(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 4
    (folder / name).write_bytes(content)
    with pytest.raises(DataFault, match=rf"damaged \({name} .*\): remove the folder"):
        Holdout.open(folder)


def test_a_missing_column_is_found_when_it_is_opened(folder: Path) -> None:
    (folder / "01-image.npy").unlink()
    with pytest.raises(DataFault, match=r"01-image\.npy is missing"):
        Holdout.open(folder)


def test_a_folder_of_something_else_is_the_users_mistake(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match="holds no held-out records"):
            Holdout.open(path)
