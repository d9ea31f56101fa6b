"""The examples of sources: each runs, and those that replay go on where they are asked to."""

import io
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from examples.sources import csv_tail, picture_folder, text_tokens
from producer.append_log import LogSettings
from producer.bad_records import BadRecords, BadRecordSettings
from producer.dataset_source import source_from
from producer.feed import Feed
from producer.generator import class_of
from producer.source_kind import kind_of
from protocol.errors import UsageError
from tests.programs import ROOT, Programs, wait_until

POLL_S = 0.01


def taken(records: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return list(islice(records, count))


# --- a CSV file that grows ---------------------------------------------------------------------------------------


@pytest.fixture
def readings(tmp_path: Path) -> Path:
    path = tmp_path / "readings.csv"
    path.write_text('volts,place,label\n0.5,"hall, left",1\n')
    return path


def test_a_line_of_a_csv_file_is_a_record_once_it_is_whole(readings: Path) -> None:
    rows = csv_tail.rows(str(readings), POLL_S, resume_at=0)
    assert next(rows) == {"volts": 0.5, "place": "hall, left", "label": 1}
    with readings.open("a") as file:
        file.write("0.25,ce")
        file.flush()
        writer = threading.Timer(3 * POLL_S, lambda: print("llar,0", file=file, flush=True))
        writer.start()
        assert next(rows) == {"volts": 0.25, "place": "cellar", "label": 0}
        writer.join()
    assert next(csv_tail.rows(str(readings), POLL_S, resume_at=1)) == {"volts": 0.25, "place": "cellar", "label": 0}


def test_lines_that_do_not_fit_their_heading_are_bad_records(readings: Path, tmp_path: Path) -> None:
    with readings.open("a") as file:
        file.write("0.5,hall\nmany,hall,1\n0.5,hall,1,2\n0.75,hall,0\n")
    aside = BadRecordSettings(on_bad_record="quarantine", quarantine=str(tmp_path / "quarantine.jsonl"))
    bad_records = BadRecords(aside)
    feed = Feed(class_of(csv_tail.rows)(str(readings), POLL_S), 1, LogSettings(), bad_records)
    feed.start()
    wait_until(lambda: feed.log.records == 2, "the lines that fit")
    assert bad_records.rejected == 3
    feed.log.close()


@pytest.mark.parametrize(("resume_at", "left"), [(0, "volts,place,label\n"), (1, "volts,place,label\n"), (1, "")])
def test_a_csv_file_that_has_become_shorter_is_said(readings: Path, resume_at: int, left: str) -> None:
    rows = csv_tail.rows(str(readings), POLL_S, resume_at=resume_at)
    if resume_at == 0:
        next(rows)
    readings.write_text(left)
    with pytest.raises(UsageError, match=r"readings\.csv has become shorter: .*another log"):
        next(rows)


def test_a_csv_file_that_was_replaced_is_said(readings: Path) -> None:
    rows = csv_tail.rows(str(readings), POLL_S, resume_at=0)
    next(rows)
    (readings.parent / "new.csv").write_text("volts,place,label\n" + 9 * "0.5,hall,1\n")
    (readings.parent / "new.csv").replace(readings)
    with pytest.raises(UsageError, match=r"readings\.csv is another file now"):
        next(rows)


@pytest.mark.slow
def test_the_command_in_the_examples_head_runs(started: Programs, readings: Path, tmp_path: Path) -> None:
    program = started.start(
        *("producer", "--source", "examples.sources.csv_tail.rows", "--source.path", str(readings)),
        *("--log.path", str(tmp_path / "log"), "--bind", f"ipc://{tmp_path}/socket"),
        cwd=ROOT,
    )
    wait_until(lambda: "fields: " in program.out, "the first lines")
    assert "  promise: covers the source, which goes on at record 0\n" in program.out
    assert "  fields: volts float64, place uint8[None], label int64\n" in program.out


# --- a folder of pictures that is watched ------------------------------------------------------------------------


def jpeg(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), level).save(file, "jpeg")
    return file.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    return tmp_path / "photos"


