"""`python -m protocol`: what people and programs are shown of a stream, and that looking changes nothing."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from producer.memory_log import MemoryLog
from producer.source import ColumnSource
from protocol.__main__ import main
from protocol.change import Change
from protocol.chunk import Chunk, Ragged
from protocol.dealing import Dealing
from protocol.errors import UsageError
from protocol.messages import Description, GroupState
from protocol.open_reader import open_reader
from protocol.peek import table
from protocol.schema import Field, Schema
from protocol.show import LagView, info
from protocol.stream import StreamInfo
from protocol.subscription import Subscription
from protocol.wording import plain
from tests.protocol.serving import one_by_one
from tests.protocol.topic import Topic, TopicReader
from tests.trainer.streams import computed, groups, serving

RECORDS, STRIPE = 60, 4
PICTURES = Schema(
    fields=(Field("id", "int64"), Field("image", "uint8", (1, 5, 7)), Field("label", "int64")),
    label="label",
    class_names=("shoe", "coat", "[bold]bag"),
    label_range=(0, 2),
)
TEXTS = Schema(fields=(Field("text", "uint8", (None,)), Field("weight", "float32"), Field("tokens", "int64", (None,))))

Shown = pytest.CaptureFixture[str]


def pictures(count: int, first: int = 0) -> dict[str, np.ndarray]:
    """Picture n is grey n throughout, but for one white pixel."""
    ids = np.arange(first, first + count)
    images = np.broadcast_to((ids % 200)[:, None, None, None], (count, 1, 5, 7)).astype(np.uint8)
    images[:, 0, 0, 0] = 255
    return {"id": ids, "image": images, "label": ids % 3}


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog(PICTURES, Dealing(3, STRIPE), source="Camera")
    log.append_columns(pictures(RECORDS))
    return log


@pytest.fixture
def url(log: MemoryLog) -> Iterator[str]:
    with serving(log) as address:
        yield address


def texts(url: str, *values: dict[str, object]) -> MemoryLog:
    log = MemoryLog(TEXTS, Dealing(2, STRIPE), source="Chat")
    for value in values:
        log.append(value)
    log.end()
    return log


def rows(shown: str) -> list[list[str]]:
    """The cells below a table's rule, up to an empty line: two blanks or more part them."""
    lines = shown.partition("─\n")[2].partition("\n\n")[0].splitlines()
    return [re.split(r" {2,}", line.strip()) for line in lines if not line.startswith("only")]


# --- info --------------------------------------------------------------------------------------------------------


def test_info_shows_what_is_served(url: str, shown_of: "Show") -> None:
    shown = shown_of("info", url)
    for fact in ("Camera", url, "image uint8 [1, 5, 7]", "label, 0 to 2", "shoe, coat, [bold]bag", "splits    none"):
        assert fact in shown
    assert rows(shown)[:3] == [["0", "0", "20"], ["1", "0", "20"], ["2", "0", "20"]]
    assert "no group reads this stream" in shown


def test_info_as_json_says_the_same_to_programs(log: MemoryLog, url: str, shown_of: "Show") -> None:
    join(url, "run-1", {0: 4, 1: 4, 2: 0})
    told = json.loads(shown_of("info", url, "--json"))
    assert told["schema"] == PICTURES.to_wire()
    assert told["incarnation"] == log.info.incarnation
    assert told["partitions"] == [
        {"partition": p, "log_start": start, "log_end": 20} for p, start in enumerate((4, 4, 0))
    ]
    assert (told["stripe"], told["splits"], told["records_per_pass"], told["ended"]) == (STRIPE, {}, None, False)
    assert (told["refused"], told["changes"]) == (0, [])
    assert told["uptime_s"] >= 0
    assert [(each["name"], each["committed"]) for each in told["groups"]] == [("run-1", {"0": 4, "1": 4, "2": 0})]


def test_info_shows_the_splits_and_the_length_of_a_pass(shown_of: "Show") -> None:
    test = ColumnSource("test", PICTURES, pictures(7))
    source = ColumnSource("Garments", PICTURES, pictures(RECORDS))
    source.splits = lambda: {"test": test}  # type: ignore[method-assign]
    with serving(computed(source), splits={"test": computed(test, partitions=1)}) as url:
        shown = shown_of("info", url)
        peeked = shown_of("peek", url, "--split", "test")
    assert "a pass    60 records" in shown
    assert "splits    test 7" in shown
    assert sorted(int(row[2]) for row in rows(peeked)[:7]) == list(range(7))


