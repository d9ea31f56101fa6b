"""The results as Markdown and as JSON: the same figures."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.bars import Bar, Verdict
from benchmarks.results import Results, Summary, summary
from benchmarks.rows.group import Column, Group

READING: Final = (
    "Medians over the rounds with (the least – the most). CPU seconds and memory are those of all processes of a row, "
    "the producer too; a page of memory that several of them share is divided among them (PSS)."
)


def markdown(
    groups: Sequence[Group], results: Results, verdicts: Sequence[Verdict], machine: Mapping[str, str], command: str
) -> str:
    """The whole report."""
    parts = [f"# Benchmarks\n\n`{command}`\n\n{READING}\n", _machine(machine)]
    parts += [table(group, results) for group in groups if results.rows(group.name)]
    parts.append(bar_table(verdicts))
    return "\n".join(parts)


def table(group: Group, results: Results) -> str:
    """A group's rows: medians, with the least and the most where there were several rounds."""
    rows = []
    for name in results.rows(group.name):
        cells = [_figure(results.summary(group.name, name, column.key), column) for column in group.columns]
        if error := results.error(group.name, name):
            cells[0] = f"{cells[0]} failed: {error}".replace("|", "\\|").strip()
        rows.append([name, *cells])
    return f"## {group.title}\n\n{group.note}\n\n{_grid(['', *(column.title for column in group.columns)], rows)}\n"


def bar_table(verdicts: Sequence[Verdict]) -> str:
    """Each bar that was measured, the figures and whether they clear it."""
    rows = []
    for verdict in verdicts:
        bar = verdict.bar
        figures = [f"{label}: {number(value)}{bar.unit}" for label, value in verdict.figures if value is not None]
        if figures:
            met = {True: "met", False: "**not met**", None: ""}[verdict.met]
            rows.append([bar.measure, _bound(bar), "; ".join(figures), met])
    title = "## Bars\n\nMedians over the rounds; ratios are taken within a round.\n\n"
    return title + (_grid(["measure", "bar", "measured", ""], rows) if rows else "None was measured.") + "\n"


def as_json(results: Results, verdicts: Sequence[Verdict], machine: Mapping[str, str], command: str) -> dict[str, Any]:
    """Every number of every round, their medians, and the verdicts: what the Markdown shows."""
    return {
        "command": command,
        "machine": dict(machine),
        "rows": [_row(results, group, name) for group, name in results.rounds],
        "bars": [
            {
                "measure": each.bar.measure,
                "bar": _bound(each.bar),
                "measured": dict(each.figures),
                "met": each.met,
            }
            for each in verdicts
        ],
    }


def _row(results: Results, group: str, name: str) -> dict[str, Any]:
    outcomes = results.rounds[group, name]
    numbers = {key for outcome in outcomes if outcome is not None for key in outcome.numbers}
    summaries = {key: summary(results.values(group, name, key)) for key in sorted(numbers)}
    return {
        "group": group,
        "row": name,
        "medians": {key: found.median for key, found in summaries.items() if found is not None},
        "rounds": [None if outcome is None else dict(outcome.numbers) for outcome in outcomes],
        "error": results.error(group, name),
    }


def number(value: float) -> str:
    """Three digits, with thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 999.5:  # three digits of it are a thousand
        digits = len(str(int(abs(value)))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def _bound(bar: Bar) -> str:
    return "" if bar.bound is None else f"{bar.side} {number(bar.bound)}{bar.unit}"


def _figure(found: Summary | None, column: Column) -> str:
    if found is None:
        return ""
    median, least, most = (number(each * column.scale) for each in (found.median, found.least, found.most))
    return median if least == most else f"{median} ({least} – {most})"


def _machine(machine: Mapping[str, str]) -> str:
    return f"{_grid(['', ''], [[name, value] for name, value in machine.items()])}\n"


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns stand under one another, numbers to the right."""
    table = [list(head), *map(list, rows)]
    widths = [max(3, *(len(row[place]) for row in table)) for place in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)
