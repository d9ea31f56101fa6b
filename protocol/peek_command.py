"""`python -m protocol peek`: what it is told, and in which of its ways the records are shown."""

from pathlib import Path
from typing import Any

from rich.console import Console

from protocol.beginning import EARLIEST, Beginning
from protocol.command_line import ArgumentParser
from protocol.contact_sheet import contact_sheet, pictures_in, save_png
from protocol.drawn_pictures import drawn
from protocol.errors import UsageError
from protocol.field_summary import summary
from protocol.messages import STREAM, Description
from protocol.peek import Wanted, next_records, pictures_of, table
from protocol.reader import Reader
from protocol.record_lines import record_lines

DESCRIPTION = """The next records of a stream: a table with the range of each field and how often each class comes, JSON
lines (--json), or (--image) a contact sheet of its pictures with their labels. It joins no group: no training run sees
fewer records because somebody looked.

  python -m protocol peek tcp://127.0.0.1:5555
  python -m protocol peek tcp://127.0.0.1:5555 --records 20 --since 10m
  python -m protocol peek tcp://127.0.0.1:5555 --image 16 --split test --out test.png"""


def add_options(parser: ArgumentParser) -> None:
    """What `peek` may be told."""
    parser.add_argument("--records", metavar="N", type=int, default=8, help="how many records the table shows")
    parser.add_argument("--json", action="store_true", help="print one JSON object a record")
    text = "save a contact sheet of so many pictures instead, and show it on a terminal"
    parser.add_argument("--image", metavar="N", type=int | None, default=None, help=text)
    parser.add_argument("--out", metavar="FILE", type=str, default="peek.png", help="where the contact sheet goes")
    text = "earliest: what the log still holds; latest: what comes next; or from a time (2026-11-26T07:30, 10m ago) on"
    parser.add_argument("--start", "--since", metavar="WHEN", type=str, default="earliest", help=text)
    parser.add_argument("--split", metavar="NAME", type=str, default=STREAM, help="a split instead of the stream")


def peek(reader: Reader, options: Any, console: Console) -> int:
    """Read the records and show them; raises `UsageError` where none comes."""
    if options.records < 1 or (options.image is not None and options.image < 1):
        raise UsageError("--records and --image are at least 1")
    wanted = Wanted(
        count=options.image or options.records,
        split=options.split,
        beginning=Beginning.of(options.start),
        timeout_s=options.timeout,
    )
    said, chunks = next_records(reader, wanted)
    count = sum(chunk.count for chunk in chunks)
    if not count:
        raise UsageError(_nothing_came(said, wanted))
    schema = said.info.schema
    if options.json:
        for line in record_lines(schema, chunks):
            print(line)
        return 0
    if options.image:
        pictures, labels = pictures_in(schema, pictures_of(schema, chunks))
        save_png(contact_sheet(pictures, labels), Path(options.out))
        if console.is_terminal:
            console.print(drawn(pictures, labels, console.width))
        print(f"{count} pictures are in {options.out}")
    else:
        console.print(table(schema, chunks), "", summary(schema, chunks), sep="\n")
    if count < wanted.count:
        print(f"only {count} of {wanted.count} records: {'the end' if said.ended else 'no more came in time'}")
    return 0


def _nothing_came(said: Description, wanted: Wanted) -> str:
    if said.ended:
        mend = "" if wanted.beginning == EARLIEST else ", look with --start earliest"
        return f"nothing follows: the stream has ended{mend}"
    return f"no record came within {wanted.timeout_s:g} s: wait longer (--timeout), or see whether its source lives"