def test_info_shows_what_changes_and_when(shown_of: "Show") -> None:
    drift = MemoryLog(PICTURES, Dealing(2, 4), source="Camera", changes=(Change(what="du\x1bsk", at=1000, until=2000),))
    with serving(drift) as url:
        shown, told = shown_of("info", url), json.loads(shown_of("info", url, "--json"))
    assert "change    du sk: from 1,000 to 1,999" in shown
    assert told["changes"] == [{"what": "du\x1bsk", "at": 1000, "until": 2000, "over": 0, "every": 0}]


def test_info_says_where_a_stream_has_no_order(tmp_path: Path) -> None:
    said = TopicReader(Topic(tmp_path, 3).folder).describe()
    with (console := Console(width=120)).capture() as shown:
        console.print(info("topic://", said))
    assert "0 in 3 partitions in order of arrival" in shown.get()


# --- peek --------------------------------------------------------------------------------------------------------


def test_peek_shows_the_next_records_in_stream_order(url: str, shown_of: "Show") -> None:
    shown = rows(shown_of("peek", url, "--records", "10"))
    assert [(int(row[2]), row[4]) for row in shown] == [
        (n, f"{n % 3} {PICTURES.class_names[n % 3]}") for n in range(10)
    ]
    assert [(int(row[0]), int(row[1])) for row in shown] == [Dealing(3, STRIPE).locate(n) for n in range(10)]


def test_peek_gives_programs_a_line_of_json_a_record(url: str, shown_of: "Show") -> None:
    lines = [json.loads(line) for line in shown_of("peek", url, "--records", "3", "--json").splitlines()]
    assert [(line["offset"], line["fields"]["id"], line["fields"]["label"]) for line in lines] == [
        (0, 0, 0),
        (1, 1, 1),
        (2, 2, 2),
    ]


def test_peek_shows_what_came_since_a_time(log: MemoryLog, url: str, shown_of: "Show") -> None:
    log.append_columns(pictures(2, first=RECORDS), times_ns=4 * 10**18)
    assert [int(row[2]) for row in rows(shown_of("peek", url, "--since", "2096-10-01", "--records", "2"))] == [
        RECORDS,
        RECORDS + 1,
    ]
    assert len(rows(shown_of("peek", url, "--since", "2h"))) == 8


def test_peek_shows_eight_records_unless_it_is_told_otherwise(url: str, shown_of: "Show") -> None:
    assert len(rows(shown_of("peek", url))) == 8


def test_peek_shows_an_array_by_its_least_greatest_and_mean_value(url: str, shown_of: "Show") -> None:
    mean = (2 * 34 + 255) / 35
    assert rows(shown_of("peek", url))[2][3] == f"2 … 255, mean {mean:.4g}"


def test_peek_begins_after_what_was_committed_and_so_forgotten(url: str, shown_of: "Show") -> None:
    join(url, "run-1", {0: 4, 1: 4, 2: 0})
    assert int(rows(shown_of("peek", url))[0][2]) == 8


def test_peek_at_the_latest_shows_what_comes_and_nothing_before(log: MemoryLog, url: str, shown_of: "Show") -> None:
    seen = threading.Event()

    def capture() -> None:
        while not seen.wait(0.02):
            log.append_columns(pictures(1, first=log.records))

    camera = threading.Thread(target=capture)
    camera.start()
    try:
        shown = [int(row[2]) for row in rows(shown_of("peek", url, "--start", "latest", "--records", "3"))]
    finally:
        seen.set()
        camera.join()
    assert shown[0] >= RECORDS
    assert shown == list(range(shown[0], shown[0] + 3))


def test_peek_shows_text_as_text_and_other_ragged_fields_by_their_values(shown_of: "Show") -> None:
    records = (
        {"text": "grüße", "weight": 0.5, "tokens": [1, 2, 6]},
        {"text": b"\xff\xfe", "weight": 2, "tokens": np.array([], np.int64)},
    )
    with serving(texts("", *records)) as url:
        shown = shown_of("peek", url)
    assert rows(shown)[:2] == [
        ["0", "0", "grüße", "0.5", "[3] 1 … 6, mean 3"],
        ["0", "1", "[2] 254 … 255, mean 254.5", "2.0", "[0] empty"],
    ]
    assert shown.splitlines()[-1] == "only 2 of 8 records: the end"


def test_peek_joins_no_group_and_leaves_everything_as_it_was(log: MemoryLog, url: str, shown_of: "Show") -> None:
    join(url, "run-1", {0: 4, 1: 0, 2: 0})
    before, start = groups(url), log.log_start()
    shown_of("peek", url, "--records", str(RECORDS - STRIPE))
    after = groups(url)
    assert [(each.name, each.committed, each.trained, each.readers) for each in after] == [
        (each.name, each.committed, each.trained, each.readers) for each in before
    ]
    assert log.log_start() == start


