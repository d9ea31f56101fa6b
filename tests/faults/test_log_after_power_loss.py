"""Row 16 of the fault table: a power loss takes no record that was served, whichever write it comes after.

A disk keeps what was synced, and of what was written since any part. So what a log on disk writes is recorded by a
library that is preloaded into its program, and replayed up to each write, with some of the unsynced pages.
"""

import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from protocol.log_folder import LogFolder
from protocol.messages import STREAM
from protocol.stored_log import StoredLog

HERE = Path(__file__).parent
PAGE = 4096
#: How often each moment is replayed, each time with other unsynced pages.
DRAWS = 3

PAD_BYTES = 1 << 15

WRITER = f"""
import os, sys
from pathlib import Path
import numpy as np
from producer.append_log import LogSettings
from producer.open_log import open_log
from protocol.dealing import Dealing
from protocol.log_folder import LogFolder
from protocol.messages import STREAM
from protocol.schema import Field, Schema
from protocol.stream import StreamInfo

fields = (Field("id", "int64"), Field("pad", "uint8", ({PAD_BYTES},)))
with LogFolder(Path(sys.argv[1]), write=True) as folder:
    folder.create(STREAM, StreamInfo(incarnation="one", schema=Schema(fields), dealing=Dealing(2, 4)))
log = open_log(None, 2, LogSettings(path=sys.argv[1]), source="")
marks = os.open(sys.argv[2] + "/marks", os.O_CREAT | os.O_WRONLY)
for number in range(40):
    log.append({{"id": number, "pad": np.full({PAD_BYTES}, number, np.uint8)}})
    if number % 3 == 2:
        log.flush()
        os.pwrite(marks, log.durable.to_bytes(8, "little"), 0)
    if number % 10 == 9:  # some is forgotten, so that pages are used again
        log.trim(log.info.dealing.ends(number - 9))
log.close()
"""


@dataclass
class Disk:
    """A file as a disk has it: what is synced, and the pages that were written since."""

    synced: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, bytes]] = field(default_factory=list)

    def write(self, offset: int, data: bytes) -> None:
        self.unsynced += [(offset + at, data[at : at + PAGE]) for at in range(0, len(data), PAGE)]

    def write_through(self, offset: int, data: bytes) -> None:
        """Synced at once, and nothing else with it."""
        self._put(self.synced, [(offset, data)])

    def sync(self) -> None:
        self._put(self.synced, self.unsynced)
        self.unsynced = []

    def after_power_loss(self, drawn: random.Random) -> bytes:
        left = bytearray(self.synced)
        share = drawn.choice([0.0, 0.5, 1.0])
        self._put(left, [page for page in self.unsynced if drawn.random() < share])
        return bytes(left)

    def _put(self, image: bytearray, pages: list[tuple[int, bytes]]) -> None:
        for offset, data in pages:
            image.extend(bytes(max(0, offset + len(data) - len(image))))
            image[offset : offset + len(data)] = data


def entries(journal: bytes) -> Iterator[tuple[str, int, bytes]]:
    at = 0
    while at < len(journal):
        offset, size = struct.unpack_from("<QQ", journal, at + 1)
        yield chr(journal[at]), offset, journal[at + 17 : at + 17 + size]
        at += 17 + size


@pytest.fixture
def journal(tmp_path: Path) -> bytes:
    """What the writer has written, in order."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here")
    library = tmp_path / "journal.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, HERE / "journal.c", "-ldl"], check=True)
    kept = tmp_path / "journal"
    environment = {**os.environ, "LD_PRELOAD": str(library), "HEADRACE_TEST_JOURNAL": str(kept)}
    command = [sys.executable, "-c", WRITER, str(tmp_path / "log"), str(tmp_path)]
    subprocess.run(command, check=True, env=environment, cwd=HERE.parents[1])
    return kept.read_bytes()


def test_a_power_loss_after_any_write_takes_no_record_that_was_durable(
    tmp_path: Path, journal: bytes, seed: int
) -> None:
    drawn, disk, durable, losses = random.Random(seed), Disk(), 0, 0
    for kind, offset, data in entries(journal):
        match kind:
            case "w":
                disk.write(offset, data)
            case "d":
                disk.write_through(offset, data)
            case "s":
                disk.sync()
            case "m":
                durable = int.from_bytes(data, "little")
        if not durable:
            continue
        for _ in range(DRAWS):
            losses += 1
            folder = tmp_path / "after"
            folder.mkdir()
            (folder / "data.mdb").write_bytes(disk.after_power_loss(drawn))
            check(folder, durable)
            shutil.rmtree(folder)
    assert durable == 39
    assert losses > 10 * DRAWS, "a power loss at each write"


def check(folder: Path, durable: int) -> None:
    """Everything that was reported durable is there and what it was."""
    with LogFolder(folder) as opened:
        log = StoredLog(opened, STREAM)
        start, end = log.log_start(), log.log_end()
        assert sum(end.values()) >= durable
        for record in range(sum(start.values()), sum(end.values())):
            chunk = log.read(*log.info.dealing.locate(record), 1)
            pad = chunk.columns["pad"]
            assert isinstance(pad, np.ndarray)
            assert np.asarray(chunk.columns["id"]).tolist() == [record]
            assert (pad == record).all()
