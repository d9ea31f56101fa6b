"""`--profile N` with the real trainer: what is saved, and where it is said to lie."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from protocol.errors import UsageError
from tests.trainer.numbered import NumberedPictures
from tests.trainer.streams import computed, serving
from trainer.commands import main
from trainer.trace import ENDING, FOLDER, SKIPPED_STEPS, WARM_UP_STEPS, TraceSettings, open_trace

pytestmark = pytest.mark.usefixtures("signals_as_they_were")


def train(folder: Path, *options: str) -> None:
    """Steps of 10 records; the stream has 20 of them."""
    with serving(computed(NumberedPictures(200, padding=1, validation=0))) as url:
        arguments = ["--stream", url, "--run_dir", str(folder), "--display", "plain", "--tensorboard", "false"]
        arguments += ["--batch_size", "10", "--model", "tests.trainer.counting.DroppingClassifier"]
        assert main(["train", *arguments, "--device", "cpu", *options]) == 0


def events(folder: Path) -> list[dict[str, Any]]:
    """What the one trace says."""
    (path,) = (folder / FOLDER).glob(f"*{ENDING}")
    with gzip.open(path) as file:
        found: list[dict[str, Any]] = json.load(file)["traceEvents"]
    return found


def steps(folder: Path) -> list[str]:
    return sorted({name for each in events(folder) if (name := each.get("name", "")).startswith("ProfilerStep#")})


def test_a_profile_holds_so_many_steps_and_what_the_model_did_in_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, "--profile", "4")
    first = SKIPPED_STEPS + WARM_UP_STEPS
    assert steps(tmp_path) == [f"ProfilerStep#{step}" for step in range(first, first + 4)]
    names = [each.get("name") for each in events(tmp_path)]
    assert names.count("aten::linear") == 4 * 2
    assert "aten::dropout" in names
    assert any(str(name).startswith("Optimizer.step") for name in names)
    said = capsys.readouterr().out
    saved = re.search(r"saved as (\S+): open it at https://ui.perfetto.dev", said)
    assert saved is not None
    assert Path(saved[1]).exists()


def test_a_run_that_ends_before_saves_what_it_has(tmp_path: Path) -> None:
    train(tmp_path, "--profile", "100", "--max_samples", "80")
    assert len(steps(tmp_path)) == 8 - SKIPPED_STEPS - WARM_UP_STEPS


def test_a_run_that_ends_before_the_first_recorded_step_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, "--profile", "4", "--max_samples", "20")
    assert not (tmp_path / FOLDER).exists()
    assert "no profile was saved: the run ended before its step 6" in capsys.readouterr().out


def test_a_profile_that_cannot_be_saved_is_said_and_training_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    train(tmp_path, "--profile", "4")
    said = capsys.readouterr().out
    assert "the profile could not be saved" in said
    assert "all of it was trained, 200 samples" in said


def test_without_it_there_is_none(tmp_path: Path) -> None:
    assert open_trace(TraceSettings(), tmp_path, torch.device("cpu"), pytest.fail) is None


def test_less_than_no_step_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give the number of steps, 0 for none"):
        main(["train", "--run_dir", str(tmp_path), "--profile", "-1"])
