"""The bars themselves: what streaming may cost, row by row of the tables."""

from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.bars import Bar, Part
from benchmarks.results import Figure
from benchmarks.rows import age, beside, delivered, disk, growth, kafka, memory, peers, prepared, records, training

WIRE: Final[Figure] = ("limits", "raw wire, 1024 a message", "rate")
#: Peers and how many times their rate we deliver.
TIMES: Final = (("naive", 25.0), ("torchvision", 60.0), ("tensorcom", 1.0))


def bars(device: str) -> list[Bar]:
    """All of them, in the order of the report. Those of rows that are not measured are passed over there."""
    return [
        *_delivered(),
        *_steps(device),
        *_records(),
        *_latency(),
        *_overhead(),
        *_memory(),
        *_growth(),
        *_start(),
        *_disk(),
        *_beside(),
        *_kafka(),
    ]


def _workers(counts: Sequence[int], group: str, suffix: str, under: Sequence[Figure]) -> list[Part]:
    """A part for each number of workers, of rows called `N workers<suffix>`."""
    return [Part(label=f"workers {n}", over=(group, f"workers {n}{suffix}", "rate"), under=under) for n in counts]


def _delivered() -> Iterator[Bar]:
    slices: Figure = ("limits", "empty loop, slices, batch 4", "rate")
    parts = _workers(delivered.WORKERS, delivered.NAME, ", batch 4", [slices])
    yield Bar(measure="delivered at batch 4, of an empty loop that slices", side="≥", bound=0.8, parts=parts)
    for size in delivered.BATCH_SIZES[1:]:
        parts = _workers(delivered.WORKERS, delivered.NAME, f", batch {size}", [WIRE])
        yield Bar(measure=f"delivered at batch {size}, of the raw wire", side="≥", bound=0.5, parts=parts)
    for peer, times in TIMES:
        for size in peers.BATCH_SIZES:
            theirs: Figure = (peers.NAME, peers.row(peer, size), "rate")
            parts = _workers(delivered.WORKERS, delivered.NAME, f", batch {size}", [theirs])
            measure = f"delivered at batch {size}, times {peer}"
            yield Bar(measure=measure, side="≥", bound=times, parts=parts, unit=" ×")


def _steps(device: str) -> Iterator[Bar]:
    for size in prepared.BATCH_SIZES:
        parts = _workers(prepared.WORKERS, prepared.NAME, f", batch {size}", [_in_memory(prepared.NAME, size)])
        yield Bar(measure=f"prepared float32 at batch {size}, of in memory", side="≥", bound=0.9, parts=parts)
    on_cpu = device == "cpu"
    for model in training.MODELS[:1] if on_cpu else training.MODELS:
        for size in training.BATCH_SIZES if on_cpu else training.GPU_BATCH_SIZES:
            memory, *streamed = [
                (training.NAME, training.row(model, fed, size), "rate")
                for fed in ("in memory", *(f"workers {n}" for n in training.WORKERS))
            ]
            parts = [
                Part(label=f"workers {n}", over=over, under=[memory])
                for n, over in zip(training.WORKERS, streamed, strict=True)
            ]
            measure = f"{model} training at batch {size}, of in memory"
            yield Bar(measure=measure, side="≥", bound=0.97 if on_cpu else 0.95, parts=parts)
    size = training.WHOLE_BATCH if on_cpu else training.GPU_WHOLE_BATCH
    whole = (training.NAME, training.row("python -m trainer", "workers 0", size), "rate")
    plain = (training.NAME, training.row("LeNet", "in memory", size), "rate")
    parts = [Part(label="workers 0", over=whole, under=[plain])]
    yield Bar(
        measure=f"the whole trainer at batch {size}, of the plain loop in memory", side="≥", bound=None, parts=parts
    )


def _in_memory(group: str, size: int) -> Figure:
    return group, f"in memory, batch {size}", "rate"


