"""Cells: fresh processes that give numbers, or are rows that say why not."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cell import Cell, Cells, ForkerDied, Outcome
from tests.programs import wait_until


@pytest.fixture(scope="module")
def cells() -> Iterator[Cells]:
    with Cells() as cells:
        yield cells


def cell(function: str, *, timeout_s: float = 60.0, **arguments: Any) -> Cell:
    path = f"tests.benchmarks.cells:{function}"
    return Cell(group="tests", name=function, function=path, arguments=arguments, timeout_s=timeout_s)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_cell_gives_its_numbers(cells: Cells) -> None:
    assert cells.play(cell("adds", first=1, second=2.5)) == Outcome(numbers={"sum": 3.5})


def test_a_cell_that_raises_says_what_in_one_line(cells: Cells) -> None:
    assert cells.play(cell("fails")) == Outcome(error="ValueError: as it was made to")


def test_a_cell_that_is_not_there_says_so(cells: Cells) -> None:
    assert "no attribute 'nowhere'" in cells.play(cell("nowhere")).error


def test_a_cell_that_is_killed_says_so_with_its_last_words(cells: Cells) -> None:
    assert cells.play(cell("dies")).error == "died with status -9: the last words"


@pytest.mark.long
def test_a_cell_that_hangs_says_so_and_its_processes_are_gone(cells: Cells, tmp_path: Path) -> None:
    outcome = cells.play(cell("hangs", pids=str(tmp_path / "pids"), timeout_s=3))
    assert outcome == Outcome(error="no result in 3 s")
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert not any(map(alive, pids))


def test_what_a_cell_leaves_behind_is_ended(cells: Cells, tmp_path: Path) -> None:
    assert not cells.play(cell("leaves_behind", pids=str(tmp_path / "pids"))).error
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert not any(map(alive, pids))


def test_each_cell_is_a_process_of_its_own(cells: Cells, tmp_path: Path) -> None:
    pids = set()
    for number in range(2):
        cells.play(cell("leaves_behind", pids=str(tmp_path / str(number))))
        pids.add(int((tmp_path / str(number)).read_text().split()[0]))
    assert len(pids) == 2
    assert os.getpid() not in pids


@pytest.mark.parametrize("served", ["as it should be", "wrong content", "twice"])
def test_a_stream_counts_only_where_each_record_is_what_is_due(cells: Cells, served: str) -> None:
    outcome = cells.play(cell("reads", served=served))
    if served == "as it should be":
        assert not outcome.error
        assert outcome.numbers["records"] > 0
    else:
        assert outcome.error.startswith("WrongRecords: column")
        assert not outcome.numbers


@pytest.mark.parametrize("lost", [False, True])
def test_a_batch_that_is_lost_while_nobody_looks_fails_the_cell(cells: Cells, *, lost: bool) -> None:
    outcome = cells.play(cell("loses", lost=lost))
    assert outcome.error.startswith("WrongRecords: column") is lost
    assert bool(outcome.numbers) is not lost


@pytest.mark.long
def test_a_cell_ends_with_whoever_asked_for_it(tmp_path: Path) -> None:
    pids, said = tmp_path / "pids", list[str]()

    def play(cells: Cells) -> None:
        with pytest.raises(ForkerDied) as died:
            cells.play(cell("hangs", pids=str(pids)))
        said.append(str(died.value))

    with Cells() as cells:
        thread = threading.Thread(target=play, args=(cells,))
        thread.start()
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, "the cell's processes")
    thread.join()
    assert len(said) == 1
    assert not any(alive(int(pid)) for pid in pids.read_text().split())
