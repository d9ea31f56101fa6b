"""`python -m protocol`: look at a stream that is served somewhere. Needs no torch."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from protocol import peek_command, show
from protocol.command_line import ArgumentParser, run
from protocol.errors import AccessDenied, StreamTimeout, UsageError
from protocol.keygen import make_keys
from protocol.log_folder import LogFolder
from protocol.open_reader import open_reader, silent_mend
from protocol.parquet_command import from_parquet, from_parser, to_parquet, to_parser
from protocol.reader import Reader
from protocol.recording import Recording
from protocol.subscription import ReaderSettings
from protocol.wording import plain

DESCRIPTION = """Look at a stream without taking part in it.

  python -m protocol info  tcp://127.0.0.1:5555
  python -m protocol lag   tcp://127.0.0.1:5555
  python -m protocol peek  tcp://127.0.0.1:5555 --image 16
  python -m protocol record tcp://127.0.0.1:5555 recordings/monday"""
INFO = """What a producer serves: fields and classes of a record, splits, how far each partition's log reaches, and who
reads it.

  python -m protocol info tcp://127.0.0.1:5555
  python -m protocol info tcp://127.0.0.1:5555 --json | jq '.partitions[].log_end'"""
LAG = """How far each training run is behind the end of the log: a table that is renewed every second on a terminal, a
line a second elsewhere, until Ctrl-C.

  python -m protocol lag tcp://127.0.0.1:5555
  python -m protocol lag tcp://127.0.0.1:5555 --once"""
GROUPS = """The training runs (groups) that the producer knows. One that has saved a checkpoint holds the log back at
what it has committed, until it commits more or is dropped.

  python -m protocol groups tcp://127.0.0.1:5555
  python -m protocol groups tcp://127.0.0.1:5555 --drop default-1a2b3c4d"""
RECORD = """Record a stream and its splits into a folder, until it ends, --records are there, or Ctrl-C. The same
command goes on where it stopped. file://DIR is the recorded stream: it needs no producer, and trains like the live one.

  python -m protocol record tcp://127.0.0.1:5555 recordings/monday --records 100000
  python -m trainer train --stream file://recordings/monday"""

KEYGEN = """Make keys, so that a producer lets in only whom it knows, and nobody between can read or change a byte: a
folder for each machine. DIR/producer holds the list of clients and their rights, which you may edit at any time.

  python -m protocol keygen keys
  python -m protocol keygen keys viewer --rights read
  python -m protocol keygen keys camera --rights push"""

URL = "the stream: tcp://HOST:PORT, ipc://PATH, file://DIR, or kafka://HOST:PORT/TOPIC"
EVERY_S = 1.0
#: Looking needs few records at a time: the least window that a session grants.
SETTINGS = ReaderSettings(window_bytes=1)


def main(arguments: Sequence[str]) -> int:
    """Parse, connect, obey."""
    config = _parser().parse_args(list(arguments))
    options = config[config.subcommand]
    if config.subcommand in OFFLINE:
        print(OFFLINE[config.subcommand].obey(options))
        return 0
    if not options.timeout > 0:
        raise UsageError(f"--timeout {options.timeout:g}: give a number of seconds above 0")
    console = show.console()
    with open_reader(options.url, SETTINGS, keys=options["keys"]) as reader:
        try:
            return COMMANDS[config.subcommand].obey(reader, options, console)
        except AccessDenied as error:
            raise UsageError(str(error)) from error
        except StreamTimeout as error:
            raise UsageError(f"{error}: {silent_mend(options.url)}, or wait longer (--timeout)") from error


def _parser() -> ArgumentParser:
    usage = "python -m protocol info|lag|groups|peek|record URL [options], or keygen|to-parquet|from-parquet [options]"
    parser = ArgumentParser(prog="python -m protocol", usage=usage, description=DESCRIPTION)
    commands = parser.add_subcommands(required=True)
    for name, command in COMMANDS.items():
        own = ArgumentParser(usage=f"python -m protocol {name} URL [options]", description=command.description)
        own.add_argument("url", metavar="URL", type=str, help=URL)
        command.add_options(own)
        own.add_argument("--timeout", metavar="SECONDS", type=float, default=5.0, help="to wait for a producer")
        text = "folder of this client's keys, where the producer has some (keygen makes them)"
        own.add_argument("--keys", metavar="DIR", type=str, default="", help=text)
        commands.add_subcommand(name, own, help=command.summary)
    for name, offline in OFFLINE.items():
        commands.add_subcommand(name, offline.parser(), help=offline.summary)
    return parser


def _keygen_parser() -> ArgumentParser:
    parser = ArgumentParser(usage="python -m protocol keygen DIR [NAME ...] [options]", description=KEYGEN)
    parser.add_argument("folder", metavar="DIR", type=str, help="where the folders go")
    parser.add_argument(
        "names", metavar="NAME", nargs="*", type=str, default=["trainer"], help="clients to make keys for"
    )
    text = "what they may do: read,commit, which training needs; read, to look; push, into an inlet; or other of them"
    parser.add_argument("--rights", type=str, default="read,commit", help=text)
    return parser