def test_peek_saves_a_contact_sheet_of_the_next_pictures(url: str, tmp_path: Path, shown_of: "Show") -> None:
    out = tmp_path / "sheet.png"
    assert shown_of("peek", url, "--image", "3", "--out", str(out)) == f"3 pictures are in {out}\n"
    with Image.open(out) as sheet:
        greys = np.bincount(np.asarray(sheet.convert("L")).ravel(), minlength=256)
    assert set(np.argsort(greys)[-4:]) == {0, 1, 2, 255}, "the three pictures' own greys and the paper are commonest"


def test_peek_without_out_saves_into_this_folder(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown_of: "Show"
) -> None:
    monkeypatch.chdir(tmp_path)
    shown_of("peek", url, "--image", "3")
    assert (tmp_path / "peek.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_that_came_over_the_wire_steers_the_terminal(shown_of: "Show") -> None:
    log = MemoryLog(Schema((Field("text\x1b[2J", "uint8", (None,)),)), Dealing(1, 4), source="evil\x1b]0;title\x07")
    log.append({"text\x1b[2J": "clear \x1b[2J screen"})
    log.end()
    with serving(log) as url:
        join(url, "group\x1b[31m\r", {0: 0})
        for command in (["peek", url], ["info", url], ["groups", url], ["lag", url, "--once"]):
            shown = shown_of(*command)
            assert not any(c < " " and c != "\n" for c in shown), command


@given(st.text())
def test_plain_text_has_no_control_characters(text: str) -> None:
    assert plain(text).isprintable()
    assert len(plain(text)) == len(text)


@given(st.binary(max_size=300))
def test_every_ragged_value_can_be_shown(value: bytes) -> None:
    schema = Schema((Field("data", "uint8", (None,)),))
    column = Ragged(np.array([len(value)], np.uint32), np.frombuffer(value, np.uint8))
    assert table(schema, [Chunk(0, 0, {"data": column}, 0, 0)]).row_count == 1


# --- groups ------------------------------------------------------------------------------------------------------


def test_groups_lists_the_runs(url: str, shown_of: "Show") -> None:
    join(url, "run-1", {0: 8, 1: 4, 2: 4})
    assert rows(shown_of("groups", url))[0][:-1] == ["run-1", "0", "16", "16", "44"]


def test_a_dropped_group_is_forgotten_and_holds_nothing_back(log: MemoryLog, url: str, shown_of: "Show") -> None:
    join(url, "run-1", {0: 0, 1: 0, 2: 0})
    join(url, "run-2", {0: 8, 1: 8, 2: 8})
    assert log.log_start()[0] == 0
    assert shown_of("groups", url, "--drop", "run-1") == "dropped run-1\n"
    assert [each.name for each in groups(url)] == ["run-2"]
    assert log.log_start()[0] == 8


# --- lag ---------------------------------------------------------------------------------------------------------


def test_lag_once_shows_how_far_each_run_is_behind(url: str, shown_of: "Show") -> None:
    join(url, "run-1", {0: 8, 1: 4, 2: 4})
    assert rows(shown_of("lag", url, "--once"))[0][:-1] == ["run-1", "0", "16", "44", "16"]


def test_lag_tells_the_rates_since_the_last_look_and_that_a_producer_is_away() -> None:
    view = LagView("tcp://there:1", said(log_end=1000, trained=100), now_s=50.0)
    assert view.line() == "log end 1,000  |  run-1: lag 900  trained 100  readers 1"
    view.hear(said(log_end=3000, trained=1100), now_s=52.0)
    assert view.line() == "log end 3,000 (1,000/s)  |  run-1: lag 1,900  trained 1,100  500/s  readers 1"
    view.hear_nothing(now_s=59.0)
    assert view.line().startswith("AWAY for 0:07, log end 3,000")
    view.hear(said(log_end=3000, trained=1100, ended=True), now_s=60.0)
    assert view.line().startswith("log end 3,000 (0/s), ended")


def test_lag_prints_lines_where_nobody_looks_at_a_terminal_until_ctrl_c(url: str) -> None:
    with program("lag", url, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert first == b"log end 60  |  no group reads\n"
    assert second == b"log end 60 (0/s)  |  no group reads\n"


def test_lag_draws_a_table_on_a_terminal_and_leaves_it_whole_at_ctrl_c(url: str) -> None:
    join(url, "run-1", {0: 8, 1: 4, 2: 4})
    mine, theirs = pty.openpty()
    with program("lag", url, stdout=theirs, TERM="xterm", COLUMNS="80") as process:
        os.close(theirs)
        shown = b""
        while b"(0/s)" not in shown:  # the second drawing
            shown += os.read(mine, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    shown += os.read(mine, 4096)
    os.close(mine)
    assert b"run-1" in shown
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l"), "the cursor was given back"


def test_a_reader_that_has_had_enough_is_no_error(url: str) -> None:
    with program("lag", url, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


# --- record ------------------------------------------------------------------------------------------------------


def test_record_keeps_a_stream_that_can_be_looked_at_without_its_producer(
    url: str, tmp_path: Path, shown_of: "Show"
) -> None:
    folder = tmp_path / "monday"
    said = shown_of("record", url, str(folder), "--records", "50")
    assert said.splitlines()[-1] == f"50 records are in {folder}; read them as file://{folder}"
    here, there = (rows(shown_of("peek", each, "--records", "50")) for each in (url, f"file://{folder}"))
    assert here == there
    assert "50 records" in shown_of("record", f"file://{folder}", str(tmp_path / "copy"))
    assert "no group reads this stream" in shown_of("info", f"file://{folder}")


def test_record_ends_at_ctrl_c_with_what_was_synced_and_goes_on_at_the_next_call(url: str, tmp_path: Path) -> None:
    for life in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "protocol", "record", url, str(tmp_path / "log")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        with process:
            assert process.stdout.readline() == f"{RECORDS} records\n", "the stream is open, so it waits for more"
            process.send_signal(signal.SIGINT)
            said, complained = process.communicate()
        assert (process.returncode, complained) == (0, ""), life
        assert said.splitlines()[-1].startswith(f"{RECORDS} records are in ")


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["info", "lag", "groups", "peek"])
def test_no_producer_there_is_one_line_with_the_url_and_the_mend(command: str, tmp_path: Path) -> None:
    url = f"ipc://{tmp_path}/nobody"
    with pytest.raises(UsageError, match=rf"{url} within 0.1 s: start one .python -m producer --bind {url}., or wait"):
        main([command, url, "--timeout", "0.1"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["peek", "--split", "train"], "no split 'train'"),
        (["peek", "--records", "0"], "--records"),
        (["peek", "--image", "-1"], "--image"),
        (["peek", "--image", "3", "--out", "/nowhere/sheet.png"], "/nowhere/sheet.png"),
        (["peek", "--start", "latest", "--timeout", "0.1"], "no record came within 0.1 s"),
        (["groups", "--drop", "run-9"], "no group 'run-9'"),
        (["peek", "--since", "yesterday"], "'yesterday' is no start: give earliest, latest, a time"),
        (["info", "--timeout", "0"], "--timeout 0"),
        (["info", "--timeout", "nan"], "--timeout"),
        (["record", "somewhere", "--records", "-1"], "--records is 0 or more"),
        (["record", "/dev/null/log"], "cannot be used .*give another folder"),
    ],
)
def test_a_mistake_is_a_usage_error_that_names_it(url: str, arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        main([arguments[0], url, *arguments[1:]])


def test_a_contact_sheet_of_a_stream_without_pictures_says_what_there_is() -> None:
    with serving(texts("", {"text": "a", "weight": 1, "tokens": [1]})) as url:
        with pytest.raises(UsageError, match=r"no pictures .* text uint8"):
            main(["peek", url, "--image", "3"])
        with pytest.raises(UsageError, match="nothing follows: the stream has ended, look with --start earliest"):
            main(["peek", url, "--start", "latest"])


# --- what the tests stand on -------------------------------------------------------------------------------------


class Show:
    """Runs a command in this process; what it printed."""

    def __init__(self, captured: Shown) -> None:
        self._captured = captured

    def __call__(self, *arguments: str) -> str:
        assert main(arguments) == 0
        return self._captured.readouterr().out


@pytest.fixture
def shown_of(capsys: Shown) -> Show:
    return Show(capsys)


def join(url: str, group: str, committed: dict[int, int]) -> None:
    """Make the producer know a run that has saved a checkpoint."""
    with open_reader(url) as reader:
        said = reader.describe(timeout_s=60)
        start = dict.fromkeys(said.log_start, 0)
        asked = Subscription(split="", positions={**said.log_start, **start}, group=group)
        for _ in one_by_one(reader.read(asked)):
            break
        reader.commit(group, said.info.incarnation, committed, timeout_s=60)


def said(log_end: int, trained: int, *, ended: bool = False) -> Description:
    group = GroupState(name="run-1", durable=True, readers=1, silent_s=0, committed={0: 0}, trained={0: trained})
    info = StreamInfo(incarnation="i", schema=PICTURES, dealing=Dealing(1, 4))
    return Description(
        request=1,
        info=info,
        log_start={0: 0},
        log_end={0: log_end},
        ended=ended,
        uptime_s=1,
        refused=0,
        groups=(group,),
    )


def program(*arguments: str, stdout: int, **environment: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "protocol", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )
