"""The report's figures as pictures. The only module that needs matplotlib."""

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.report import number
from benchmarks.results import Figure, Results
from benchmarks.rows import age, delivered, training
from protocol.change import Change

SIZE: Final = (7.2, 4.4)
DPI: Final = 160
#: Told apart without colours too, by their markers.
OURS: Final = ("#0072b2", "#009e73", "#56b4e9")
LIMITS: Final = ("#555555", "#999999", "#bbbbbb")
THEIRS: Final = ("#d55e00", "#e69f00", "#cc79a7", "#8c564b", "#b8860b", "#a0522d", "#800080")
STYLE: Final[dict[Any, Any]] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def draw(results: Results, folder: Path) -> list[Path]:
    """A PNG for each picture whose rows were measured."""
    pictures: Sequence[tuple[str, Callable[[Any, Results], bool]]] = (
        ("delivered", draw_delivered),
        ("training", draw_training),
        ("age", draw_age),
    )
    written = []
    with mpl.rc_context(STYLE):
        for name, picture in pictures:
            figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
            if picture(axes, results):
                written.append(folder / f"{name}.png")
                figure.savefig(written[-1], dpi=DPI)
            plt.close(figure)
    return written


def draw_delivered(axes: Any, results: Results) -> bool:
    """Records a second over the batch size: ours, the limits, peers."""
    lines: list[tuple[str, str, str, Sequence[tuple[int, Figure]]]] = []
    for workers, colour in zip(delivered.WORKERS, OURS, strict=True):
        rows = [(size, (delivered.NAME, delivered.row(workers, size), "rate")) for size in delivered.BATCH_SIZES]
        lines.append((f"headrace, workers {workers}", colour, "o-", rows))
    for kind, colour in (("empty loop, slices", LIMITS[1]), ("in memory, shuffled", LIMITS[0])):
        rows = [(size, ("limits", f"{kind}, batch {size}", "rate")) for size in delivered.BATCH_SIZES]
        lines.append((kind, colour, "s--", rows))
    names = dict.fromkeys(row.rpartition(", batch ")[0] for row in results.rows("peers"))
    for name, colour in zip(names, THEIRS, strict=False):
        rows = [(size, ("peers", f"{name}, batch {size}", "rate")) for size in delivered.BATCH_SIZES]
        lines.append((name, colour, "^-", rows))
    drawn = [_line(axes, results, *line) for line in lines]
    if not any(drawn[: len(delivered.WORKERS)]):
        return False
    wire = results.summary("limits", "raw wire, 1024 a message")
    if wire is not None:
        axes.axhline(wire.median, color=LIMITS[0], linestyle=":", label="raw wire, 1024 a message")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(delivered.BATCH_SIZES, [str(size) for size in delivered.BATCH_SIZES])
    _count_axis(axes.yaxis)
    axes.set(xlabel="batch size", ylabel="records/s", title="Delivered batches of FashionMNIST")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return True


def draw_training(axes: Any, results: Results) -> bool:
    """Streamed training by training from memory, for each batch size."""
    sizes = sorted({*training.BATCH_SIZES, *training.GPU_BATCH_SIZES})
    bars: list[tuple[str, int, float]] = []
    for model in training.MODELS:
        for size in sizes:
            under = [(training.NAME, training.row(model, "in memory", size), "rate")]
            for place, workers in enumerate(training.WORKERS):
                over = (training.NAME, training.row(model, f"workers {workers}", size), "rate")
                if ratios := results.ratios(over, under):
                    bars.append((f"{model}\nbatch {size}", place, statistics.median(ratios)))
    labels = list(dict.fromkeys(label for label, _, _ in bars))
    if not labels:
        return False
    width = 0.36
    for place, workers in enumerate(training.WORKERS):
        at = [labels.index(label) + (place - 0.5) * width for label, of, _ in bars if of == place]
        heights = [share for _, of, share in bars if of == place]
        drawn = axes.bar(at, heights, width * 0.94, color=OURS[place], label=f"workers {workers}")
        axes.bar_label(drawn, fmt="%.2f", padding=2, fontsize=9)
    axes.axhline(1.0, color=LIMITS[0], linestyle=":", label="in memory")
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.7, len(labels) - 0.3)
    axes.set_ylim(0, max(1.1, *(share for _, _, share in bars)) * 1.08)
    axes.grid(visible=False, axis="x")
    axes.set(ylabel="share of training from memory", title="Training from a stream")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return True


