"""FashionMNIST: reading what is there, saying what is wrong with it, and getting it."""

import gzip
import os
import struct
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.fashion_mnist import SCHEMA, FashionMNIST
from producer.fashion_mnist_files import FILES, FilesMissing, fetch
from producer.idx import IdxError, read_idx
from protocol.errors import UsageError
from tests.programs import Programs

Array = npt.NDArray[np.uint8]
REPOSITORY = Path(__file__).parents[2]
#: A proxy that refuses.
NOWHERE = "http://127.0.0.1:9"
TRAIN, TEST = 40, 12
HELD_WITH_SEED_0 = [0, 2, 14, 17, 21, 22, 23, 31, 37, 38]


def idx(values: Array) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def pictures(count: int, seed: int) -> tuple[Array, Array]:
    random = np.random.RandomState(seed)
    shape = (count, 28, 28)
    return random.randint(0, 256, shape).astype(np.uint8), random.randint(0, 10, count).astype(np.uint8)


def fill(folder: Path, seed: int = 1, *, zipped: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for (side, names), count in zip(FILES.items(), (TRAIN, TEST), strict=True):
        for name, values in zip(names, pictures(count, seed + len(side)), strict=True):
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(values)))
            else:
                (folder / name).write_bytes(idx(values))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path / "FashionMNIST" / "raw")
    return tmp_path


def raw(root: Path, name: str = "train-images-idx3-ubyte") -> Path:
    return root / "FashionMNIST" / "raw" / name


def everything(source: FashionMNIST) -> dict[str, npt.NDArray[np.generic]]:
    columns = source.take(np.arange(len(source)))
    return {name: np.asarray(column) for name, column in columns.items()}


def test_records_are_the_files_own(root: Path) -> None:
    images, labels = pictures(TRAIN, 1 + len("train"))
    columns = everything(FashionMNIST(str(root), validation=10))
    ids = columns["id"].astype(int)
    assert np.array_equal(columns["image"], images[ids][:, None])
    assert np.array_equal(columns["label"], labels[ids])
    for field in SCHEMA.fields:
        assert columns[field.name].dtype == field.numpy_dtype
        assert columns[field.name].shape[1:] == field.shape


def test_stream_and_validation_divide_the_training_pictures(root: Path) -> None:
    source = FashionMNIST(str(root), validation=10)
    validation = source.splits()["validation"]
    held = np.asarray(validation.take(np.arange(len(validation)))["id"])
    assert (len(source), len(held)) == (TRAIN - 10, 10)
    assert sorted([*everything(source)["id"], *held]) == list(range(TRAIN))


def test_the_seed_alone_picks_the_validation_pictures(root: Path, tmp_path: Path) -> None:
    def held(seed: int) -> list[int]:
        split = FashionMNIST(str(root), validation=10, seed=seed).splits()["validation"]
        return [int(value) for value in np.asarray(split.take(np.arange(10))["id"])]

    assert held(0) == held(0) != held(1)
    assert held(0) == HELD_WITH_SEED_0, "a division that changes would mix validation pictures into resumed runs"


def test_the_test_split_is_the_test_files(root: Path) -> None:
    images, labels = pictures(TEST, 1 + len("test"))
    columns = FashionMNIST(str(root), validation=10).splits()["test"].take(np.arange(TEST))
    assert np.array_equal(np.asarray(columns["image"])[:, 0], images)
    assert np.array_equal(np.asarray(columns["label"]), labels)
    assert np.array_equal(np.asarray(columns["id"]), np.arange(TEST))


def test_without_held_out_pictures_there_is_no_validation_split(root: Path) -> None:
    source = FashionMNIST(str(root), validation=0)
    assert len(source) == TRAIN
    assert list(source.splits()) == ["test"]


def test_a_share_of_the_training_pictures_is_held_out_as_their_number_would_be(root: Path) -> None:
    share, number = FashionMNIST(str(root), validation=0.25), FashionMNIST(str(root), validation=10)
    assert share.fingerprint() == number.fingerprint()
    assert share.splits()["validation"].fingerprint() == number.splits()["validation"].fingerprint()


