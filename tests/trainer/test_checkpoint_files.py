import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from protocol.errors import CheckpointDamaged, UsageError
from trainer.checkpoint_files import (
    KIND,
    State,
    clear_leftovers,
    listed,
    load,
    load_best,
    load_newest,
    set_aside,
    supersede,
    verify,
    write,
)
from trainer.sealed import Kind, SealedFolder


def state(samples: int) -> State:
    return {"version": 1, "samples": samples, "weights": torch.full((100,), float(samples)), "stream": {0: samples}}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    for samples in (100, 200, 300):
        write(tmp_path / "checkpoints", samples, state(samples))
    return tmp_path


def nobody(line: str) -> None:
    raise AssertionError(line)


def test_a_checkpoint_is_a_folder_named_by_its_samples(run_dir: Path) -> None:
    path = run_dir / "checkpoints" / "step-000000000200"
    assert {file.name for file in path.iterdir()} == {"state.pt", "manifest.json"}
    loaded = load(path)
    assert loaded["samples"] == 200
    assert torch.equal(loaded["weights"], state(200)["weights"])
    assert verify(path) == 200


def test_a_checkpoint_that_was_moved_or_renamed_loads_as_well(run_dir: Path) -> None:
    moved = (run_dir / "checkpoints" / "step-000000000200").rename(run_dir / "kept")
    assert load(moved)["samples"] == 200


def test_they_are_listed_by_number_not_by_text(tmp_path: Path) -> None:
    numbers = [5, 10**12 + 1, 999, 10**13]
    for samples in numbers:
        write(tmp_path, samples, state(samples))
    for stray in ("step-1", "step-000000000001.tmp", "step-000000000001.superseded", "other"):
        (tmp_path / stray).mkdir()
    assert [load(path)["samples"] for path in listed(tmp_path)] == sorted(numbers)
    assert listed(tmp_path / "missing") == []


def test_the_newest_is_loaded_and_none_where_there_never_was_one(run_dir: Path) -> None:
    found = load_newest(run_dir, nobody)
    assert found is not None
    assert found[0].name == "step-000000000300"
    assert found[1]["samples"] == 300
    assert load_best(run_dir, nobody) is None
    assert load_newest(run_dir / "nowhere", nobody) is None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", ["state.pt", "manifest.json"])
@pytest.mark.parametrize("damage", [cut, flip, empty, Path.unlink])
def test_a_damaged_newest_one_falls_back_to_the_one_before_and_is_named(
    run_dir: Path, name: str, damage: Callable[[Path], None]
) -> None:
    newest = run_dir / "checkpoints" / "step-000000000300"
    damage(newest / name)
    said: list[str] = []
    found = load_newest(run_dir, said.append)
    assert found is not None
    assert found[1]["samples"] == 200
    assert len(said) == 1
    assert f"checkpoint {newest} is damaged: " in said[0]
    assert name in said[0]
    with pytest.raises(CheckpointDamaged, match=name):
        verify(newest)


def test_an_empty_folder_and_a_file_of_the_name_fall_back_too(run_dir: Path) -> None:
    (run_dir / "checkpoints" / "step-000000000400").mkdir()
    (run_dir / "checkpoints" / "step-000000000500").write_bytes(b"")
    said: list[str] = []
    found = load_newest(run_dir, said.append)
    assert found is not None
    assert found[1]["samples"] == 300
    assert len(said) == 2


def test_a_file_that_cannot_be_read_as_one_falls_back_too(run_dir: Path) -> None:
    newest = run_dir / "checkpoints" / "step-000000000300"
    (newest / "state.pt").unlink()
    (newest / "state.pt").mkdir()
    with pytest.raises(CheckpointDamaged, match="Is a directory"):
        load(newest)
    found = load_newest(run_dir, lambda line: None)
    assert found is not None
    assert found[1]["samples"] == 200


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_checkpoint_without_the_right_to_read_it_is_the_users_mistake(run_dir: Path) -> None:
    newest = run_dir / "checkpoints" / "step-000000000300"
    (newest / "state.pt").chmod(0)
    with pytest.raises(UsageError, match=r"state\.pt cannot be read: give yourself the right to"):
        load_newest(run_dir, nobody)


