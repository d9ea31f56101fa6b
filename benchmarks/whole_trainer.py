"""`python -m trainer train` inside a cell, and what it wrote down about itself."""

import tempfile
from pathlib import Path
from typing import Final

from benchmarks.cell import Numbers
from benchmarks.measure import WrongRecords
from benchmarks.processes import memory_bytes
from trainer.commands import main
from trainer.jsonl_sink import read_lines

#: The first report is of a time in which everything is used for the first time, so there are several.
REPORTS: Final = 6


def train(url: str, samples: int, *options: object) -> Numbers:
    """Train on so many samples with these options; `rate` is that between the first report and the last.

    Raises `UsageError` where the trainer does not know an option, `WrongRecords` where its ledger does not say that
    all were trained.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        fixed = ("--stream", url, "--run_dir", folder, "--max_samples", samples, "--display", "none")
        every = ("--report_every", samples // REPORTS)
        threads = () if "--threads" in options else ("--threads", 1)
        status = main(["train", *map(str, (*fixed, *every, *threads, *options))])
        reports = [line for line in read_lines(Path(folder, "metrics.jsonl")) if line["kind"] == "report"]
    stream = reports[-1]["stream"]
    trained = stream["ledger"]["trained"]
    if status != 0 or not stream["balanced"] or not samples <= trained == reports[-1]["samples"]:
        raise WrongRecords(f"{trained} of {samples} samples were trained, status {status}")
    counted = reports[-1]["samples"] - reports[0]["samples"]
    return {"rate": counted / (reports[-1]["time"] - reports[0]["time"]), "memory": memory_bytes()}
