"""`python -m trainer evaluate`: what a run's best checkpoint makes of the test records, without a stream."""

import json
import sys
from pathlib import Path
from typing import Any

from protocol.class_path import class_paths, say_imports
from protocol.command_line import ArgumentParser
from protocol.errors import UsageError
from trainer.checkpoint_files import State, load_best, load_newest
from trainer.device import DeviceSettings, open_device
from trainer.holdout import Holdout
from trainer.parts import add_model, fitting
from trainer.splits import SPLITS, TEST, batches_of
from trainer.validation import evaluate


def evaluate_run(config: Any) -> int:
    """Evaluate and print; `config` has run_dir, batch_size, device and json."""
    if config.batch_size < 1:
        raise UsageError("--batch_size is at least 1")
    run_dir = Path(config.run_dir).expanduser()
    device = open_device(DeviceSettings(device=config.device))
    path, state, remarks = _best(run_dir)
    test = _test_records(run_dir)
    parser = ArgumentParser()
    add_model(parser)
    meaning = {name: state["meaning"][name] for name in ("model", "task")}
    say_imports(path, class_paths(meaning))
    made = parser.make(parser.parse_object(meaning))
    with fitting(path):
        made.model.load_state_dict(state["model"])
    for remark in remarks:
        print(f"trainer: {remark}", file=sys.stderr, flush=True)
    names = test.schema.class_names
    found = evaluate(made.model.to(device), made.task, batches_of(test, config.batch_size), device, names)
    if config.json:
        figures = {**found.figures, "per_class": found.per_class, "checkpoint": str(path), "samples": state["samples"]}
        print(json.dumps(figures))
        return 0
    print(f"{path} ({state['samples']:,} samples trained) on {len(test):,} test records")
    for name, value in found.figures.items():
        print(f"  {name:<12} {value:.4f}" if name != "count" else f"  {name:<12} {value:.0f}")
    for name, value in found.per_class.items():
        print(f"    {name:<14} {value:.3f}")
    return 0


def _best(run_dir: Path) -> tuple[Path, State, list[str]]:
    """The checkpoint, what is in it, and what is to be said of it."""
    remarks: list[str] = []
    found = load_best(run_dir, remarks.append)
    if found is None and (found := load_newest(run_dir, remarks.append)) is not None:
        remarks.append("the run was never validated, so its newest checkpoint stands in for the best")
    if found is None:
        raise UsageError(f"{run_dir} holds no checkpoint: train first, or give another --run_dir")
    return *found, remarks


def _test_records(run_dir: Path) -> Holdout:
    folder = run_dir / SPLITS / TEST
    if not folder.exists():
        raise UsageError(f"{run_dir} holds no test records: its stream has no split {TEST!r}, give another --run_dir")
    return Holdout.open(folder)
