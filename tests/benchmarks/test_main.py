"""`python -m benchmarks`: what it refuses, and one small run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.report import number
from protocol.errors import UsageError

ROOT = Path(__file__).parents[2]
DATA = os.environ.get("HEADRACE_DATA", "data")


@pytest.fixture
def data() -> str:
    if not (Path(DATA) / "FashionMNIST" / "raw").is_dir():
        pytest.skip("FashionMNIST is neither in $HEADRACE_DATA nor in ./data")
    return str(Path(DATA).resolve())


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=110)


def test_an_unknown_group_is_one_line_that_names_those_that_exist() -> None:
    done = program("--only", "limits,speed")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("benchmarks: --only speed: there is no such group of rows, only limits, delivered, ")


def test_a_device_that_is_not_here_is_refused(data: str) -> None:
    with pytest.raises(UsageError, match="the device 'cuda:99' is not here"):
        main(["--only", "limits", "--device", "cuda:99", "--data", data])


def test_missing_data_names_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="make data"):
        main(["--only", "limits", "--data", str(tmp_path)])


def test_plots_without_their_library_name_the_extra(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[bench\]'"):
        main(["--only", "limits", "--data", data, "--out", str(tmp_path)])


def test_a_folder_that_cannot_be_made_is_refused(data: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="drawn with the extra `bench`")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--out .* cannot be made"):
        main(["--only", "limits", "--data", data, "--out", str(tmp_path / "file" / "folder")])


@pytest.mark.long
def test_a_run_prints_the_figures_that_it_writes_as_json(data: str, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    short = ("--quick", "--seconds", "0.03", "--warm_s", "0.1")
    done = program("--only", "limits,delivered", *short, "--data", data, "--json", str(file))
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    assert {row["group"] for row in written["rows"]} == {"limits", "delivered"}
    lines = {line.split("|")[1].strip(): line for line in done.stdout.splitlines() if line.startswith("|")}
    for row in written["rows"]:
        assert not row["error"]
        assert [each["rate"] for each in row["rounds"]] == [row["medians"]["rate"]]
        figures = lines[row["row"]].split("|")
        assert figures[2].split("(")[0].strip() == number(row["medians"]["rate"])
        assert figures[3].split("(")[0].strip() == number(row["medians"]["cpu_s"])
    for bar in written["bars"]:
        assert (bar["measure"] in lines) is (bar["met"] is not None)
        if bar["met"] is not None:
            assert ("**not met**" in lines[bar["measure"]]) is not bar["met"]
            for value in bar["measured"].values():
                assert value is None or number(value) in lines[bar["measure"]]
    assert sum(bar["met"] is not None for bar in written["bars"]) > 0
    assert written["machine"]["cores"] in lines["cores"]
    assert "took" in done.stderr