def test_where_all_are_damaged_nothing_starts_anew_by_itself(run_dir: Path) -> None:
    for path in listed(run_dir / "checkpoints"):
        flip(path / "state.pt")
    said: list[str] = []
    with pytest.raises(CheckpointDamaged, match=r"none of the 3 checkpoints in .* can be read: start anew"):
        load_newest(run_dir, said.append)
    assert len(said) == 3


def test_the_one_that_was_being_replaced_is_found_after_a_kill_in_between(run_dir: Path) -> None:
    newest = run_dir / "checkpoints" / "step-000000000300"
    newest.rename(newest.with_name(newest.name + ".old"))
    found = load_newest(run_dir, nobody)
    assert found is not None
    assert found[1]["samples"] == 300
    write(newest.parent, 300, state(300))
    assert [path.name for path in listed(newest.parent)][-2:] == ["step-000000000200", "step-000000000300"]


@pytest.mark.parametrize("name", ["missing", "step-000000000900", "checkpoints", "file"])
def test_a_path_that_is_no_checkpoint_is_the_users_mistake(run_dir: Path, name: str) -> None:
    (run_dir / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=r"name a folder such as RUN_DIR/checkpoints/step-000000010000"):
        load(run_dir / name)


def test_a_checkpoint_of_another_version_says_so(tmp_path: Path) -> None:
    with SealedFolder(tmp_path / "step-000000000001", Kind(KIND.name, 2)) as folder:
        folder.seal({"samples": 1})
    with pytest.raises(UsageError, match="its form is version 2; this headrace reads version 1"):
        load(tmp_path / "step-000000000001")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1/0",)


@pytest.mark.parametrize("content", [{"stream": Evil()}, [1, 2]], ids=["code", "no state"])
def test_a_checkpoint_from_a_stranger_runs_no_code_whatever_its_manifest_says(tmp_path: Path, content: object) -> None:
    path = tmp_path / "step-000000000001"
    with SealedFolder(path, KIND) as folder:
        torch.save(content, folder.create("state.pt"))  # type: ignore[arg-type]
        folder.seal({"samples": 1})
    verify(path)
    with pytest.raises(CheckpointDamaged, match="cannot be loaded") as raised:
        load(path)
    assert "\n" not in str(raised.value)
    assert not isinstance(raised.value.__cause__, ZeroDivisionError)


def test_leftovers_of_a_killed_life_are_removed_and_nothing_else(run_dir: Path) -> None:
    folder = run_dir / "checkpoints"
    supersede(folder, 200)
    (folder / "step-000000000400.tmp").mkdir()
    (folder / "step-000000000400.tmp" / "state.pt").write_bytes(b"half")
    clear_leftovers(folder)
    assert {path.name for path in folder.iterdir()} == {
        *("step-000000000100", "step-000000000200", "step-000000000300.superseded"),
    }


def test_checkpoints_that_a_run_went_back_behind_are_set_aside(run_dir: Path) -> None:
    aside = supersede(run_dir / "checkpoints", 100)
    assert {path.name for path in aside} == {"step-000000000200.superseded", "step-000000000300.superseded"}
    assert all(path.is_dir() for path in aside)
    found = load_newest(run_dir, nobody)
    assert found is not None
    assert found[1]["samples"] == 100
    assert set_aside(run_dir / "checkpoints") == aside
    assert [load(path)["samples"] for path in aside] == [200, 300], "on purpose they can still be resumed"
    write(run_dir / "checkpoints", 200, state(200))
    assert len(supersede(run_dir / "checkpoints", 100)) == 1
    assert len(set_aside(run_dir / "checkpoints")) == 2
