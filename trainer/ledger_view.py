"""`python -m trainer ledger`: the account of a run, for people and for programs."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from protocol.errors import AccessDenied, LedgerUnbalanced, StreamTimeout, UsageError
from protocol.messages import Description
from protocol.open_reader import open_reader, silent_mend
from protocol.show import columns
from trainer.audit import Account, Served, rows
from trainer.checkpoint_files import State, load_newest
from trainer.ledger import ClosedLedger
from trainer.mix import urls_in


def show_ledger(config: Any) -> int:
    """Print and check; `config` has run_dir, stream, keys, timeout and json. Raises `LedgerUnbalanced` at the end."""
    run_dir = Path(config.run_dir).expanduser()
    if len(urls_in(config.stream)) > 1:
        raise UsageError("ledger holds a run against one stream at a time: give --stream the URL of one")
    before = _described(config) if config.stream else None
    path, state = _newest(run_dir)
    account = Account(state)
    served = None if before is None else Served.of(before, _described(config), account.group)
    fault = _fault(account, served)
    if config.json:
        print(json.dumps(_as_json(path, account, served, fault)))
    else:
        _print(path, account, served)
    if fault is not None:
        raise fault
    if not config.json:
        print("the ledger is balanced")
    return 0


def _newest(run_dir: Path) -> tuple[Path, State]:
    found = load_newest(run_dir, lambda line: print(f"trainer: {line}", file=sys.stderr, flush=True))
    if found is None:
        raise UsageError(f"{run_dir} holds no checkpoint: train first, or give another --run_dir")
    return found


def _described(config: Any) -> Description:
    try:
        with open_reader(config.stream, keys=config["keys"]) as reader:
            return reader.describe(timeout_s=config.timeout)
    except AccessDenied as error:
        raise UsageError(str(error)) from error
    except StreamTimeout as error:
        raise UsageError(f"{error}: {silent_mend(config.stream)}, or leave --stream out") from error


def _fault(account: Account, served: Served | None) -> LedgerUnbalanced | None:
    try:
        account.check(served)
    except LedgerUnbalanced as fault:
        return fault
    return None


def _by_stream(account: Account, served: Served | None) -> list[tuple[ClosedLedger, list[dict[str, int]]]]:
    """The streams and their rows; only one that is read may be served now."""
    found = []
    for each in account.streams:
        same = served is not None and each.incarnation in account.read and each.incarnation == served.incarnation
        found.append((each, list(rows(each, served if same else None))))
    return found


def _stands(stream: ClosedLedger, account: Account) -> str:
    if stream.ended:
        return "trained to its end"
    return "being trained" if stream.incarnation in account.read else "gone, so it lost at least what is said here"


def _as_json(path: Path, account: Account, served: Served | None, fault: LedgerUnbalanced | None) -> dict[str, Any]:
    streams = [
        {"incarnation": each.incarnation, "url": account.read.get(each.incarnation) or None, "ended": each.ended}
        | {"partitions": table, "totals": _sums(table)}
        for each, table in _by_stream(account, served)
    ]
    holds = {"holds": fault is None, "fault": None if fault is None else str(fault)}
    run = {"checkpoint": str(path), "samples": account.samples, "group": account.group}
    return {**run, **holds, "totals": account.totals, "streams": streams}


def _print(path: Path, account: Account, served: Served | None) -> None:
    console = Console(width=None if sys.stdout.isatty() else 1000, markup=False, emoji=False, highlight=False)
    console.print(f"{path} ({account.samples:,} samples trained)")
    for stream, table in _by_stream(account, served):
        url = account.read.get(stream.incarnation)
        at = f" at {url}" if url else ""
        console.print(f"\nstream {stream.incarnation}{at}, {_stands(stream, account)}")
        console.print(_table(table))
        if forgotten := _sums(table).get("forgotten"):
            console.print(
                f"{forgotten:,} records that were not trained are no longer in the log: "
                "the next life stops there, or counts them as lost (--on_loss continue)"
            )
    if len(account.streams) > 1:
        console.print(
            f"\nover all streams: {', '.join(f'{_worded(name)} {n:,}' for name, n in account.totals.items())}"
        )


def _table(table: list[dict[str, int]]) -> Table:
    shown = columns(numbers=[_worded(name) for name in table[0]])
    for row in table:
        shown.add_row(*(f"{number:,}" for number in row.values()))
    shown.add_section()
    shown.add_row("all", *(f"{number:,}" for number in _sums(table).values()))
    return shown


def _sums(table: list[dict[str, int]]) -> Mapping[str, int]:
    return {name: sum(row[name] for row in table) for name in table[0] if name != "partition"}


def _worded(name: str) -> str:
    return name.replace("_", " ")