@pytest.mark.parametrize("validation", [-1, TRAIN, TRAIN + 1])
def test_an_impossible_validation_size_is_the_users_mistake(root: Path, validation: int) -> None:
    with pytest.raises(UsageError, match="cannot hold out"):
        FashionMNIST(str(root), validation=validation)


def test_the_fingerprint_follows_content_and_division_but_not_the_place(root: Path, tmp_path: Path) -> None:
    moved, changed = tmp_path / "moved", tmp_path / "changed"
    fill(moved, zipped=True)
    fill(changed)
    content = bytearray((changed / "train-images-idx3-ubyte").read_bytes())
    content[-1] ^= 1
    (changed / "train-images-idx3-ubyte").write_bytes(content)
    own = FashionMNIST(str(root), validation=10).fingerprint()
    assert FashionMNIST(str(moved), validation=10).fingerprint() == own
    assert FashionMNIST(str(changed), validation=10).fingerprint() != own
    assert FashionMNIST(str(root), validation=11).fingerprint() != own
    assert FashionMNIST(str(root), validation=10, seed=1).fingerprint() != own


def test_missing_files_are_said_with_the_ways_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(FilesMissing) as caught:
        FashionMNIST(str(tmp_path))
    text = str(caught.value)
    assert "\n" not in text
    for way in ("make demo", f"python -m producer.fashion_mnist {tmp_path}", "--source.root"):
        assert way in text


Damage = Callable[[bytes], bytes]

