"""Drift with the truth known: the stream is the undrifted one but for what its description says."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.append_log import LogSettings
from producer.bad_records import BadRecords, BadRecordSettings
from producer.computed_log import ComputedLog, split_log
from producer.drift import Drift, Schedule, read_schedule
from producer.fashion_mnist import SCHEMA as FASHION_MNIST
from producer.feed import Feed
from producer.publisher import Publisher
from producer.source import ColumnSource, Subset
from protocol.change import Change
from protocol.dealing import Dealing, Turns
from protocol.errors import UsageError
from protocol.schema import Field, Schema

RECORDS = 120
SCHEMA = Schema(
    (Field("id", "int64"), Field("image", "uint8", (1, 3, 3)), Field("label", "int64")),
    label="label",
    class_names=("bag", "boot", "coat"),
    label_range=(0, 2),
)
PIXELS = np.random.default_rng(0).integers(0, 256, (RECORDS, 1, 3, 3), np.uint8)
LABELS = np.arange(RECORDS) % 3
SOURCE = ColumnSource("garments", SCHEMA, {"id": np.arange(RECORDS), "image": PIXELS, "label": LABELS})

EVERYTHING = """
- {change: invert, at: 40, until: 70, every: 100}
- {change: rotate, degrees: 90, at: 60, over: 50}
- {change: noise, levels: 20, at: 90, until: 130}
- {change: darken, light: 0.5, at: 150}
- {change: swap, classes: [bag, 1], at: 55, over: 20}
- {change: thin, share: {coat: 0.3}, at: 100, until: 160, over: 10}
"""


def schedule(folder: Path, text: str, seed: int = 0) -> Schedule:
    (folder / "changes.yaml").write_text(text)
    return read_schedule(folder / "changes.yaml", seed)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Schedule:
    return schedule(tmp_path_factory.mktemp("drift"), EVERYTHING, seed=3)


def log_of(drift: Schedule | None, stripe: int = 8) -> ComputedLog:
    return ComputedLog(SOURCE, Dealing(3, stripe), seed=1, drift=Drift(drift, SCHEMA) if drift else None)


def read(log: ComputedLog, first: int, records: int, sizes: Iterator[int]) -> dict[str, Any]:
    """So many records in stream order from number `first` on, in pieces of the given sizes."""
    dealing = log.info.dealing
    log.reach(dealing.ends(first + records))
    turns, parts, done = Turns(dealing, dealing.ends(first)), [], 0
    while done < records:
        partition = turns.partition
        chunk = log.read(partition, turns.positions[partition], min(next(sizes), records - done))
        turns.move(chunk.count)
        parts.append(chunk.columns)
        done += chunk.count
    return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in ("id", "image", "label")}


def whole(drift: Schedule | None, records: int = 300) -> dict[str, Any]:
    return read(log_of(drift), 0, records, iter(lambda: 8, 0))


@settings(max_examples=20)
@given(st.integers(0, 250), st.sampled_from([1, 2, 8, 32]), st.data())
def test_a_record_is_the_same_however_it_is_read_and_after_every_restart(
    everything: Schedule, first: int, stripe: int, data: st.DataObject
) -> None:
    sizes = iter(lambda: data.draw(st.integers(1, 9)), 0)
    found, told = read(log_of(everything, stripe), first, 50, sizes), whole(everything)
    for name, column in found.items():
        assert np.array_equal(column, told[name][first : first + 50]), name


def test_before_the_first_change_it_is_the_stream_without(everything: Schedule) -> None:
    plain, drifted = whole(None), whole(everything)
    first = min(change.at for change in everything.changes)
    for name, column in plain.items():
        assert np.array_equal(column[:first], drifted[name][:first])
        assert column.dtype == drifted[name].dtype


KEPT = [
    ("invert", {}, "image"),
    ("rotate", {"degrees": 90}, "image"),
    ("darken", {"light": 0.1}, "image"),
    ("noise", {"levels": 99}, "image"),
    ("swap", {"classes": ["bag", "boot"]}, "label"),
]


@pytest.mark.parametrize(("kind", "arguments", "field"), KEPT)
def test_what_differs_is_what_the_truth_tells_and_nothing_else(
    tmp_path: Path, kind: str, arguments: dict[str, Any], field: str
) -> None:
    drift = schedule(tmp_path, str([{"change": kind, **arguments, "at": 50, "until": 90, "every": 100}]))
    plain, drifted = whole(None), whole(drift)
    (told,) = drift.changes
    changed = told.share(np.arange(300)) > 0
    assert changed[50:90].all()
    assert not changed[90:150].any()
    assert changed[150:190].all()
    differ = (plain[field] != drifted[field]).reshape(300, -1).any(axis=1)
    can_differ = plain["label"] != 2 if field == "label" else np.full(300, True)
    assert np.array_equal(differ, changed & can_differ)
    for other in {"id", "image", "label"} - {field}:
        assert np.array_equal(plain[other], drifted[other])


def test_a_gradual_change_falls_on_a_growing_share_of_the_records(tmp_path: Path) -> None:
    drift = schedule(tmp_path, "[{change: invert, at: 1000, over: 2000}]")
    plain, drifted = whole(None, 4000), whole(drift, 4000)
    differ = (plain["image"] != drifted["image"]).reshape(4000, -1).all(axis=1)
    shares = [part.mean() for part in np.split(differ, 8)]
    assert shares == pytest.approx([0, 0, 1 / 8, 3 / 8, 5 / 8, 7 / 8, 1, 1], abs=0.07)
    assert np.array_equal(drifted["image"][differ], 255 - plain["image"][differ]), "each is changed whole"


def test_a_class_appears_when_it_is_told_and_others_come_in_its_place(tmp_path: Path) -> None:
    drift = schedule(tmp_path, "[{change: appear, classes: [coat], at: 200}]")
    found = whole(drift, 500)
    assert 2 not in found["label"][:200]
    assert (found["label"][200:] == 2).mean() == pytest.approx(1 / 3, abs=0.05)
    per_pass = log_of(drift).info.records_per_pass
    assert per_pass == 80
    assert len(set(found["id"][:per_pass].tolist())) == per_pass, "none comes twice in the first pass"


def test_a_class_becomes_rarer_when_it_is_told(tmp_path: Path) -> None:
    drift = schedule(tmp_path, "[{change: thin, share: {coat: 0.25}, at: 1000, until: 2000}]")
    coats = whole(drift, 3000)["label"] == 2
    shares = [part.mean() for part in np.split(coats, 3)]
    assert shares == pytest.approx([1 / 3, 1 / 9, 1 / 3], abs=0.04)  # a quarter of one class beside two whole ones


def test_the_description_tells_the_truth_and_no_record_does(everything: Schedule) -> None:
    info = log_of(everything).info
    assert info.schema == SCHEMA
    assert info.changes == everything.changes
    assert info.changes[1] == Change(what="rotate {degrees: 90}", at=60, over=50)
    assert info.changes[4] == Change(what="swap {classes: [bag, 1]}", at=55, over=20)


def test_another_schedule_or_seed_is_another_stream(everything: Schedule) -> None:
    earlier = Schedule((everything.planned[0],), seed=3)
    drifts = (None, everything, Schedule(everything.planned, seed=4), earlier)
    assert len({log_of(drift).info.incarnation for drift in drifts}) == 4
    assert log_of(everything).info.incarnation == log_of(everything).info.incarnation


def test_held_out_records_stay_as_they_are(everything: Schedule) -> None:
    source = Subset(SOURCE, np.arange(60), splits={"test": Subset(SOURCE, np.arange(60, 120))})
    log = ComputedLog(source, Dealing(1, 8), drift=Drift(everything, SCHEMA))
    assert log.info.splits == {"test": 60}
    split = split_log(source.splits()["test"])
    assert split.info.changes == ()
    assert np.array_equal(np.asarray(split.read(0, 0, 60).columns["image"]), PIXELS[60:])


# --- live sources ------------------------------------------------------------------------------------------------


class Camera:
    """Gives the records of the source, one by one."""

    def __init__(self, count: int = 300, **odd: Any) -> None:
        self.count, self.odd = count, odd

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for number in range(self.count):
            at = number % RECORDS
            yield {"id": at, "image": PIXELS[at], "label": int(LABELS[at])} | (self.odd if number == 5 else {})


class Declared(Camera):
    """Says what a record is before there is one."""

    schema = SCHEMA


def fed(source: Camera, drift: Schedule | None, path: str = "", kept_aside: str = "") -> Feed:
    """A feed that has come to its end."""
    bad = BadRecordSettings(on_bad_record="quarantine", quarantine=kept_aside) if kept_aside else BadRecordSettings()
    feed = Feed(source, 1, LogSettings(path=path), BadRecords(bad), drift)
    feed._run()
    if feed.error is not None:
        raise feed.error
    return feed


LIVE = """
- {change: invert, at: 100, until: 200}
- {change: swap, classes: [0, 1], at: 150}
- {change: appear, classes: [2], at: 120}
"""


def test_a_live_source_drifts_by_the_numbers_of_its_stream(tmp_path: Path) -> None:
    drift = schedule(tmp_path, LIVE)
    log = fed(Camera(), drift).log
    assert log.info.changes == drift.changes
    assert log.records == 300 - 59, "the first coat that comes is the 60th: it would be record 120"
    columns = log.read(0, 0, 4096).columns
    ids, image, label = (np.asarray(columns[name]) for name in ("id", "image", "label"))
    numbers = np.arange(len(ids))
    inverted = (numbers >= 100) & (numbers < 200)
    assert np.array_equal(image, np.where(inverted[:, None, None, None], 255 - PIXELS[ids], PIXELS[ids]))
    swapped = np.where(LABELS[ids] < 2, 1 - LABELS[ids], LABELS[ids])
    assert np.array_equal(label, np.where(numbers >= 150, swapped, LABELS[ids]))
    assert 2 not in LABELS[ids][:120]


def test_a_class_of_a_live_source_is_thinned(tmp_path: Path) -> None:
    log = fed(Camera(3000), schedule(tmp_path, "[{change: thin, share: {0: 0.5}, at: 0}]")).log
    counts = np.bincount(np.asarray(log.read(0, 0, 4096).columns["label"]))
    assert counts.tolist() == pytest.approx([500, 1000, 1000], abs=80)
    assert (counts[1:] == 1000).all()


def test_a_bad_record_of_a_live_source_is_kept_aside_as_ever(tmp_path: Path) -> None:
    feed = fed(Camera(image="odd"), schedule(tmp_path, LIVE), kept_aside=str(tmp_path / "bad.jsonl"))
    assert feed.bad_records.rejected == 1
    assert feed.log.records == 300 - 59, "it was a coat, so it would not have come"


def test_a_log_on_disk_goes_on_with_the_same_drift_only(tmp_path: Path) -> None:
    drift, path = schedule(tmp_path, "[{change: invert, at: 250}]"), str(tmp_path / "log")
    for records in (200, 400):
        log = fed(Camera(200), drift, path).log
        log.flush(timeout_s=60)
        assert log.records == records
        log.close()
    other = schedule(tmp_path, "[{change: invert, at: 251}]")
    for each in (None, other):
        with pytest.raises(UsageError, match="begun with another drift: give the same one, or another folder"):
            fed(Camera(200), each, path)
    with pytest.raises(UsageError, match="begun with another drift"):
        Publisher("tcp://127.0.0.1:*", partitions=1, path=path)


def test_a_schedule_that_was_mended_finds_no_folder_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in ("[{change: swap, classes: [0, hat], at: 5}]", "[{change: swap, classes: [7, 8], at: 5}]"):
        with pytest.raises(UsageError, match=r"--drift, change 1 .*: the stream has no class"):
            fed(Declared(), schedule(tmp_path, text), str(path))
        assert not path.exists()
    fed(Declared(), schedule(tmp_path, "[{change: swap, classes: [0, coat], at: 5}]"), str(path)).log.close()


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[{change: rotat, at: 5}]", "change 1: there is no change 'rotat': give one of rotate, noise, darken"),
        ("[{change: [invert], at: 5}]", "there is no change .'invert'.: give one of"),
        ("[{change: invert, at: 5}, {change: rotate, at: 5}]", "change 2: rotate needs 'degrees' as well"),
        ("[{change: invert}]", "invert needs 'at' as well"),
        ("[{change: rotate, degres: 3, at: 5}]", "rotate takes no 'degres': it takes degrees, at, until, over, every"),
        ("[{change: rotate, degrees: much, at: 5}]", "degrees 'much': give a number from -360 to 360"),
        ("[{change: rotate, degrees: .nan, at: 5}]", "degrees nan: give a number"),
        ("[{change: noise, levels: 2.5, at: 5}]", "levels 2.5: give a whole number"),
        ("[{change: darken, light: 2, at: 5}]", "light 2: give a number from 0 to 1"),
        ("[{change: swap, classes: [1, 1], at: 5}]", "classes .1, 1.: give two"),
        ("[{change: thin, share: 0.5, at: 5}]", "share 0.5: give classes with their shares"),
        ("[{change: thin, share: {1: 2}, at: 5}]", "share of 1 2: give a number from 0 to 1"),
        ("[{change: appear, classes: 1, at: 5}]", "classes 1: give a list"),
        ("[{change: invert, at: soon}]", "at 'soon': give a number of records"),
        ("[{change: invert, at: -1}]", "numbers of records, from 0"),
        ("[{change: invert, at: 5, until: 3}]", "it would end .until 3. before it has begun"),
        ("[{change: invert, at: 5, until: 9, every: 2}]", "it would come again .every 2. before it has ended"),
        ("[3]", "3 is no change: give a YAML list"),
        ("{change: invert, at: 5}", "holds no list: give a YAML list"),
        ("", "holds no list: give a YAML list"),
        ("[{", "is no YAML .line 1: .*: give a YAML list"),
        ("[" + "{change: invert, at: 5}," * 65 + "]", "holds 65 changes: a stream has at most 64"),
    ],
)
def test_a_mistake_is_said_with_the_change_and_the_mend(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        schedule(tmp_path, text)


def test_the_schedule_of_the_examples_goes_with_its_stream() -> None:
    drift = Drift(read_schedule(Path(__file__).parents[2] / "examples" / "changes.yaml"), FASHION_MNIST)
    assert [change.what for change in drift.changes] == ["invert", "rotate {degrees: 90}"]


def test_a_schedule_that_does_not_go_with_the_records_is_refused(tmp_path: Path) -> None:
    plain = Schema((Field("x", "float32"),))
    for text in ("[{change: invert, at: 5}]", "[{change: appear, classes: [1], at: 5}]"):
        with pytest.raises(UsageError, match=r"--drift, change 1 .*: the records have no .*: leave this change out"):
            Drift(schedule(tmp_path, text), plain)
    with pytest.raises(UsageError, match=r"cannot be read .No such file.*: give a YAML list"):
        read_schedule(tmp_path / "none.yaml")
