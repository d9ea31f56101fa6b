"""`python -m benchmarks`: measure, judge, and print what came of it as Markdown."""

import json
import shlex
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import groups, machine, report
from benchmarks.bars import judge
from benchmarks.cell import Cells
from benchmarks.results import Results
from benchmarks.session import measure_all
from benchmarks.settings import Settings
from producer.fashion_mnist_files import read_side
from protocol.command_line import ArgumentParser, run
from protocol.errors import UsageError

DESCRIPTION = """What streaming costs on this machine: the limits, what headrace delivers, training, latency, memory.

Every cell runs in a fresh process and checks what it received before it counts; the cells take turns over several
rounds. Prints Markdown: medians with the least and the most, then the bars and whether they are met. Needs FashionMNIST
(make data). Leave the machine alone meanwhile.

  python -m benchmarks --quick
  python -m benchmarks --only limits,delivered --rounds 5
  python -m benchmarks --peers --out results --json results/all.json"""


def build_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        prog="python -m benchmarks", usage="python -m benchmarks [options]", description=DESCRIPTION
    )
    parser.add_argument("--quick", action="store_true", help="under two minutes: fewer rows, one round")
    parser.add_argument(
        "--only", type=str, default="", metavar="NAMES", help=f"groups of rows: {', '.join(groups.NAMES)}"
    )
    parser.add_argument("--rounds", type=int, default=0, help="rounds over all cells; 0: as many as fit the run")
    parser.add_argument("--json", type=str, default="", metavar="FILE", help="every number of every round, into a file")
    parser.add_argument(
        "--out", type=str, default="", metavar="DIR", help="the Markdown and plots (PNG), into a folder"
    )
    parser.add_argument("--peers", action="store_true", help="all peers, each in an environment made on demand")
    parser.add_argument("--long", action="store_true", help="what takes minutes, too: memory after 100 million records")
    parser.add_argument("--device", type=str, default="cpu", help="where steps are computed: cpu, cuda or cuda:N")
    parser.add_argument("--data", type=str, default="data", help="folder of FashionMNIST")
    parser.add_argument("--seconds", type=float, default=0.0, help="measured time of one cell; 0: as fits the run")
    parser.add_argument("--warm_s", type=float, default=0.5, help="seconds before it, in which records are checked")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Measure what is asked for. What can be refused is refused before anything is measured."""
    begin_s = time.monotonic()
    config = build_parser().parse_args(list(arguments))
    settings = Settings(**{name: config[name] for name in Settings.__dataclass_fields__})
    names = groups.chosen(config.only)
    check(settings, config)
    with Cells() as cells:  # it imports torch while we do
        chosen = [groups.load(name) for name in names]
        with shown() as progress:
            task = progress.add_task("", total=None)

            def on_cell(done: int, due: int, text: str) -> None:
                progress.update(task, completed=done, total=due, description=text)

            results = measure_all(chosen, settings, cells.play, on_cell)
    from benchmarks.promises import bars  # the rows import torch

    verdicts = [judge(bar, results) for bar in bars(settings.device)]
    told = machine.describe(settings.device), shlex.join(["python", "-m", "benchmarks", *arguments])
    text = report.markdown(chosen, results, verdicts, *told)
    print(text)
    if config.json:
        write(Path(config.json), json.dumps(report.as_json(results, verdicts, *told), indent=1, ensure_ascii=False))
    if config.out:
        save(Path(config.out), text, results)
    print(f"took {time.monotonic() - begin_s:.0f} s", file=sys.stderr)
    return 0


def check(settings: Settings, config: Any) -> None:
    """Raise `UsageError` for what is not here: data, a device, the plots' library, a folder to write into."""
    try:
        read_side(Path(settings.data), "train")
    except UsageError as error:
        mend = "run `make data`, or name the folder that has it with --data"
        raise UsageError(f"no FashionMNIST can be read in {settings.data}: {mend}") from error
    if settings.device != "cpu":
        from trainer.device import DeviceSettings, open_device

        open_device(DeviceSettings(device=settings.device))
    if config.out and find_spec("matplotlib") is None:
        raise UsageError("--out draws with matplotlib, which is not installed: pip install '.[bench]'")
    for option, path in (("--json", config.json and Path(config.json).parent), ("--out", config.out)):
        try:
            if path:
                Path(path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{option} {path} cannot be made ({error.strerror}): give another") from error


def shown() -> Progress:
    """The progress bar; on the error output, since the report goes to the other."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def save(folder: Path, text: str, results: Results) -> None:
    """The Markdown, with the plots at its end."""
    from benchmarks.plots import draw

    pictures = [f"![{path.stem}]({path.name})" for path in draw(results, folder)]
    write(folder / "benchmarks.md", "\n\n".join([text, *pictures]))


def write(path: Path, text: str) -> None:
    """A text file. Raises `UsageError` where it cannot be written."""
    try:
        path.write_text(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror})") from error


if __name__ == "__main__":
    raise SystemExit(run(main))