DAMAGES: dict[str, tuple[Damage, str]] = {
    "a byte short": (lambda content: content[:-1], "where its header says"),
    "a byte long": (lambda content: content + b"\0", "where its header says"),
    "half a header": (lambda content: content[:10], "cut short"),
    "empty": (lambda content: b"", "cut short"),
    "a web page": (lambda content: b"<html>" + content[6:], "is no IDX file"),
    "a gigantic size": (lambda content: content[:4] + b"\xff" * 12 + content[16:], "where its header says"),
    "other pictures": (lambda content: idx(np.zeros((TRAIN, 32, 32), np.uint8)), "(28, 28) are due"),
    "one picture short": (lambda content: idx(np.zeros((TRAIN - 1, 28, 28), np.uint8)), f"{TRAIN} labels"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_file_is_said_in_one_line_with_the_mend(root: Path, what: str) -> None:
    damage, said = DAMAGES[what]
    raw(root).write_bytes(damage(raw(root).read_bytes()))
    with pytest.raises(UsageError) as caught:
        FashionMNIST(str(root), validation=10)
    text = str(caught.value)
    assert said in text
    assert str(raw(root)) in text
    assert f"python -m producer.fashion_mnist {root}" in text
    assert "\n" not in text


def test_a_label_out_of_range_is_damage(root: Path) -> None:
    labels = raw(root, "t10k-labels-idx1-ubyte")
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x0a")
    with pytest.raises(UsageError, match="a label 10 where 0 to 9 are known"):
        FashionMNIST(str(root), validation=10)


def test_a_damaged_zip_is_damage(tmp_path: Path) -> None:
    fill(tmp_path, zipped=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UsageError, match="cannot be read"):
        FashionMNIST(str(tmp_path), validation=10)


@given(content=st.binary(max_size=64), dimensions=st.integers(1, 3))
def test_no_bytes_make_reading_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, dimensions: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-idx"
    path.write_bytes(content)
    try:
        values = read_idx(path, dimensions)
    except IdxError:
        return
    assert idx(values) == content


@given(content=st.binary(min_size=1, max_size=40), cut=st.integers(0, 60))
def test_no_zip_makes_reading_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-idx.gz"
    path.write_bytes(gzip.compress(idx(np.frombuffer(content, np.uint8)))[:cut])
    try:
        values = read_idx(path, 1)
    except IdxError:
        return
    assert values.tobytes() == content


def test_what_is_there_is_not_fetched_again(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in raw(root).parent.iterdir()}
    lines: list[str] = []
    fetch(root, lines.append)
    assert lines == [f"FashionMNIST is in {root}: nothing to fetch"]
    assert {path: path.stat().st_mtime_ns for path in raw(root).parent.iterdir()} == before


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that refuses stands for a network that is not there."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, NOWHERE)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose programs go before those of the system; `dpkg-deb` unpacks four small files."""
    folder = tmp_path / "programs"
    folder.mkdir()
    fill(tmp_path / "debian", seed=7, zipped=True)
    program(folder / "dpkg-deb", f'mkdir -p "$3/usr/share" && cp {tmp_path}/debian/*.gz "$3/usr/share"')
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\nset -e\n{script}\n")
    path.chmod(0o755)


def test_where_no_way_leads_to_the_files_both_are_named_and_nothing_is_left(tmp_path: Path, started: Programs) -> None:
    neither = {"PATH": str(tmp_path), "http_proxy": NOWHERE, "https_proxy": NOWHERE, "no_proxy": ""}  # nor apt-get
    complaint = started.start("producer.fashion_mnist", str(tmp_path / "data"), cwd=REPOSITORY, **neither).complaint()
    for word in ("torchvision", "dataset-fashion-mnist", "--source.root", "connect to the internet"):
        assert word in complaint
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.usefixtures("no_network")
def test_debians_package_replaces_a_damaged_file(root: Path, programs: Path) -> None:
    raw(root).write_bytes(b"damaged")
    program(programs / "apt-get", 'case "$*" in *download*) : >dataset-fashion-mnist_1_all.deb ;; esac')
    fetch(root, print)
    assert {path.name for path in raw(root).parent.iterdir()} == {name for names in FILES.values() for name in names}
    assert np.array_equal(read_idx(raw(root), 3), pictures(TRAIN, 7 + len("train"))[0])
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []


@pytest.mark.usefixtures("no_network")
def test_a_system_without_package_lists_fetches_them_into_a_folder_of_its_own(tmp_path: Path, programs: Path) -> None:
    log = tmp_path / "log"
    program(
        programs / "apt-get",
        f'echo "$*" >>{log}\n'
        'case "$*" in\n'
        "*State::lists=*update*) : >updated ;;\n"
        "*State::lists=*download*) [ -e updated ] && : >a.deb ;;\n"
        "*) echo 'E: Unable to locate package' >&2; exit 100 ;;\n"
        "esac",
    )
    fetch(tmp_path / "data", print)
    verbs = [line.split()[-1] for line in log.read_text().splitlines()]
    assert verbs == ["dataset-fashion-mnist", "update", "dataset-fashion-mnist"]
    assert len(FashionMNIST(str(tmp_path / "data"), validation=10)) == TRAIN - 10


@pytest.mark.usefixtures("no_network")
def test_a_package_that_is_damaged_leaves_what_was_there_untouched(root: Path, tmp_path: Path, programs: Path) -> None:
    raw(root).write_bytes(b"damaged")
    program(programs / "apt-get", ": >a.deb")
    (tmp_path / "debian" / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"not pictures"))
    before = {path: path.read_bytes() for path in raw(root).parent.iterdir()}
    with pytest.raises(UsageError, match="could not be fetched"):
        fetch(root, print)
    assert {path: path.read_bytes() for path in raw(root).parent.iterdir()} == before


def test_a_folder_that_cannot_be_written_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="name another folder"):
        fetch(tmp_path / "file" / "data", lambda line: None)


def test_the_real_pictures_are_read(fashion_mnist_root: str) -> None:
    source = FashionMNIST(fashion_mnist_root)
    sizes = {name: len(split) for name, split in source.splits().items()}
    assert (len(source), sizes) == (55_000, {"validation": 5_000, "test": 10_000})
    test = source.splits()["test"].take(np.arange(10_000))
    assert np.bincount(np.asarray(test["label"])).tolist() == [1_000] * 10


@pytest.fixture
def fashion_mnist_root() -> str:
    root = os.environ.get("HEADRACE_DATA", "data")
    if not (REPOSITORY / root / "FashionMNIST").is_dir():
        pytest.skip(f"no FashionMNIST in {root}: `make data` fetches it")
    return str(REPOSITORY / root)