def test_pictures_travel_as_bytes_in_the_order_in_which_they_came(photos: Path) -> None:
    source = picture_folder.Pictures(str(photos), POLL_S, settled_s=0.02)
    assert kind_of(source) == "replaying"
    assert source.schema.class_names == ("ant", "bee")
    records = source.records(0)
    for number, name in enumerate(("bee/9.jpg", "ant/1.JPG", "bee/0.jpeg")):
        (photos / "bee" / "notes.txt").write_text("no picture")
        (photos / name).write_bytes(jpeg(number))
        assert next(records) == {"image": jpeg(number), "label": int(name.startswith("bee"))}
    assert [record["label"] for record in taken(source.records(1), 2)] == [0, 1]
    feed = Feed(source, 1, LogSettings(), BadRecords(BadRecordSettings()))
    feed.start()
    wait_until(lambda: feed.log.records == 3, "the pictures")
    assert feed.log.info.schema == source.schema
    feed.log.close()


def test_pictures_that_were_taken_out_are_said(photos: Path) -> None:
    (photos / "ant" / "1.jpg").write_bytes(jpeg(1))
    source = picture_folder.Pictures(str(photos), POLL_S, settled_s=0)
    with pytest.raises(UsageError, match="has 1 pictures where 2 were taken: take none out"):
        next(source.records(2))
    with pytest.raises(UsageError, match="has no subfolders: give a folder with one for each class"):
        picture_folder.Pictures(str(photos / "ant"))


# --- a WebSocket feed --------------------------------------------------------------------------------------------


def test_messages_of_a_web_socket_are_records_also_over_a_lost_connection() -> None:
    pytest.importorskip("websockets", reason="websockets is not installed: pip install '.[examples]'")
    from websockets.sync.server import ServerConnection, serve

    from examples.sources import web_socket

    conversations: Iterator[Sequence[str | bytes]] = iter([['{"n": 1}', '{"n": 2}'], ['{"n": 3}', b'{"n": 4}', "n=5"]])

    def speak(socket: ServerConnection) -> None:
        messages = next(conversations)
        for message in messages:
            socket.send(message)
        if len(messages) == 2:
            socket.socket.close()  # without a word

    with serve(speak, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        got = list(web_socket.messages(f"ws://127.0.0.1:{port}", pause_s=POLL_S))
        server.shutdown()
        thread.join()
    assert got == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}, "n=5"]


# --- text with tokens --------------------------------------------------------------------------------------------


def test_windows_of_a_text_overlap_by_one_token_and_say_what_the_tokens_mean(tmp_path: Path) -> None:
    text = "wie schön leuchtet der Morgenstern 🌟"
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    source = source_from(text_tokens.Windows(str(tmp_path / "book.txt"), length=5))
    characters = source.schema.class_names
    windows = np.asarray(source.take(np.arange(len(source)))["tokens"])
    assert windows.shape == ((len(text) - 1) // 5, 6)
    assert ["".join(characters[token] for token in window) for window in windows] == [
        text[first : first + 6] for first in range(0, len(text) - 5, 5)
    ]
    with pytest.raises(UsageError, match=r"book\.txt has 36 characters: give more, or a smaller --source\.length"):
        text_tokens.Windows(str(tmp_path / "book.txt"), length=36)


# --- an environment ----------------------------------------------------------------------------------------------


def test_steps_of_an_environment_replay_over_the_ends_of_episodes() -> None:
    pytest.importorskip("gymnasium", reason="gymnasium is not installed: pip install '.[examples]'")
    from examples.sources import gymnasium_steps

    steps = list(gymnasium_steps.steps(count=100, resume_at=0))
    ends = [number for number, step in enumerate(steps) if step["done"]]
    assert ends, "a random policy does not balance a pole for a hundred steps"
    for number, step in enumerate(steps[:-1]):
        follows = np.array_equal(step["next_observation"], steps[number + 1]["observation"])
        assert follows == (number not in ends)
    again = list(gymnasium_steps.steps(count=100, resume_at=ends[0] + 1))
    assert len(again) == 99 - ends[0]
    for one, other in zip(steps[ends[0] + 1 :], again, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
