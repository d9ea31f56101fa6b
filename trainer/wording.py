"""How facts are said to people, the same wherever they read them."""

import math
from collections.abc import Mapping

from protocol.stream import StreamInfo

BLOCKS = "▁▂▃▄▅▆▇█"
TEXT_LIMIT = 500

#: What the training thread does in each stage (trainer/stages.py).
DOING = {
    "source": "waiting for the stream",
    "wire": "waiting for the wire",
    "reader": "waiting for the readers",
    "loader": "putting batches together",
    "copy": "copying to the device",
    "augment": "augmenting",
    "step": "training",
    "checkpoint": "saving",
    "validation": "validating",
    "other": "reporting",
}


def describe(info: StreamInfo) -> str:
    """What a stream is: `FashionMNIST, 10 classes, 55,000 a pass, validation 5,000, test 10,000`."""
    parts = [info.source] if info.source else []
    if info.schema.class_names:
        parts.append(f"{len(info.schema.class_names)} classes")
    if info.records_per_pass is not None:
        parts.append(f"{info.records_per_pass:,} a pass")
    parts += [f"{name} {size:,}" for name, size in info.splits.items()]
    if info.changes:
        parts.append(f"{len(info.changes)} changes" if len(info.changes) > 1 else "1 change")
    return one_line(", ".join(parts) or "a stream")


def one_line(text: str) -> str:
    """Text from anywhere, fit for a terminal: one line of bounded length without control characters."""
    plain = "".join(character if character.isprintable() else " " for character in text[: TEXT_LIMIT + 1]).strip()
    return plain if len(plain) <= TEXT_LIMIT else plain[: TEXT_LIMIT - 1] + "…"


def age(milliseconds: float) -> str:
    """A span in the unit that suits it: `1.2 ms`, `340 ms`, `12 s`, `5 min`, `3.1 h`, `12 d`."""
    if abs(milliseconds) < 10:
        return f"{milliseconds:.1f} ms"
    if abs(milliseconds) < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    for unit, size, limit in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if abs(seconds) < limit:
            value = seconds / size
            return f"{value:.1f} {unit}" if abs(value) < 10 else f"{value:.0f} {unit}"
    return f"{seconds / 86_400:.1f} d" if abs(seconds) < 864_000 else f"{seconds / 86_400:,.0f} d"


def ledger_terms(ledger: Mapping[str, int]) -> list[tuple[str, int]]:
    """The terms worth a place on a line: what is usually 0 only where it is not."""
    usually_zero = ("held_out", "thinned", "skipped", "rejected", "lost", "absent")
    return [(name.replace("_", " "), count) for name, count in ledger.items() if count or name not in usually_zero]


def busiest(stages: Mapping[str, float]) -> str:
    """What took most of the time: `waiting for the stream 62 %`."""
    stage = max(stages, key=stages.__getitem__)
    return f"{DOING.get(stage, stage)} {100 * stages[stage]:.0f} %"


def time_went(stages: Mapping[str, float]) -> str:
    """All that took a hundredth or more, the largest first: `time went to: step 71 %, source 20 %, loader 9 %`."""
    by_share = sorted(stages.items(), key=lambda each: each[1], reverse=True)
    return "time went to: " + ", ".join(f"{stage} {100 * share:.0f} %" for stage, share in by_share if share >= 0.01)


def metric_names(*metrics: Mapping[str, float]) -> list[str]:
    """All names but `count`, loss and accuracy first."""
    names = dict.fromkeys(name for each in metrics for name in each if name != "count")
    return sorted(names, key=lambda name: ("loss", "accuracy").index(name) if name in ("loss", "accuracy") else 2)


def sparkline(points: list[tuple[int, float]], width: int, span: tuple[int, int], values: tuple[float, float]) -> str:
    """The points as `width` blocks over `span` samples, heights from the lowest to the highest of `values`.

    A block without a point repeats the one before it. Heights are logarithmic where all values are above 0: a loss
    falls by factors.
    """
    low, high = values
    scale = math.log if low > 0 else float
    bottom, height = scale(low), scale(high) - scale(low)
    bins: list[list[float]] = [[] for _ in range(width)]
    for samples, value in points:
        place = (samples - span[0]) * width // max(1, span[1] - span[0])
        bins[min(width - 1, max(0, place))].append(value)
    drawn, block = [], " "
    for bin_values in bins:
        if bin_values:
            mean = scale(min(high, max(low, sum(bin_values) / len(bin_values))))
            block = BLOCKS[round((mean - bottom) / height * (len(BLOCKS) - 1)) if height else 0]
        drawn.append(block)
    return "".join(drawn)