def _keygen(options: Any) -> str:
    return "\n".join(make_keys(Path(options.folder), options.names, options.rights))


# --- info --------------------------------------------------------------------------------------------------------


def _info_options(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _info(reader: Reader, options: Any, console: Console) -> int:
    said = reader.describe(timeout_s=options.timeout)
    if options.json:
        print(json.dumps(show.as_json(options.url, said)))
    else:
        console.print(show.info(options.url, said))
    return 0


# --- lag ---------------------------------------------------------------------------------------------------------


def _lag_options(parser: ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="print one table and end")


def _lag(reader: Reader, options: Any, console: Console) -> int:
    view = show.LagView(options.url, reader.describe(timeout_s=options.timeout), time.monotonic())
    if options.once:
        console.print(view.table())
        return 0
    if not console.is_terminal:
        return _watch(reader, view, lambda: print(view.line(), flush=True))
    with Live(view.table(), console=console, auto_refresh=False) as live:
        return _watch(reader, view, lambda: live.update(view.table(), refresh=True))


def _watch(reader: Reader, view: show.LagView, tell: Callable[[], None]) -> int:
    try:
        while True:
            tell()
            time.sleep(EVERY_S)
            try:
                view.hear(reader.describe(timeout_s=EVERY_S), time.monotonic())
            except StreamTimeout:
                view.hear_nothing(time.monotonic())
    except KeyboardInterrupt:
        return 0  # the way in which it is meant to end


# --- groups ------------------------------------------------------------------------------------------------------


def _groups_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--drop", metavar="NAME", type=str, default="", help="make the producer forget this group and what it holds"
    )


def _groups(reader: Reader, options: Any, console: Console) -> int:
    if options.drop:
        if not reader.drop(options.drop, timeout_s=options.timeout):
            known = ", ".join(plain(each.name) for each in reader.describe(timeout_s=options.timeout).groups)
            raise UsageError(f"the producer knows no group {options.drop!r}: it knows {known or 'none'}")
        print(f"dropped {options.drop}")
        return 0
    console.print(show.groups(reader.describe(timeout_s=options.timeout)))
    return 0


# --- record ------------------------------------------------------------------------------------------------------


def _record_options(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=str, help="where the recording goes, or goes on")
    text = "how many records the recording is to have; 0: until the stream ends"
    parser.add_argument("--records", metavar="N", type=int, default=0, help=text)
    text = "compress a new recording, which needs the package zstandard to be read, too"
    parser.add_argument("--zstd", action="store_true", help=text)


def _record(reader: Reader, options: Any, console: Console) -> int:
    if options.records < 0:
        raise UsageError("--records is 0 or more")
    with LogFolder(Path(options.folder).expanduser(), write=True, zstd=options.zstd) as folder:
        recording = Recording(reader, folder, timeout_s=options.timeout)
        recording.record_splits()
        said_s = time.monotonic()
        with suppress(KeyboardInterrupt):  # the way in which an endless stream's recording is meant to end
            for records in recording.follow(options.records):
                if time.monotonic() - said_s >= EVERY_S:
                    said_s = time.monotonic()
                    print(f"{records:,} records", end="\r" if console.is_terminal else "\n", flush=True)
        print(f"{recording.records:,} records are in {folder.path}; read them as file://{options.folder}")
    return 0


@dataclass(frozen=True)
class Command:
    """One thing to do with a stream: what help says of it, its own options, and the doing."""

    summary: str
    description: str
    add_options: Callable[[ArgumentParser], None]
    obey: Callable[[Reader, Any, Console], int]


COMMANDS: Mapping[str, Command] = {
    "info": Command("what is served, and to whom", INFO, _info_options, _info),
    "lag": Command("how far each training run is behind", LAG, _lag_options, _lag),
    "groups": Command("the training runs; forget one", GROUPS, _groups_options, _groups),
    "record": Command("keep the stream in a folder", RECORD, _record_options, _record),
    "peek": Command(
        "the next records, or a contact sheet of them",
        peek_command.DESCRIPTION,
        peek_command.add_options,
        peek_command.peek,
    ),
}


@dataclass(frozen=True)
class Offline:
    """What is done without a stream: what help says of it, its command line, and the doing, which returns a text."""

    summary: str
    parser: Callable[[], ArgumentParser]
    obey: Callable[[Any], str]


OFFLINE: Mapping[str, Offline] = {
    "keygen": Offline("make keys for a producer and its clients", _keygen_parser, _keygen),
    "to-parquet": Offline("write a recording as Parquet", to_parser, to_parquet),
    "from-parquet": Offline("make a recording of a Parquet file", from_parser, from_parquet),
}

if __name__ == "__main__":
    raise SystemExit(run(main))
