"""Which groups of rows there are, and which of them a run measures."""

import importlib
from collections.abc import Sequence
from typing import Final

from benchmarks.rows.group import Group
from protocol.errors import UsageError

#: Their modules in `benchmarks/rows`, in the order of the report.
NAMES: Final = (
    *("limits", "delivered", "peers", "prepared", "training", "records", "age", "overhead", "memory", "growth"),
    *("startup", "options", "disk", "keys", "beside", "kafka"),
)


def chosen(only: str) -> Sequence[str]:
    """The names in `--only`, comma separated; all where it is empty. Raises `UsageError` for one that is not there."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise UsageError(f"--only {', '.join(unknown)}: there is no such group of rows, only {', '.join(NAMES)}")
    return [name for name in NAMES if not names or name in names]


def load(name: str) -> Group:
    """A group by its name."""
    group: Group = importlib.import_module(f"benchmarks.rows.{name}").GROUP
    return group