def draw_age(axes: Any, results: Results) -> bool:
    """Sample age over the stream's rate: the median and what 99 of 100 stay under."""
    drawn = []
    for workers, colour in zip(age.WORKERS, OURS, strict=False):
        for key, style, said in (("age_p50_ms", "o-", "p50"), ("age_p99_ms", "o--", "p99")):
            rows = [(rate, (age.NAME, age.row(rate, workers), key)) for rate in age.RATES]
            drawn.append(_line(axes, results, f"workers {workers}, {said}", colour, style, rows))
    if not any(drawn):
        return False
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(age.RATES, [f"{rate // 1000} k" for rate in age.RATES])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axhline(10, color=LIMITS[0], linestyle=":", label="bar for p99")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    _count_axis(axes.yaxis)
    axes.set(xlabel="records/s of the stream", ylabel="milliseconds", title="Age of the newest sample in a batch of 64")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return True


def draw_live(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A run's `metrics.jsonl` as accuracy over samples: on the newest records before a step, and held out."""
    tested = [(line["samples"], line["prequential"]["accuracy_window"]) for line in lines if line.get("prequential")]
    held_out = [(line["samples"], line["metrics"]["accuracy"]) for line in lines if line["kind"] == "validation"]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
        axes.plot(*zip(*tested, strict=True), color=OURS[2], label="newest 1,000 records, before they were trained")
        axes.plot(*zip(*held_out, strict=True), "o-", color=OURS[0], label="5,000 held-out records")
        axes.set_xlim(left=0)
        axes.set_ylim(0.5, 0.95)
        _count_axis(axes.xaxis)
        axes.set(xlabel="samples seen, at 2,000 a second", ylabel="accuracy", title="A network on a live stream")
        axes.legend(loc="lower right")
        figure.savefig(path, dpi=DPI * 0.7)
        plt.close(figure)


def draw_drift(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A run's `metrics.jsonl` as accuracy over samples, and behind it what share of the records each change is on."""
    start = next(line for line in lines if line["kind"] == "start")
    tested = [(line["samples"], line["prequential"]["accuracy_window"]) for line in lines if line.get("prequential")]
    records = np.arange(max(samples for samples, _ in tested))
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
        for change, colour in zip(map(Change.from_wire, start["info"]["changes"]), itertools.cycle(THEIRS)):
            height = axes.get_xaxis_transform()
            share = change.share(records)
            axes.fill_between(records, share, transform=height, color=colour, alpha=0.2, lw=0, label=change.what)
        axes.plot(*zip(*tested, strict=True), color=OURS[0], label="newest 500 records, before they were trained")
        axes.set_xlim(left=0)
        axes.set_ylim(0.1, 0.95)
        _count_axis(axes.xaxis)
        axes.set(xlabel="samples seen, at 2,000 a second", ylabel="accuracy", title="A network on a stream that drifts")
        axes.legend(loc="lower right", frameon=True)
        figure.savefig(path, dpi=DPI * 0.7)
        plt.close(figure)


def _line(axes: Any, results: Results, label: str, colour: str, style: str, rows: Sequence[tuple[int, Figure]]) -> bool:
    """Medians, with the least and the most as whiskers; whether there was anything to draw."""
    found = [(x, summary) for x, figure in rows if (summary := results.summary(*figure)) is not None]
    if not found:
        return False
    middle = [summary.median for _, summary in found]
    whiskers = [[s.median - s.least for _, s in found], [s.most - s.median for _, s in found]]
    axes.errorbar(
        [x for x, _ in found],
        middle,
        yerr=whiskers,
        fmt=style,
        color=colour,
        label=label,
        markersize=5,
        capsize=2,
        elinewidth=0.8,
    )
    return True


def _count_axis(axis: Any) -> None:
    """Counts as people write them: 20 k, 3 M."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_formatter(NullFormatter())


def short(value: float) -> str:
    """A number for an axis."""
    for bound, unit in ((1e6, " M"), (1e3, " k")):
        if value >= bound:
            return f"{number(value / bound)}{unit}"
    return number(value)
