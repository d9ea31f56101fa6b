"""A folder read as a stream, and a stream recorded into a folder."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from producer.append_log import LogSettings
from producer.computed_log import ComputedLog, split_log
from producer.open_log import open_log
from protocol.chunk import Chunk
from protocol.dealing import Dealing, Positions, distance
from protocol.errors import BeyondLogEnd, RecordsLost, StreamReplaced, UsageError
from protocol.log import Log
from protocol.log_folder import LogFolder
from protocol.open_reader import open_reader
from protocol.reader import Reader, read_split
from protocol.recording import Recording
from protocol.subscription import Ended, Heard, Subscribed, Subscription
from tests.protocol.serving import ID, computed, numbered, one_by_one, serving
from tests.protocol.topic import Topic, TopicReader


def ids(chunk: Chunk) -> list[int]:
    return list(np.asarray(chunk.columns["id"]).tolist())


def everything(reader: Reader, positions: Positions, split: str = "") -> list[int]:
    """The ids of what follows, in the order in which it comes, up to the end."""
    events = list(one_by_one(reader.read(Subscription(split=split, positions=positions))))
    assert isinstance(events[0], Subscribed)
    assert isinstance(events[-1], Ended)
    chunks = [event for event in events if isinstance(event, Chunk)]
    assert events[-1].final == {
        partition: max([start, *(chunk.end for chunk in chunks if chunk.partition == partition)])
        for partition, start in positions.items()
    }
    return [each for chunk in chunks for each in ids(chunk)]


def record(log: Log, folder: Path, records: int = 0, splits: Mapping[str, Log] | None = None) -> int:
    with (
        serving(log, splits=splits) as server,
        open_reader(server.address) as reader,
        LogFolder(folder, write=True) as opened,
    ):
        recording = Recording(reader, opened, timeout_s=30)
        recording.record_splits()
        for _ in recording.follow(records):
            continue
        return recording.records


def with_splits() -> tuple[Log, dict[str, Log]]:
    source = numbered(7)
    log = computed(1000)
    log.info = replace(log.info, splits={"validation": 7})
    return log, {"validation": split_log(source, 3)}


def test_a_recording_is_the_stream_itself_with_its_splits(tmp_path: Path) -> None:
    log, splits = with_splits()
    assert record(log, tmp_path, splits=splits) == 1000
    reader = open_reader(f"file://{tmp_path}")
    said = reader.describe()
    assert said.info == log.info
    assert (said.ended, said.log_start, said.log_end) == (True, log.log_start(), log.log_end())
    assert everything(reader, said.log_start) == list(range(1000))
    held = reader.describe("validation")
    assert [each for chunk in read_split(reader, "validation", held) for each in ids(chunk)] == list(range(7))
    with pytest.raises(UsageError, match="holds no split 'test'"):
        reader.describe("test")


def test_a_recording_that_was_left_goes_on_where_it_stopped(tmp_path: Path) -> None:
    for most, found in ((1, 1), (100, 100), (100, 100), (501, 501), (0, 1000)):
        assert record(computed(1000), tmp_path, most) == found
        reader = open_reader(f"file://{tmp_path}")
        assert everything(reader, reader.describe().log_start) == list(range(found))
        assert reader.describe().ended, "nobody is there who could add anything"


def test_a_moment_lies_where_its_first_record_is_on_the_wire_as_in_a_recording(tmp_path: Path) -> None:
    log = open_log(ID, 3, LogSettings(), source="")
    assert log is not None
    log.append_columns({"id": np.arange(20_000)}, times_ns=10 * np.arange(20_000))
    log.end()
    record(log, tmp_path)
    with serving(log) as server, open_reader(server.address) as live, open_reader(f"file://{tmp_path}") as recorded:
        for time_ns, first in ((-1, 0), (0, 0), (51_200, 5_120), (51_201, 5_121), (123_450, 12_345), (200_000, 20_000)):
            for reader in (live, recorded):
                said = reader.describe(time_ns=time_ns)
                assert said.at == log.info.dealing.ends(first)
                assert everything(reader, said.at) == list(range(first, 20_000))
        assert live.describe().at is recorded.describe().at is None


def test_a_recording_begins_where_the_log_does(tmp_path: Path) -> None:
    log = open_log(ID, 2, LogSettings(), source="")
    assert log is not None
    log.append_columns({"id": np.arange(20_000)})
    log.trim({0: 4096, 1: 4096})
    log.end()
    assert record(log, tmp_path) == 20_000 - 8192
    reader = open_reader(f"file://{tmp_path}")
    assert reader.describe().log_start == {0: 4096, 1: 4096}
    assert everything(reader, {0: 4096, 1: 4096}) == list(range(8192, 20_000))
    with pytest.raises(RecordsLost, match="partition 1 lost 4096 records: offsets 0 to 4095"):
        everything(reader, {0: 4096, 1: 0})


def test_another_stream_is_not_recorded_into_the_same_folder(tmp_path: Path) -> None:
    record(computed(100), tmp_path)
    with pytest.raises(UsageError, match=r"holds another stream .*give another folder"):
        record(computed(101), tmp_path)


def test_a_stream_without_an_order_is_not_recorded(tmp_path: Path) -> None:
    topic = Topic(tmp_path, 2)
    with LogFolder(tmp_path / "r", write=True) as folder, pytest.raises(UsageError, match="cannot be recorded"):
        Recording(TopicReader(topic.folder), folder, timeout_s=1)


def test_the_producer_keeps_for_a_recorder_what_it_has_not_synced(tmp_path: Path) -> None:
    with serving(computed(1000)) as server, open_reader(server.address) as reader:
        with LogFolder(tmp_path / "monday", write=True) as folder:
            recording = Recording(reader, folder, timeout_s=30)
            for records in recording.follow():
                assert records == recording.records
            (group,) = reader.describe(timeout_s=30).groups
        assert group.name.startswith("record-monday-")
        assert not group.durable
        assert sum(group.trained.values()) <= 1000


def test_readers_of_a_folder_share_its_partitions_in_stream_order(tmp_path: Path) -> None:
    record(computed(1000, partitions=4, stripe=16), tmp_path)
    dealing, reader = Dealing(4, 16), open_reader(f"file://{tmp_path}")
    for k in range(3):
        positions = dict.fromkeys(dealing.owned(k, 3), 0)
        found = everything(reader, positions)
        assert found == [each for each in range(1000) if dealing.locate(each)[0] % 3 == k]


@pytest.mark.parametrize("stop", [1, 15, 16, 17, 400, 999, 1000])
def test_a_position_in_the_middle_is_gone_on_from(tmp_path: Path, stop: int) -> None:
    record(computed(1000), tmp_path)
    positions = Dealing(4, 16).ends(stop)
    assert everything(open_reader(f"file://{tmp_path}"), positions) == list(range(stop, 1000))


def test_what_cannot_hold_is_a_typed_error(tmp_path: Path) -> None:
    record(computed(100), tmp_path)
    reader = open_reader(f"file://{tmp_path}")
    with pytest.raises(BeyondLogEnd, match="partition 0 ends at 32, before the position 33"):
        everything(reader, {0: 33})
    with pytest.raises(StreamReplaced, match="expected stream other"):
        next(reader.read(Subscription(split="", positions={0: 0}, incarnation="other")))
    with pytest.raises(UsageError, match="holds no log"):
        open_reader(f"file://{tmp_path}/nowhere").describe()
    with pytest.raises(UsageError, match="file:// needs a folder"):
        open_reader("file://")


def test_a_folder_that_must_not_be_written_can_be_read(tmp_path: Path) -> None:
    record(computed(100), tmp_path)
    (tmp_path / "lock.mdb").unlink()
    bound = subprocess.run(
        ["mount", "--bind", "-o", "ro", str(tmp_path), str(tmp_path)], check=False, capture_output=True
    )
    if bound.returncode:
        pytest.skip("a folder cannot be made read-only here")
    try:
        with pytest.raises(OSError, match="Read-only"):
            (tmp_path / "new").touch()
        assert everything(open_reader(f"file://{tmp_path}"), {0: 0, 1: 0, 2: 0, 3: 0}) == list(range(100))
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


WRITER = (
    "import sys\nfrom producer.append_log import LogSettings\nfrom producer.open_log import open_log\n"
    "from protocol.schema import Field, Schema\n"
    "log = open_log(Schema((Field('id', 'int64'),)), 2, LogSettings(path=sys.argv[1]), source='')\n"
    "print('up', flush=True)\n"
    "for line in sys.stdin:\n    log.append({'id': int(line)})\n    log.flush()\n"
    "if sys.argv[2] == 'end':\n    log.end()\nlog.close()\n"
)


@pytest.mark.parametrize("how", ["end", "leave", "kill"])
def test_a_folder_that_is_being_written_is_followed_until_its_writer_has_gone(tmp_path: Path, how: str) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    with writer:
        assert writer.stdout.readline() == "up\n"
        asked = Subscription(split="", positions={0: 0, 1: 0})
        events = one_by_one(open_reader(f"file://{tmp_path}").read(asked, idle_s=0.1))
        for record_id in range(3):
            print(record_id, file=writer.stdin, flush=True)
            assert ids(next(event for event in events if isinstance(event, Chunk))) == [record_id]
        assert next(event for event in events if isinstance(event, Heard)).log_end == {0: 3, 1: 0}
        assert next(event for event in events if event is None) is None, "nothing comes while nothing is written"
        if how == "kill":
            writer.kill()
        else:
            writer.stdin.close()
        (ended,) = [event for event in events if isinstance(event, Ended)]
    assert ended.final == {0: 3, 1: 0}


def test_groups_and_commits_mean_nothing_to_a_folder(tmp_path: Path) -> None:
    record(computed(100), tmp_path)
    with open_reader(f"file://{tmp_path}") as reader:
        reader.commit("run", "any", {0: 5}, timeout_s=1)
        assert not reader.drop("run", timeout_s=1)
        reader.stay()
        assert everything(reader, {0: 0}) != []


def test_a_long_stripe_that_was_written_in_pieces_is_read_as_a_whole(tmp_path: Path) -> None:
    log = open_log(ID, 1, LogSettings(path=str(tmp_path), linger=0), source="")
    assert log is not None
    for each in range(50):
        log.append({"id": each})
        log.flush()
    log.close()
    chunks = [
        event
        for event in one_by_one(open_reader(f"file://{tmp_path}").read(Subscription(split="", positions={0: 0})))
        if isinstance(event, Chunk)
    ]
    assert [ids(chunk) for chunk in chunks] == [list(range(50))]


def test_a_computed_stream_without_an_end_is_recorded_as_far_as_was_asked(tmp_path: Path) -> None:
    log = ComputedLog(numbered(100), Dealing(4, 16), shuffle=False)
    assert record(log, tmp_path, 250) == 250
    reader = open_reader(f"file://{tmp_path}")
    said = reader.describe()
    assert distance(said.log_start, said.log_end) == 250
    assert everything(reader, said.log_start) == [each % 100 for each in range(250)]
