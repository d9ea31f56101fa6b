"""`python -m protocol to-parquet` and `from-parquet`: what they are told; the work is protocol/parquet.py's."""

from pathlib import Path
from typing import Any

from protocol.command_line import ArgumentParser
from protocol.errors import UsageError
from protocol.log_folder import LogFolder

TO = """Write a recording, or a producer's log on disk, as Parquet: a column for each field, and each record's place and
event time. Each split goes into a file of its own beside it.

  python -m protocol to-parquet recordings/monday monday.parquet"""
FROM = """Make a recording of a Parquet file. One that to-parquet has written becomes the same stream again; the rows of
any other become a stream in their order.

  python -m protocol from-parquet monday.parquet recordings/monday
  python -m protocol from-parquet garments.parquet recordings/garments --columns image,label --label label"""


def to_parser() -> ArgumentParser:
    """The command line of `to-parquet`."""
    parser = ArgumentParser(usage="python -m protocol to-parquet DIR FILE", description=TO)
    parser.add_argument("folder", metavar="DIR", type=str, help="the recording")
    parser.add_argument("file", metavar="FILE", type=str, help="the Parquet file")
    return parser


def from_parser() -> ArgumentParser:
    """The command line of `from-parquet`."""
    parser = ArgumentParser(usage="python -m protocol from-parquet FILE DIR [options]", description=FROM)
    parser.add_argument("file", metavar="FILE", type=str, help="the Parquet file")
    parser.add_argument("folder", metavar="DIR", type=str, help="where the recording goes")
    text = (
        "of another program's file: the columns that are fields of a record, with commas between them; all by default"
    )
    parser.add_argument("--columns", metavar="NAMES", type=str, default="", help=text)
    parser.add_argument("--label", metavar="NAME", type=str, default="", help="the column that holds the class")
    parser.add_argument(
        "--partitions", metavar="N", type=int, default=8, help="partitions of the stream that it becomes"
    )
    return parser


def to_parquet(options: Any) -> str:
    """Write the file, and say so."""
    with LogFolder(Path(options.folder).expanduser()) as folder:
        records = _parquet().to_parquet(folder, Path(options.file).expanduser())
    return f"{records:,} records are in {options.file}"


def from_parquet(options: Any) -> str:
    """Make the recording, and say so."""
    parquet = _parquet()
    columns = tuple(filter(None, options.columns.split(",")))
    settings = parquet.ParquetSettings(columns=columns, label=options.label, partitions=options.partitions)
    file, folder = Path(options.file).expanduser(), Path(options.folder).expanduser()
    records = parquet.from_parquet(file, folder, settings)
    return f"{records:,} records are in {options.folder}; read them as file://{options.folder}"


def _parquet() -> Any:
    try:
        from protocol import parquet
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow: pip install 'headrace[parquet]'") from error
    return parquet
