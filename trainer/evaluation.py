"""`python -m trainer evaluate`: what a run's best checkpoint makes of the test records, without a stream."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocol.errors import UsageError
from trainer.device import DeviceSettings, open_device
from trainer.holdout import Holdout
from trainer.splits import SPLITS, TEST, batches_of
from trainer.trained import best_checkpoint, open_trained
from trainer.validation import evaluate
from trainer.validation_metrics import ValidationMetrics


def evaluate_run(config: Any, make: Callable[[Any], Any]) -> int:
    """Evaluate and print; `config` has run_dir, batch_size, device, metrics and json. `make` makes the metrics."""
    if config.batch_size < 1:
        raise UsageError("--batch_size is at least 1")
    run_dir = Path(config.run_dir).expanduser()
    device = open_device(DeviceSettings(device=config.device))
    best = best_checkpoint(run_dir)
    folder = _test_folder(run_dir)
    trained = open_trained(*best)
    test = Holdout.open(folder, trained.collate)
    for remark in trained.remarks:
        print(f"trainer: {remark}", file=sys.stderr, flush=True)
    names = test.schema.class_names
    metrics = ValidationMetrics(make(config).metrics, device)
    batches = batches_of(test, config.batch_size)
    found = evaluate(trained.model.to(device), trained.task, batches, device, names, metrics)
    if config.json:
        origin = {"checkpoint": str(trained.path), "samples": trained.state["samples"]}
        print(json.dumps({**found.figures, "per_class": found.per_class, **origin}))
        return 0
    print(f"{trained.path} ({trained.state['samples']:,} samples trained) on {len(test):,} test records")
    for name, value in found.figures.items():
        print(f"  {name:<12} {value:.4f}" if name != "count" else f"  {name:<12} {value:.0f}")
    for name, value in found.per_class.items():
        print(f"    {name:<14} {value:.3f}")
    return 0


def _test_folder(run_dir: Path) -> Path:
    folder = run_dir / SPLITS / TEST
    if not folder.exists():
        raise UsageError(f"{run_dir} holds no test records: its stream has no split {TEST!r}, give another --run_dir")
    return folder
