"""The clients in other languages, which were written from protocol/SPEC.md alone: they push, and read it back."""

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from producer.append_log import LogSettings
from producer.bad_records import BadRecords, BadRecordSettings
from producer.inlet import InletSettings
from producer.inlet_feed import InletFeed
from producer.intake import Intake
from producer.open_log import open_log
from protocol.server_socket import WRITERS, ServerSocket
from tests.programs import ROOT
from tests.protocol.serving import ANY_PORT, serving

CLIENTS = ROOT / "examples/clients"
RECORDS = [{"n": n, "x": [n + 0.5, 0.25], "text": "ä" * (n % 3)} for n in range(1000)]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)
HEADERS = "#include <zmq.h>\n#include <msgpack.h>\nint main(void) { return 0; }\n"


@pytest.fixture
def node() -> str:
    """The interpreter, where it is there with both modules."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("there is no node here")
    if not all((CLIENTS / "node_modules" / name).exists() for name in ("zeromq", "@msgpack/msgpack")):
        pytest.skip("the modules zeromq and @msgpack/msgpack are not there: make clients installs them")
    return found


@functools.cache
def libraries() -> list[str] | None:
    """What the clients in C are linked with, where it is there; msgpack-c has two names."""
    if shutil.which("cc") is None:
        return None
    for name in ("msgpackc", "msgpack-c"):
        flags = ["-lzmq", f"-l{name}"]
        command = ["cc", "-x", "c", "-", "-o", "/dev/null", *flags]
        if subprocess.run(command, input=HEADERS.encode(), capture_output=True, check=False).returncode == 0:
            return flags
    return None


def compiled(name: str, folder: Path) -> Path:
    if (flags := libraries()) is None:
        pytest.skip("there is no C compiler here, or no libzmq3-dev and libmsgpack-dev: make clients installs them")
    subprocess.run(["cc", str(CLIENTS / f"{name}.c"), "-o", name, *flags], cwd=folder, check=True)
    return folder / name


@pytest.fixture
def inlet() -> Iterator[InletFeed]:
    socket = ServerSocket(ANY_PORT, door=WRITERS)
    opened = partial(open_log, partitions=4, settings=LogSettings(), source="inlet")
    feed = InletFeed(socket, Intake(opened, BadRecords(BadRecordSettings())), InletSettings())
    feed.start()
    yield feed
    feed.stop()
    assert feed.error is None


def push(inlet: InletFeed, *command: str | Path) -> None:
    """A client pushes all lines; another life of it pushes none of them again."""
    for _ in range(2):
        assert said([*command, inlet.address, "camera 1"]).endswith("1000 records are durable\n")
        assert inlet.log.taken("camera 1") == inlet.log.records == 1000


def read(inlet: InletFeed, *command: str | Path) -> list[str]:
    """The lines of a client that reads to the end."""
    inlet.log.end()
    with serving(inlet.log) as server:
        return said([*command, server.address]).splitlines()


def said(command: Sequence[str | Path]) -> str:
    done = subprocess.run(command, input=LINES, text=True, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_pushes(inlet: InletFeed) -> None:
    push(inlet, sys.executable, CLIENTS / "push.py")


def test_javascript_pushes_and_reads(inlet: InletFeed, node: str) -> None:
    push(inlet, node, CLIENTS / "push.mjs")
    lines = [json.loads(line) for line in read(inlet, node, CLIENTS / "read.mjs")]
    assert [line["record"] | {"text": bytes(line["record"]["text"]).decode()} for line in lines] == RECORDS
    dealing = inlet.log.info.dealing
    assert [dealing.record(line["partition"], line["offset"]) for line in lines] == list(range(1000))


def test_c_pushes_and_reads(inlet: InletFeed, tmp_path: Path) -> None:
    push(inlet, compiled("push", tmp_path))
    lines = [line.split(" ") for line in read(inlet, compiled("read", tmp_path))]
    assert [bytes.fromhex(line.removeprefix("line=")).decode() for _, _, line in lines] == LINES.splitlines()
    dealing = inlet.log.info.dealing
    assert [dealing.record(int(partition), int(offset)) for partition, offset, _ in lines] == list(range(1000))


def test_the_clients_import_nothing_of_headrace() -> None:
    text = (CLIENTS / "push.py").read_text()
    assert not re.search(r"^\s*(from|import) (protocol|producer|trainer)", text, re.MULTILINE)
