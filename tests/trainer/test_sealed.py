import errno
import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.sealed import (
    MANIFEST,
    Damaged,
    Foreign,
    Kind,
    NoManifest,
    SealedFolder,
    _encode,
    check_folder,
    make_folder,
    remove_folder,
)

KIND = Kind("test folder", 1)


def sealed(target: Path, content: bytes = b"content", kind: Kind = KIND) -> Path:
    with SealedFolder(target, kind) as folder:
        folder.create("a").write(content)
        folder.create("empty")
        folder.seal({"number": 3})
    return target


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_was_sealed_checks_and_gives_its_facts(tmp_path: Path) -> None:
    folder = sealed(tmp_path / "deep" / "down" / "x")
    assert check_folder(folder, KIND) == {"number": 3}
    assert names(folder) == {"a", "empty", "manifest.json"}
    assert names(folder.parent) == {"x"}


def test_the_manifest_says_sizes_and_digests_for_people(tmp_path: Path) -> None:
    manifest = json.loads((sealed(tmp_path / "x") / "manifest.json").read_text())
    assert manifest["files"]["a"] == {
        "bytes": 7,
        "sha256": "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73",
    }
    assert manifest["kind"] == "test folder"
    assert manifest["version"] == 1


def test_until_it_is_sealed_the_target_is_not_there(tmp_path: Path) -> None:
    with SealedFolder(tmp_path / "x", KIND) as folder:
        folder.create("a").write(b"content")
        assert names(tmp_path) == {"x.tmp"}
    assert names(tmp_path) == set(), "left without seal(), nothing stays"


def test_an_error_on_the_way_leaves_what_was_there_before(tmp_path: Path) -> None:
    sealed(tmp_path / "x", b"first")
    with pytest.raises(ZeroDivisionError), SealedFolder(tmp_path / "x", KIND) as folder:  # noqa: PT012
        folder.create("a").write(b"second")
        raise ZeroDivisionError
    assert names(tmp_path) == {"x"}
    assert (tmp_path / "x" / "a").read_bytes() == b"first"


def test_sealing_again_replaces_the_whole_folder(tmp_path: Path) -> None:
    (sealed(tmp_path / "x", b"first") / "stray").write_bytes(b"")
    sealed(tmp_path / "x", b"second")
    assert names(tmp_path) == {"x"}
    assert names(tmp_path / "x") == {"a", "empty", "manifest.json"}
    assert (tmp_path / "x" / "a").read_bytes() == b"second"
    check_folder(tmp_path / "x", KIND)


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    for left in ("x.tmp", "x.old", "x.old.tmp"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "a").write_bytes(b"half")
    sealed(tmp_path / "x")
    sealed(tmp_path / "x")
    assert names(tmp_path) == {"x"}
    check_folder(tmp_path / "x", KIND)


def test_a_folder_that_is_half_removed_no_longer_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(folder: Path) -> None:
        (folder / "a").unlink()
        raise KeyboardInterrupt

    sealed(tmp_path / "x")
    with monkeypatch.context() as patched:
        patched.setattr("trainer.sealed.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_folder(tmp_path / "x")
    assert names(tmp_path) == {"x.tmp"}
    sealed(tmp_path / "x")
    remove_folder(tmp_path / "x")
    assert names(tmp_path) == set()


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed(tmp_path_factory.mktemp("sealed") / "x", bytes(range(40)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=300)
@given(data=st.data(), name=st.sampled_from(["a", "manifest.json"]))
def test_any_flipped_bit_in_any_file_is_found(untouched: Path, data: st.DataObject, name: str) -> None:
    content = (untouched / name).read_bytes()
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    try:
        (untouched / name).write_bytes(changed)
        with pytest.raises(Damaged, match=name):
            check_folder(untouched, KIND)
    finally:
        (untouched / name).write_bytes(content)
    check_folder(untouched, KIND)


@pytest.mark.parametrize("name", ["a", "manifest.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"cont", b"content and more"])
def test_a_file_that_is_cut_empty_or_another_is_found(tmp_path: Path, name: str, content: bytes) -> None:
    (sealed(tmp_path / "x") / name).write_bytes(content)
    with pytest.raises(Damaged, match=name):
        check_folder(tmp_path / "x", KIND)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "..", "deep/../../outside", ""])
def test_a_manifest_that_names_a_file_elsewhere_is_refused_and_nothing_is_opened(tmp_path: Path, name: str) -> None:
    folder = sealed(tmp_path / "x")
    (tmp_path / "outside").write_bytes(b"content")
    manifest = json.loads((folder / MANIFEST).read_bytes())
    entries = manifest["files"] | {name: manifest["files"]["a"]}
    content = {part: manifest[part] for part in ("kind", "version", "facts")}
    (folder / MANIFEST).write_bytes(_encode(content, entries))
    with pytest.raises(Damaged, match="which is no file of this folder"):
        check_folder(folder, KIND)


@pytest.mark.parametrize("name", ["a", "manifest.json", "another"])
@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/dev/zero"), os.mkfifo])
def test_a_link_or_a_pipe_in_the_place_of_a_file_is_refused_before_it_is_opened(
    tmp_path: Path, name: str, make: Callable[[Path], object]
) -> None:
    folder = sealed(tmp_path / "x")
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    with pytest.raises(Damaged, match=f"{name} is no regular file"):
        check_folder(folder, KIND)


def test_a_missing_file_is_damage_and_a_missing_manifest_is_told_apart(tmp_path: Path) -> None:
    (sealed(tmp_path / "x") / "empty").unlink()
    with pytest.raises(Damaged, match="empty is missing"):
        check_folder(tmp_path / "x", KIND)
    (tmp_path / "x" / "manifest.json").unlink()
    with pytest.raises(NoManifest):
        check_folder(tmp_path / "x", KIND)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NoManifest):
        check_folder(tmp_path / "file", KIND)


def test_another_kind_and_another_version_are_foreign_not_damaged(tmp_path: Path) -> None:
    folder = sealed(tmp_path / "x", kind=Kind("test folder", 2))
    with pytest.raises(Foreign, match="its form is version 2; this headrace reads version 1"):
        check_folder(folder, KIND)
    with pytest.raises(Foreign, match="it is a test folder"):
        check_folder(folder, Kind("another", 2))


@pytest.fixture
def files_of_4_mib_at_most() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("files_of_4_mib_at_most")
def test_a_write_that_fails_is_told_at_the_end_and_only_there(tmp_path: Path) -> None:
    with (  # noqa: PT012
        pytest.raises(OSError, match="File too large") as raised,
        SealedFolder(tmp_path / "x", KIND) as folder,
    ):
        file = folder.create("a")
        assert file.write(b"x" * (5 << 20)) == 5 << 20
        assert file.write(b"more") == 4
        file.flush()
        folder.seal({})
    assert raised.value.errno == errno.EFBIG
    assert names(tmp_path) == set()


@pytest.mark.usefixtures("files_of_4_mib_at_most")
def test_torchs_own_error_never_hides_that_the_disk_was_full(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File too large"), SealedFolder(tmp_path / "x", KIND) as folder:  # noqa: PT012
        torch.save({"weights": torch.zeros(2 << 20)}, folder.create("a"))  # type: ignore[arg-type]
        folder.seal({})


def test_a_folder_that_cannot_be_one_raises_what_the_file_system_says(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for impossible in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError):
            make_folder(impossible)
    make_folder(tmp_path)