def _records() -> Iterator[Bar]:
    parts = [
        Part(
            label=f"workers {n}",
            over=(records.NAME, f"large: workers {n}", "bytes_per_s"),
            under=[(records.NAME, "large: raw wire", "bytes_per_s")],
        )
        for n in records.WORKERS
    ]
    yield Bar(measure="large records, bytes/s of the raw wire", side="≥", bound=0.7, parts=parts)
    parts = [Part(label=f"workers {n}", over=(records.NAME, f"small: workers {n}", "rate")) for n in records.WORKERS]
    yield Bar(measure="small records at batch 1024", side="≥", bound=3.0, parts=parts, unit=" M/s", scale=1e-6)


def _latency() -> Iterator[Bar]:
    for number, name, bound in (("age_p50_ms", "p50", 5.0), ("age_p99_ms", "p99", 10.0)):
        parts = [
            Part(label=f"{rate // 1000} k, workers {n}", over=(age.NAME, age.row(rate, n), number))
            for rate in age.RATES
            for n in age.WORKERS
        ]
        yield Bar(measure=f"sample age, {name}", side="≤", bound=bound, parts=parts, unit=" ms")


def _overhead() -> Iterator[Bar]:
    for measure, number, bound, unit, scale in (
        ("main thread inside checkpoint calls", "checkpoint_share", 2.0, " %", 100.0),
        ("longest wait for a save, beyond its copy", "beyond_copy_ms", 1.0, " ms", 1.0),
        ("main thread inside positions, ledger, telemetry", "bookkeeping_share", 2.0, " %", 100.0),
    ):
        parts = [Part(label="batch 64", over=("overhead", "batch 64", number))]
        yield Bar(measure=measure, side="≤", bound=bound, parts=parts, unit=unit, scale=scale)


def _memory() -> Iterator[Bar]:
    for last in (memory.QUICK_MARKS[1], memory.MARKS[1], memory.LONG_MARK):
        parts = [
            Part(label=f"{side}, workers {n}", over=(memory.NAME, memory.row(n, last), f"{side}_growth"))
            for n in memory.WORKERS
            for side in ("trainer", "producer")
        ]
        yield Bar(measure=f"memory after {last:,} records, by early", side="≤", bound=1.05, parts=parts)


def _growth() -> Iterator[Bar]:
    for label, values in (
        ("partitions", growth.PARTITION_COUNTS),
        ("readers", growth.READERS),
        ("groups", growth.GROUPS),
    ):
        every = [(growth.NAME, growth.row(label, value), "rate") for value in values]
        parts = [Part(label=str(value), over=over, under=every) for value, over in zip(values, every, strict=True)]
        yield Bar(measure=f"throughput by {label}, of the best", side="≥", bound=0.8, parts=parts)
    early, late = ((growth.NAME, growth.row("records before", value), "producer_cpu_s") for value in growth.STARTS)
    parts = [Part(label="late", over=late, under=[early])]
    yield Bar(measure="producer's CPU time for a record, by that at the beginning", side="≤", bound=1.1, parts=parts)


def _start() -> Iterator[Bar]:
    rows = ("workers 0", "workers 2, forkserver has imported")
    parts = [Part(label=row, over=("startup", row, "first_step_s")) for row in rows]
    yield Bar(measure="start to first step, after torch is imported", side="≤", bound=1.0, parts=parts, unit=" s")


def _disk() -> Iterator[Bar]:
    ours: Figure = (disk.NAME, disk.STRIPES, "rate")
    parts = [Part(label="a stripe at a time", over=ours, under=[(disk.NAME, disk.LMDB, "rate")])]
    yield Bar(measure="a log on disk, of LMDB's own batched appends", side="≥", bound=0.5, parts=parts)
    parts = [Part(label="a stripe at a time", over=ours)]
    yield Bar(measure="a log on disk", side="≥", bound=0.2, parts=parts, unit=" M/s", scale=1e-6)


def _beside() -> Iterator[Bar]:
    parts = [Part(label=row, over=(beside.NAME, row, "kept")) for row in (beside.STOPPED, beside.SLOW)]
    yield Bar(measure="beside another trainer, of what it gets alone", side="≥", bound=0.95, parts=parts)


def _kafka() -> Iterator[Bar]:
    parts = [Part(label=topic, over=(kafka.NAME, topic, "ratio")) for topic in kafka.TOPICS]
    yield Bar(measure="a topic's records, of confluent-kafka alone", side="≥", bound=0.9, parts=parts)
