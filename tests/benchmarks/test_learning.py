"""The table of what was learnt, and the picture of a live stream."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.learning import Learnt, main, markdown
from benchmarks.plots import draw_drift, draw_live
from protocol.change import Change
from protocol.errors import UsageError


def test_a_row_says_mean_range_and_whether_its_bar_is_met() -> None:
    learnt = {
        "demo": [Learnt(0.91, 40, 30), Learnt(0.88, 20, 20)],
        "tutorial-1": [Learnt(0.8416, 10, 9)],
        "regression": [Learnt(1.5, 1, 1)],
    }
    _, _, demo, tutorial, regression = markdown(learnt)
    assert demo == "| `demo.yaml` | 6 | accuracy | ≥ 0.9 | 0.895 | 0.880 to 0.910 | 2 | 30 | 25 | **not met** |"
    assert tutorial.endswith("| met |"), "to three decimals, as the bar is given"
    assert "≤ 1 |" in regression
    assert regression.endswith("| **not met** |")


def test_a_row_that_there_is_not_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="there is no row 'demos': give some of tutorial-1, "):
        main(["--only", "demos"])


def test_a_live_run_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="it draws")
    window = {"accuracy_window": 0.8}
    lines: list[dict[str, Any]] = [
        {"kind": "start"},
        {"kind": "report", "samples": 500, "prequential": window},
        {"kind": "validation", "samples": 500, "metrics": {"accuracy": 0.7}},
        {"kind": "report", "samples": 1000, "prequential": {}},
    ]
    draw_live(lines, tmp_path / "live.png")
    assert 1000 < (tmp_path / "live.png").stat().st_size < 80_000


def test_a_run_on_a_stream_that_drifts_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="it draws")
    changes = [Change(what="dusk", at=200, until=400, over=100).to_wire(), Change(what="rain", at=900).to_wire()]
    lines: list[dict[str, Any]] = [
        {"kind": "start", "info": {"changes": changes}},
        {"kind": "report", "samples": 500, "prequential": {"accuracy_window": 0.8}},
        {"kind": "report", "samples": 1000, "prequential": {"accuracy_window": 0.4}},
    ]
    draw_drift(lines, tmp_path / "drift.png")
    assert 1000 < (tmp_path / "drift.png").stat().st_size < 80_000
