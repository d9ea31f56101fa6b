"""`python -m benchmarks.learning`: how well the settings files of examples/ learn from a stream."""

import json
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from protocol.command_line import ArgumentParser, run
from protocol.errors import UsageError
from trainer.jsonl_sink import read_lines

DESCRIPTION = """How well the settings files of examples/ learn: a producer and a trainer for each seed, then `trainer
evaluate` on the test split. The seed is that of the first weights, of what the model draws, and of the stream's order.

Prints Markdown. What lies in --runs already is not trained again, so it may be stopped and go on. Needs FashionMNIST
(make data). Leave the machine alone meanwhile: seconds are measured, too.

  python -m benchmarks.learning --only tutorial-1,demo --seeds 1
  python -m benchmarks.learning --only '' --live docs/live.png --drift docs/drift.png"""
EXAMPLES: Final = Path(__file__).parents[1] / "examples"
STOP_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class Row:
    """Settings, the stream that they are for, and the figure of the test split: at least the bar, or at most."""

    settings: str
    passes: int
    bar: float
    figure: str = "accuracy"
    source: str = ""
    below: bool = False
    teacher: str = ""
    """The row whose run of the same seed is the teacher."""
    gpu: bool = False
    """Whether it would take days without one: `--only all` leaves it out where there is none."""

    def met(self, value: float) -> bool:
        """Whether a figure is as good as the bar, to three decimals, as the bar is given."""
        return round(value, 3) <= self.bar if self.below else round(value, 3) >= self.bar


ROWS: Final = {
    "tutorial-1": Row("tutorial.yaml", passes=1, bar=0.842),
    "tutorial-3": Row("tutorial.yaml", passes=3, bar=0.871),
    "demo": Row("demo.yaml", passes=6, bar=0.9),
    "two-convolutions": Row("two_convolutions.yaml", passes=12, bar=0.93),
    "resnet18": Row("resnet18.yaml", passes=30, bar=0.95, gpu=True),
    "regression": Row(
        "regression.yaml", 2, bar=1.0, figure="absolute_error", source="examples.garments.Shifted", below=True
    ),
    "several-labels": Row("several_labels.yaml", 3, bar=0.9, source="examples.garments.Pairs"),
    "distribution": Row("distribution.yaml", 3, bar=0.7, source="examples.garments.Mixed"),
    "distillation": Row("distillation.yaml", 3, bar=0.84, teacher="demo"),
    "own-task": Row("denoising.yaml", 2, bar=0.02, figure="loss", below=True),
}


@dataclass(frozen=True)
class Learnt:
    """What one run came to; its processor time is the trainer's alone, from its start to its end."""

    value: float
    seconds: float
    cpu_s: float


