"""A sweep on several streams: each trial mixes them, sees each record once, and lets go of all of them."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="searched with the extra `sweep`")

import yaml

from tests.programs import Programs
from tests.trainer.streams import groups
from tests.trainer.test_sweep import PARTS, RECORDS, SWEEP, counts, results

SPACE = {"weights": {"choice": ["3,1", "1,1"]}}


def produce(started: Programs, folder: Path, name: str, records: int, first: int) -> str:
    """Numbered records, without an end, so that a trial that is over must let go of them; their URL."""
    url = f"ipc://{folder}/{name}"
    source = ["--source", "tests.trainer.numbered.NumberedRecords", "--source.records", str(records)]
    source += ["--source.size", "64", "--source.first", str(first), "--rate", "0"]
    started.start("producer", "--bind", url, *source, cwd=folder)
    return url


@pytest.mark.long
def test_trials_mix_the_streams_as_their_weights_say_and_let_go_of_each(started: Programs, tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "go").touch()
    settings: dict[str, Any] = {**SWEEP, "pruner": "none", "space": SPACE}
    settings["train"] = {**settings["train"], "model": "parts.Quick", "max_samples": 500}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(settings))
    urls = [produce(started, tmp_path, "one", 600, 0), produce(started, tmp_path, "other", RECORDS - 600, 600)]
    stream = f"--train.stream={','.join(urls)}"
    sweep = started.start("trainer", "sweep", "--config", "sweep.yaml", stream, cwd=tmp_path)
    assert sweep.status() == 0, f"{sweep.out}\n{sweep.err}"
    assert [each["state"] for each in results(tmp_path)] == ["complete"] * 2
    of_one = {
        each["weights"]: sum(counts(tmp_path / f"runs/sweep/trial-{int(each['trial']):04d}")[:600])
        for each in results(tmp_path)
    }
    assert of_one == {"3,1": 380, "1,1": 250}  # of ten batches of 50: 38 each, or 25
    assert [groups(url) for url in urls] == [(), ()]
