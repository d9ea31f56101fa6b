"""What others deliver, each as its own README says it is used (benchmarks/peers)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.cell import Cell, Outcome
from benchmarks.peers.registry import PEERS, PeerFailed, run_peer
from benchmarks.rows.group import DELIVERY, Column, Group
from benchmarks.settings import Settings

NAME: Final = "peers"
BATCH_SIZES: Final = (64, 256, 1024)
WORKERS: Final = 2
SECONDS: Final = 1.0
ROUNDS: Final = 2
TIMEOUT_S: Final = 180.0


def row(peer: str, batch_size: int) -> str:
    """The name of a row."""
    return f"{peer}, batch {batch_size}"


def cells(settings: Settings) -> Sequence[Cell]:
    """Those that are always measured; all with `--peers`."""
    return [
        Cell(
            group=NAME,
            name=row(peer.name, size),
            function=peer.name,
            arguments={"data": settings.data, "batch_size": size},
            rounds=ROUNDS,
        )
        for peer in PEERS
        if peer.always or settings.peers
        for size in (BATCH_SIZES[:1] if settings.quick else BATCH_SIZES)
    ]


def play(cell: Cell, say: Callable[[str], None]) -> Outcome:
    """Run a peer in its own environment; `say` hears of the making of that."""
    peer = next(each for each in PEERS if each.name == cell.function)
    try:
        result = run_peer(
            peer,
            data=Path(cell.arguments["data"]),
            batch_size=cell.arguments["batch_size"],
            workers=WORKERS,
            seconds=SECONDS,
            timeout_s=TIMEOUT_S,
            say=say,
        )
    except PeerFailed as failed:
        return Outcome(error=" ".join(str(failed).split()))
    numbers = {"rate": result.records_per_s, "cpu_s": result.cpu_s_per_million, "memory": result.peak_bytes}
    ages = {"age_p50_ms": result.age_p50_ms, "age_p99_ms": result.age_p99_ms}
    return Outcome(numbers=numbers | {name: age for name, age in ages.items() if age is not None})


GROUP: Final = Group(
    name=NAME,
    title="Peers",
    note=f"Each as its own README says, {WORKERS} workers; memory is the sum of its processes' peaks (RSS).",
    cells=cells,
    columns=(*DELIVERY, Column("age_p50_ms", "age p50 ms"), Column("age_p99_ms", "age p99 ms")),
    play=play,
)