def learn(name: str, seed: int, runs: Path, data: str) -> Learnt:
    """Train and test, unless that was done before. Raises `UsageError` where a process fails."""
    row, run_dir = ROWS[name], folder(runs, name, seed)
    result = run_dir / "learnt.json"
    if result.exists():
        return Learnt(**json.loads(result.read_text()))
    teacher: list[str] = []
    if row.teacher:
        learn(row.teacher, seed, runs, data)
        teacher = ["--task.teacher", str(folder(runs, row.teacher, seed))]
    source = ["--source", row.source] if row.source else []
    run_dir.mkdir(parents=True, exist_ok=True)
    with streaming([*source, "--source.root", data, "--passes", str(row.passes)], seed, run_dir) as url:
        seconds, cpu_s = train(row.settings, url, seed, run_dir, *teacher)
    command = [sys.executable, "-m", "trainer", "evaluate", "--run_dir", str(run_dir), "--json"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    learnt = Learnt(json.loads(told)[row.figure], seconds, cpu_s)
    result.write_text(json.dumps(asdict(learnt)))
    return learnt


def folder(runs: Path, name: str, seed: int) -> Path:
    """The directory of a run."""
    return runs / f"{name}-{seed}"


@contextmanager
def streaming(arguments: Sequence[str], seed: int, run_dir: Path, rate: int = 0) -> Iterator[str]:
    """Where a producer serves until the context is left."""
    with tempfile.TemporaryDirectory(prefix="headrace-") as sockets, (run_dir / "producer.log").open("wb") as log:
        url = f"ipc://{sockets}/stream"
        fixed = ["--bind", url, "--rate", str(rate), "--seed", str(seed), "--until", "committed"]
        command = [sys.executable, "-m", "producer", *fixed, *arguments]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as producer:
            try:
                yield url
                producer.wait(STOP_TIMEOUT_S)
            finally:
                producer.terminate()


def train(settings: str, url: str, seed: int, run_dir: Path, *options: str) -> tuple[float, float]:
    """Seconds and processor seconds of a trainer from its start to its end."""
    fixed = ["--config", str(EXAMPLES / settings), "--stream", url, "--run_dir", str(run_dir), "--seed", str(seed)]
    fixed += ["--resume", "never", "--display", "plain", "--connect_timeout", "60"]
    before_s, begin_s = child_cpu_s(), time.monotonic()
    with (run_dir / "trainer.log").open("wb") as log:
        command = [sys.executable, "-m", "trainer", "train", *fixed, *options]
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode
    seconds, cpu_s = time.monotonic() - begin_s, child_cpu_s() - before_s
    if status != 0:
        raise UsageError(f"a trainer ended with status {status}: see {run_dir / 'trainer.log'}")
    if [line["stream"]["lag"] for line in read_lines(run_dir / "metrics.jsonl") if line["kind"] == "report"][-1] > 0:
        raise UsageError(f"a trainer was stopped before its stream had ended: see {run_dir / 'trainer.log'}")
    return seconds, cpu_s


def find_gpu() -> bool:
    """Whether the trainers find one."""
    import torch

    return torch.cuda.is_available()


def child_cpu_s() -> float:
    """Processor time of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def markdown(learnt: dict[str, list[Learnt]]) -> Iterator[str]:
    """The table, a line at a time."""
    yield "| settings | passes | figure | bar | mean | lowest and highest | seeds | seconds | processor s | |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, all_of in learnt.items():
        row, values = ROWS[name], [each.value for each in all_of]
        mean = statistics.mean(values)
        seconds, cpu_s = (statistics.mean(times) for times in zip(*((e.seconds, e.cpu_s) for e in all_of), strict=True))
        cells = (f"`{row.settings}`", row.passes, row.figure, f"{'≤' if row.below else '≥'} {row.bar:g}")
        figures = (f"{mean:.3f}", f"{min(values):.3f} to {max(values):.3f}", len(values))
        verdict = "met" if row.met(mean) else "**not met**"
        yield f"| {' | '.join(map(str, (*cells, *figures, f'{seconds:.0f}', f'{cpu_s:.0f}', verdict)))} |"


def learn_live(settings: str, runs: Path, data: str, *options: str) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` of a run on one pass at 2,000 records a second; `options` are the producer's."""
    run_dir = runs / Path(settings).stem
    run_dir.mkdir(parents=True, exist_ok=True)
    with streaming(["--source.root", data, "--passes", "1", *options], 0, run_dir, rate=2000) as url:
        train(settings, url, 0, run_dir)
    return list(read_lines(run_dir / "metrics.jsonl"))


def build_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        prog="python -m benchmarks.learning", usage="python -m benchmarks.learning [options]", description=DESCRIPTION
    )
    names = ", ".join(ROWS)
    parser.add_argument("--only", type=str, default="all", metavar="NAMES", help=f"rows: {names}")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each row")
    parser.add_argument("--live", type=str, default="", metavar="FILE", help="also train a live stream, into a PNG")
    parser.add_argument("--drift", type=str, default="", metavar="FILE", help="the same of a stream that drifts")
    parser.add_argument("--runs", type=str, default="runs/learning", metavar="DIR", help="folder of the runs")
    parser.add_argument("--data", type=str, default="data", help="folder of FashionMNIST")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Learn what is asked for, and print how well."""
    config = build_parser().parse_args(list(arguments))
    device = "cuda" if find_gpu() else "cpu"
    if config.only == "all":
        names = [name for name, row in ROWS.items() if device == "cuda" or not row.gpu]
    else:
        names = [each.strip() for each in config.only.split(",") if each]
    runs, learnt = Path(config.runs), dict[str, list[Learnt]]()
    for name in names:
        if name not in ROWS:
            raise UsageError(f"there is no row {name!r}: give some of {', '.join(ROWS)}")
        learnt[name] = []
        for seed in range(config.seeds):
            learnt[name].append(learn(name, seed, runs, config.data))
            print(f"{name}, seed {seed}: {learnt[name][-1]}", file=sys.stderr, flush=True)
    if config.live:
        from benchmarks.plots import draw_live

        draw_live(learn_live("live.yaml", runs, config.data), Path(config.live))
    if config.drift:
        from benchmarks.plots import draw_drift

        changes = str(EXAMPLES / "changes.yaml")
        draw_drift(learn_live("drift.yaml", runs, config.data, "--drift", changes), Path(config.drift))
    told = ", ".join(f"{name} {value}" for name, value in machine.describe(device).items())
    print(f"`{shlex.join(['python', '-m', 'benchmarks.learning', *arguments])}`: {told}.\n")
    print("\n".join(markdown(learnt)))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
