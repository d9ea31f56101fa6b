"""`python -m producer` as a program: what it says of a mistake, how it ends, and what that means to its readers."""

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from examples.clients.push import Writer
from protocol.chunk import Chunk
from protocol.dealing import Positions
from protocol.messages import STREAM
from protocol.open_reader import open_reader
from protocol.quarantine import read_quarantine
from protocol.subscription import Away, Ended, Event, ReaderSettings, Subscribed, Subscription
from tests.programs import Program, Programs, wait_until
from tests.protocol.serving import one_by_one

SOURCES = '''
import numpy as np

class Pictures:
    """A small dataset."""

    def __init__(self, count: int = 40, broken: int = -1) -> None:
        self.count, self.broken = count, broken

    def __len__(self):
        return self.count

    def __getitem__(self, index: int):
        if index == self.broken:
            raise OSError("the file is not there")
        return np.full((1, 4, 4), index % 256, np.uint8), index % 3

class Camera:
    """Gives records as they come."""

    def __init__(self, count: int = 40, fails: bool = False, odd: bool = False) -> None:
        self.count, self.fails, self.odd = count, fails, odd

    def __iter__(self):
        for number in range(self.count):
            yield {"id": "odd" if self.odd and number % 10 == 5 else number}
        if self.fails:
            raise RuntimeError("the cable was pulled")

class Heavy(Pictures):
    """Takes its time to load."""

    def __init__(self) -> None:
        import pathlib, time

        super().__init__()
        pathlib.Path("loading").touch()
        time.sleep(60)

class Unplugged:
    """Cannot be made."""

    def __init__(self) -> None:
        raise OSError("no camera")

def function():
    pass
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sources.py").write_text(SOURCES)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "wrong.py").write_text("def (:\n")
    return tmp_path


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/socket"


PICTURES = ("--source", "sources.Pictures")
CAMERA = ("--source", "sources.Camera")
INLET = ("--inlet", "tcp://127.0.0.1:*")


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "3"], r"--port 3 .*--help"),
        (
            ["--drift", "nowhere.yaml", *PICTURES],
            r"--drift 'nowhere.yaml' cannot be read .*: give a YAML list of changes",
        ),
        (["--partitions", "many"], r"--partitions: many is no int .*--help"),
        (["--rate"], r"--rate: .*--help"),
        (["--until", "later"], r"--until: later is none of 'stopped', 'committed' .*--help"),
        (["--partitions", "0"], r"--partitions: .*1 to 4096"),
        (["--rate", "-1"], r"--rate.* 0 or more"),
        (["--metrics", "here", *PICTURES], r"'here' is no place for metrics: use \[HOST\]:PORT"),
        (["--replay", "nowhere"], r"nowhere holds no log: give the folder of a recording"),
        (["--replay", "nowhere", *CAMERA], r"--replay serves what was recorded, at its own --pace: leave out --source"),
        (["--replay", "nowhere", "--rate", "5"], r"--replay serves .* leave out .*--rate"),
        (["--replay", "nowhere", "--loop", "--until", "committed"], r"needs an end: leave out --loop"),
        (["--pace", "2", *CAMERA], r"--pace, .* are of a recording: give --replay DIR as well"),
        (["--until", "committed", *PICTURES], r"--until committed needs an end: give --passes N"),
        (["--seed", "-1", *PICTURES], r"seed -1 .*give one from 0"),
        (["--source", "no.such.Class"], r"--source 'no.such.Class': there is no module 'no'; install it"),
        (["--source", "sources.Nothing"], r"--source 'sources.Nothing': module 'sources' has no 'Nothing'"),
        (["--source", "Pictures"], r"--source 'Pictures' is no class path: give package.module.Class"),
        (["--source", "sources.function"], r"--source 'sources.function' is no class"),
        (["--source", "broken.Class"], r"--source 'broken.Class': there is no module 'nothing_of_this_name'"),
        (["--source", "wrong.Class"], r"--source 'wrong.Class' cannot be imported: SyntaxError"),
        (["--source", "builtins.dict"], r"--source 'builtins.dict': its arguments cannot be told; give a class"),
        (["--source", "sources.Unplugged"], r"cannot be made .*OSError: no camera \(sources.py, line 4\d\)"),
        ([*PICTURES, "--source.count", "many"], r"--source.count: many is no int .*--help"),
        ([*PICTURES, "--source.colour", "red"], r"there is no option --source.colour .*--help"),
        ([*PICTURES, "--source.count", "0"], r"Pictures is empty"),
        ([*PICTURES, "--validation", "1.5"], r"cannot hold out 1.5 records as the split 'validation': give a number"),
        ([*PICTURES, "--splits", "{dark: 0.5, light: 20}"], r"cannot hold out 40 of 40 records: nothing would be left"),
        ([*PICTURES, "--splits", "{dark: many}"], r"--splits: .*many.*--help"),
        ([*PICTURES, "--splits", "dark"], r"--splits: .*dark.*--help"),
        ([*PICTURES, "--splits", "{dark room: 5}"], r"a split cannot be called 'dark room': give a name of letters"),
        ([*PICTURES, "--validation", "5", "--splits", "{validation: 5}"], r"both say how many .*: give one of them"),
        ([*CAMERA, "--splits", "{dark: 5}"], r"--splits are for datasets: a live source gives its records once"),
        ([*PICTURES, "--source.broken", "7"], r"record 7 of Pictures cannot be read: OSError.*mend the dataset"),
        ([*PICTURES, "--on_bad_record", "quarantine"], r"--on_bad_record quarantine .* for live sources: a dataset's"),
        ([*PICTURES, "--reject_nan", "true"], r"--reject_nan are for live sources"),
        (
            [*CAMERA, "--on_bad_record", "quarantine", "--quarantine", "."],
            r"\. cannot be written .*: name another file",
        ),
        ([*CAMERA, "--source.count", "0"], r"Camera gives no record"),
        (
            [*CAMERA, "--log.path", "log", "--log.full", "never"],
            r"--log.full: never is none of 'block', 'drop-oldest', 'fa",
        ),
        ([*CAMERA, "--log.path", "/dev/null/log"], r"/dev/null/log cannot be used .*give another folder"),
        ([*PICTURES, "--log.path", "log"], r"--log.path is for live sources: a dataset needs no log"),
        ([*CAMERA, "--log.bytes", "10"], r"a log of 10 bytes is too small: give at least"),
        (["--source.root", "nowhere"], r"no FashionMNIST in nowhere .*make demo.*--source.root"),
        (["--config", "nowhere.yaml"], r"--config 'nowhere.yaml' cannot be read \(No such file"),
        ([*PICTURES, "--bind", "somewhere"], r"'somewhere'.*--bind"),
        ([*PICTURES, "--bind", "tcp://127.0.0.1:70000"], r"70000.*--bind"),
        ([*PICTURES, "--bind", "ipc:///nowhere/at/all"], r"ipc:///nowhere/at/all.*--bind"),
        ([*INLET, *PICTURES], r"--inlet takes the place of --source: give one of them"),
        ([*INLET, "--check"], r"--check reads a source: leave out --inlet and --replay"),
        ([*INLET, "--until", "committed"], r"--until committed needs an end: give --inlet_ends true"),
        ([*CAMERA, "--inlet_ends", "true"], r"--inlet_ends .*: give --inlet as well"),
        ([*INLET, "--bind", "somewhere"], r"'somewhere'.*with --bind"),
        (["--inlet", "somewhere"], r"'somewhere'.*with --inlet"),
        (["--inlet", "tcp://0.0.0.0:*"], r"can be reached from other machines: .* or say --insecure"),
        ([*INLET, "--log.path", "/dev/null/log"], r"/dev/null/log cannot be used .*give another folder"),
    ],
)
def test_a_mistake_is_one_line_with_the_mend(started: Programs, folder: Path, arguments: list[str], said: str) -> None:
    complaint = started.start("producer", *arguments, cwd=folder).complaint()
    assert complaint.startswith("producer: ")
    assert re.search(said, complaint), complaint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rate: [1, 2\n", r"is no YAML \(line 2: .*--print_config"),
        ("- rate\n", r"holds no settings: .*--print_config"),
        ("speed: 3\n", r"there is no option --speed .*--help"),
        ("rate: fast\n", r"--rate: fast is no float .*--help"),
        ("source:\n  class_path: Nothing\n", r"--source 'Nothing' is no class path"),
        ("\x00\n", r"is no YAML"),
    ],
)
def test_a_mistake_in_a_settings_file_is_one_line_too(started: Programs, folder: Path, text: str, said: str) -> None:
    (folder / "settings.yaml").write_text(text)
    complaint = started.start("producer", "--config", "settings.yaml", cwd=folder).complaint()
    assert re.search(said, complaint), complaint


def test_the_class_of_a_settings_file_is_said_before_it_is_imported(started: Programs, folder: Path) -> None:
    (folder / "settings.yaml").write_text("source:\n  class_path: no.such.Class\n")
    program = started.start("producer", "--config", "settings.yaml", cwd=folder)
    assert program.status() == 2
    said, complaint = program.err.splitlines()
    assert said == "producer: settings.yaml names classes, whose code will run: 'no.such.Class'"
    assert complaint.startswith("producer: --source 'no.such.Class': there is no module 'no'")


def test_a_port_in_use_is_one_line_that_names_it_and_the_mend(started: Programs, folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        complaint = started.start("producer", *PICTURES, "--bind", address, cwd=folder).complaint()
    assert complaint.startswith(f"producer: {address} is in use: stop the other producer, or give another --bind")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_data_that_must_not_be_read_is_one_line(started: Programs, folder: Path) -> None:
    (folder / "FashionMNIST").mkdir(mode=0)
    complaint = started.start("producer", "--source.root", str(folder), cwd=folder).complaint()
    assert str(folder) in complaint


# --- faults and ends ---------------------------------------------------------------------------------------------


def test_a_live_source_that_fails_is_a_fault_said_in_one_line(started: Programs, folder: Path, url: str) -> None:
    program = started.start("producer", *CAMERA, "--source.fails", "true", "--bind", url, cwd=folder)
    assert program.complaint(status=1) == "producer: the source failed: RuntimeError: the cable was pulled"


def test_a_bad_record_is_kept_aside_said_and_counted_wherever_one_looks(
    started: Programs, folder: Path, url: str
) -> None:
    odd = (*CAMERA, "--source.odd", "true", "--on_bad_record", "quarantine", "--quarantine", "bad.jsonl")
    program = serving(started.start("producer", *odd, "--bind", url, "--status_every_s", "0.1", cwd=folder))
    wait_until(lambda: "  4 records rejected  no group reads" in program.out, "the count in the status line")
    assert "log end 36  " in program.out
    assert program.err == (
        "producer: a record was rejected and is in bad.jsonl: field 'id': uint8 (3,) where int64 () is due; "
        "1 rejected so far\n"
    )
    assert [each["record"] for each in read_quarantine(folder / "bad.jsonl")] == [{"id": "odd"}] * 4
    info = started.start("protocol", "info", url, cwd=folder)
    assert info.status() == 0
    assert "0 messages refused, 4 records rejected" in info.out


def test_a_check_says_what_would_go_wrong_and_serves_nothing(started: Programs, folder: Path, url: str) -> None:
    program = started.start("producer", *CAMERA, "--source.odd", "true", "--check", "--bind", url, cwd=folder)
    assert (program.status(), program.err) == (2, "")
    assert program.out.startswith("Camera: live\n")
    assert (
        "wrong    field 'id': uint8 (3,) where int64 () is due; 4 of 40 records, the first is number 5" in program.out
    )
    assert not Path(url.removeprefix("ipc://")).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_that_is_stopped_while_it_loads_ends_at_once_with_0(
    started: Programs, folder: Path, url: str, number: signal.Signals
) -> None:
    producer = started.start("producer", "--bind", url, "--source", "sources.Heavy", cwd=folder)
    wait_until((folder / "loading").exists, "the source to load")
    producer.signal(number)
    assert producer.status() == 0, producer.err
    assert producer.err == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.faults)])
def test_a_stopped_producer_is_away_and_its_next_life_goes_on(
    started: Programs, folder: Path, url: str, number: signal.Signals
) -> None:
    arguments = (*PICTURES, "--bind", url, "--partitions", "2")
    first = serving(started.start("producer", *arguments, "--rate", "100", cwd=folder))
    with open_reader(url, ReaderSettings(away_after_s=1.0)) as reader:
        events = one_by_one(reader.read(Subscription(split=STREAM, positions={0: 0, 1: 0}), idle_s=60))
        seen = until(events, Chunk)
        first.signal(number)
        assert first.status() == 0
        assert f"stopped by {number.name}; trainers wait for the next life" in first.out
        assert first.err == ""
        seen += until(events, Away)
        assert not any(isinstance(event, Ended) for event in seen)
        serving(started.start("producer", *arguments, "--rate", "0", "--passes", "1000", cwd=folder))
        seen += until(events, Subscribed)
        seen += [event for event in events if event is not None]
    assert isinstance(seen[-1], Ended)
    assert received(seen) == seen[-1].final
    assert sum(seen[-1].final.values()) == 40_000
    assert Path(url.removeprefix("ipc://")).exists()


DRIFT = """
- {change: invert, at: 100, until: 300}
- {change: noise, levels: 9, at: 200}
- {change: thin, share: {1: 0.5}, at: 150, over: 100}
"""


def test_a_producer_that_is_killed_in_the_middle_of_a_drift_serves_the_same_records_again(
    started: Programs, folder: Path, url: str
) -> None:
    (folder / "changes.yaml").write_text(DRIFT)
    arguments = (*PICTURES, "--bind", url, "--partitions", "2", "--rate", "0", "--passes", "12")
    lives, incarnations = [], set()
    for records in (0, 230):
        program = serving(started.start("producer", *arguments, "--drift", "changes.yaml", cwd=folder))
        assert "\n  invert: from 100 to 299\n  noise {levels: 9}: from 200\n" in program.out
        with open_reader(url) as reader:
            info = reader.describe(timeout_s=60).info
            asked = Subscription(split=STREAM, positions=info.dealing.ends(records))
            chunks = [event for event in one_by_one(reader.read(asked)) if isinstance(event, Chunk)]
        lives.append(np.concatenate([np.asarray(chunk.columns["image"]) for chunk in chunks]))
        incarnations.add(info.incarnation)
        program.signal(signal.SIGKILL)
    assert len(incarnations) == 1
    assert len(lives[0]) < 12 * 40 - 20
    assert np.array_equal(lives[0][230:], lives[1])


@pytest.mark.parametrize("source", [(*PICTURES, "--passes", "1", "--rate", "0"), CAMERA])
def test_until_committed_ends_once_every_group_has_committed_all(
    started: Programs, folder: Path, url: str, source: tuple[str, ...]
) -> None:
    program = serving(started.start("producer", *source, "--bind", url, "--until", "committed", cwd=folder))
    with open_reader(url) as reader:
        said = reader.describe(timeout_s=60)
        asked = Subscription(split=STREAM, positions=said.log_start, group="run")
        final = next(event for event in one_by_one(reader.read(asked)) if isinstance(event, Ended)).final
        assert sum(final.values()) == 40
        assert started.poll(program) is None, "the group has not committed yet"
        reader.commit("run", said.info.incarnation, final, timeout_s=60)
    assert program.status() == 0
    assert program.out.splitlines()[-1] == "the stream was committed to its end"
    assert not Path(url.removeprefix("ipc://")).exists(), "the socket file is gone"


def test_what_is_pushed_at_an_inlet_is_served_and_the_stream_ends_with_its_writers(
    started: Programs, folder: Path, url: str
) -> None:
    inlet = f"ipc://{folder}/inlet"
    ends = ("--inlet_ends", "true", "--until", "committed")
    program = started.start("producer", "--inlet", inlet, *ends, "--bind", url, cwd=folder)
    wait_until(lambda: program.out == f"waiting for a first writer at {inlet}\n", "the inlet")
    writer = Writer(inlet, "camera 1")
    for number in range(40):
        writer.push({"id": number})
    writer.finish()
    assert f"  inlet: {inlet}\n  fields: id int64\n" in serving(program).out
    with open_reader(url) as reader:
        said = reader.describe(timeout_s=60)
        asked = Subscription(split=STREAM, positions=said.log_start, group="run")
        final = next(event for event in one_by_one(reader.read(asked)) if isinstance(event, Ended)).final
        assert sum(final.values()) == 40
        reader.commit("run", said.info.incarnation, final, timeout_s=60)
    assert program.status() == 0
    assert program.err == ""


def test_an_inlet_that_is_stopped_before_its_first_writer_ends_at_once_with_0(
    started: Programs, folder: Path, url: str
) -> None:
    program = started.start("producer", *INLET, "--bind", url, cwd=folder)
    wait_until(lambda: "waiting for a first writer" in program.out, "the inlet")
    program.signal(signal.SIGTERM)
    assert (program.status(), program.err) == (0, "")
    assert not Path(url.removeprefix("ipc://")).exists(), "the socket file is gone"


def test_the_first_lines_say_what_is_served_and_where(started: Programs, folder: Path) -> None:
    sizes = ("--validation", "500", "--splits", "{dark: 0.1, test: 300}")
    arguments = (*PICTURES, "--source.count", "2000", *sizes, "--bind", "tcp://127.0.0.1:*")
    program = serving(started.start("producer", *arguments, cwd=folder))
    first, *lines = program.out.splitlines()
    address = re.fullmatch(r"serving Pictures at (tcp://127.0.0.1:\d+): 1,000 records a pass, 8 partitions", first)
    assert address, first
    assert lines[0] == "  fields: id int64, image uint8[1, 4, 4], label int64"
    assert lines[-3:] == ["  split validation: 500 records", "  split dark: 200 records", "  split test: 300 records"]
    with open_reader(address[1]) as reader:
        assert reader.describe(timeout_s=60).info.splits == {"validation": 500, "dark": 200, "test": 300}


def serving(program: Program) -> Program:
    """The program, once it has said where it serves."""
    wait_until(lambda: "serving " in program.out and program.out.endswith("\n"), "the producer's first lines")
    return program


def until(events: Iterator[Event | None], kind: type[Event]) -> list[Event]:
    """The next events up to the first of a kind."""
    seen: list[Event] = []
    for event in events:
        if event is not None:
            seen.append(event)
        if isinstance(event, kind):
            return seen
    raise AssertionError(f"the subscription ended without {kind.__name__}")


def received(events: list[Event]) -> Positions:
    """Where the chunks among the events end; each must begin where the one before has ended."""
    ends: Positions = {}
    for event in events:
        if isinstance(event, Chunk):
            assert event.offset == ends.get(event.partition, 0)
            ends[event.partition] = event.end
    return ends
