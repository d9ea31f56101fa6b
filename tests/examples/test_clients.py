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

import msgpack
import pytest
import zmq

from examples.clients.push import Writer
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
LARGE = [{"n": n, "text": "x" * 10_000} for n in range(250)]  # 200 of them are more than one message may hold
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


def said(command: Sequence[str | Path], lines: str = LINES) -> str:
    done = subprocess.run(command, input=lines, text=True, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_pushes(inlet: InletFeed) -> None:
    push(inlet, sys.executable, CLIENTS / "push.py")


def test_python_pushes_large_records_in_smaller_messages(inlet: InletFeed) -> None:
    writer = Writer(inlet.address, "camera 1")
    for record in LARGE:
        writer.push(record)
    writer.finish()
    assert inlet.log.taken("camera 1") == inlet.log.records == len(LARGE)


def test_javascript_pushes_large_records_in_smaller_messages(inlet: InletFeed, node: str) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in LARGE)
    assert said([node, CLIENTS / "push.mjs", inlet.address, "camera 1"], lines) == "250 records are durable\n"
    assert inlet.log.records == len(LARGE)


class LosesWhatIsNotDurable:
    """A dealer to an inlet that has taken three records, of which one is durable; then its machine loses power."""

    def __init__(self) -> None:
        self.records: list[dict[str, int]] = []
        self._answers: list[dict[str, int | str]] = []
        self._due = 3

    def poll(self, _timeout_ms: int) -> bool:
        return bool(self._answers)

    def recv(self) -> bytes:
        return bytes(msgpack.packb(self._answers.pop(0)))

    def send_multipart(self, frames: list[bytes]) -> None:
        said = msgpack.unpackb(frames[0])
        if said["type"] == "hello":
            self._say(said, type="greeting", durable=1)
        elif self._due == 3:
            self._due = 1
            self._say(said, type="refusal", code="no_session")
        elif said["type"] == "records":
            assert said["number"] == self._due, "from the one that is due on"
            self.records += msgpack.unpackb(frames[1])
            self._due += said["count"]
            self._say(said, type="taken", durable=self._due)
        else:
            self._say(said, type="taken", durable=self._due, done=True)

    def setsockopt(self, *_: int) -> None: ...

    def connect(self, _url: str) -> None: ...

    def close(self) -> None: ...

    def _say(self, said: dict[str, int], **answer: int | str) -> None:
        self._answers.append({"session": said["session"], "due": self._due, "until": 100, **answer})


def test_python_pushes_again_what_a_former_life_gave_and_was_lost_before_it_was_durable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inlet = LosesWhatIsNotDurable()
    monkeypatch.setattr(zmq.Context.instance(), "socket", lambda _kind: inlet)
    writer = Writer("tcp://nowhere", "camera 1")
    for n in range(writer.number, 5):
        writer.push({"n": n})
    writer.finish()
    assert inlet.records == [{"n": n} for n in range(1, 5)]


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
