"""A topic straight into the trainer: every record of it exactly once, whatever is killed or cut."""

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.dealing import Positions
from protocol.errors import UsageError
from tests.faults.proxy import Proxy
from tests.protocol.kafka.brokers import MockCluster, committed, create_topic, free_port, produce, shipped_broker
from tests.protocol.kafka.growing_topic import METADATA, GrowingTopic
from tests.trainer.counting import MOMENT_FILE, Moment
from tests.trainer.lives import Forked, Nursery, end, tail, wait, wait_until
from trainer.checkpoint_files import State, load_newest
from trainer.ledger import Ledger
from trainer.loader import StreamLoader

RECORD = np.dtype([("id", "<i8"), ("payload", "u1", (32,)), ("label", "<i8")])
FIELDS = "format=raw&schema=id:int64,payload:uint8[32],label:int64"
PARTITIONS = 4
SECRET = "hush-hush-hush"


def record(number: int) -> bytes:
    """As `tests.trainer.counting` wants it."""
    row = np.zeros((), RECORD)
    row["id"], row["payload"], row["label"] = number, number % 251, number % 10
    return row.tobytes()


def dealt(records: range, partitions: int = PARTITIONS) -> dict[int, list[bytes]]:
    """The records by partition."""
    return {p: [record(each) for each in records if each % partitions == p] for p in range(partitions)}


class Run:
    """Lives of one run on one topic of `records` records; it ends where the topic does."""

    def __init__(
        self,
        folder: Path,
        nursery: Nursery,
        brokers: str,
        records: int,
        *,
        options: str = FIELDS,
        step_s: float = 0.002,
    ) -> None:
        self.folder, self.records, self._nursery, self._step_s = folder, records, nursery, step_s
        self.url = f"kafka://{brokers}/t?{options}&until=end"
        self.moment = Moment(folder / "moment")

    def train(self, workers: int, *options: str) -> Forked:
        """A life with so many workers."""
        self.moment.begin()
        model = ("--model", "tests.trainer.counting.CountingModel", "--model.records", str(self.records))
        task = ("--task", "tests.trainer.counting.Counting", "--task.step_s", str(self._step_s))
        often = ("--checkpoint_every", "300", "--validate_every", "100000", "--report_every", "500")
        where = ("--stream", self.url, "--run_dir", str(self.folder / "run"), "--workers", str(workers))
        plain = ("--tensorboard", "false", "--display", "plain", "--batch_size", "50")
        secret = {"HEADRACE_KAFKA_SASL_PASSWORD": SECRET, "HEADRACE_KAFKA_FETCH_WAIT_MAX_MS": "20"}
        told = {MOMENT_FILE: str(self.folder / "moment"), **secret}
        return self._nursery.train([*where, *model, *task, *often, *plain, *options], self.folder / "log", **told)

    def wait_for_steps(self, life: Forked, steps: int) -> None:
        """Until this life has begun so many."""
        self.wait(life, lambda: self.moment.steps >= steps)

    def wait(self, life: Forked, condition: Callable[[], bool]) -> None:
        """Until it holds; fails where the life ends before."""
        wait_until(lambda: condition() or life.poll() is not None, "its moment")
        assert life.poll() is None, tail(life)

    def state(self) -> State:
        """The last checkpoint's."""
        found = load_newest(self.folder / "run", pytest.fail)
        assert found is not None
        return found[1]

    def assert_each_trained_once(self, positions: Positions) -> State:
        """The oracle: what the model has counted, and what the ledger says; and nobody has written a secret down."""
        files = [each for each in (self.folder / "run").rglob("*") if each.is_file()]
        assert not [each for each in (*files, self.folder / "log") if SECRET.encode() in each.read_bytes()]
        state = self.state()
        counts: dict[int, int] = Counter(state["model"]["counts"].tolist())
        assert counts == {1: self.records}, "records by how often each was trained"
        stream: dict[str, Any] = state["stream"]
        assert stream["positions"] == positions
        ledger = Ledger.from_state(stream["ledger"])
        ledger.check(positions, {}, {})
        assert ledger.totals()["trained"] == self.records
        return state


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.faults)])
def test_a_topic_is_trained_once_over_kills_and_connections_that_are_cut(
    tmp_path: Path, nursery: Nursery, seed: int, kills: int
) -> None:
    drawn, records, port = random.Random(seed), 1200 * (kills + 1), free_port()
    with (
        Proxy(f"tcp://127.0.0.1:{port}") as link,
        shipped_broker(tmp_path, port=port, advertised=link.url.removeprefix("tcp://")) as broker,
    ):
        create_topic(broker, "t", PARTITIONS)
        produce(broker, "t", dealt(range(records)))
        run = Run(tmp_path, nursery, link.url.removeprefix("tcp://"), records, step_s=0.005)
        for number in range(kills):
            life = run.train((2, 0, 1, 3)[number % 4])
            for _ in range(2):
                run.wait_for_steps(life, run.moment.steps + drawn.randint(2, 6))
                link.drop()
            end(life)
        life = run.train(0)
        run.wait_for_steps(life, 2)
        link.drop()
        assert wait(life) == 0, tail(life)
        state = run.assert_each_trained_once(dict.fromkeys(range(PARTITIONS), records // PARTITIONS))
        assert committed(broker, "t", state["stream"]["group"], PARTITIONS) == state["stream"]["positions"]


@pytest.mark.faults
def test_several_records_a_message_are_trained_once_over_a_kill_inside_one(tmp_path: Path, nursery: Nursery) -> None:
    most, sizes = 64, [64, 1, 40, 64, 17] * 10  # batches of 50 end inside messages
    numbers = iter(range(sum(sizes)))
    messages = [b"".join(record(next(numbers)) for _ in range(size)) for size in sizes]
    with shipped_broker(tmp_path) as broker:
        create_topic(broker, "t", 1)
        produce(broker, "t", {0: messages})
        run = Run(tmp_path, nursery, broker, sum(sizes), options=f"{FIELDS}&records_per_message={most}")
        life = run.train(0, "--checkpoint_every", "50")
        run.wait_for_steps(life, 9)
        end(life)
        life = run.train(1)
        assert wait(life) == 0, tail(life)
        state = run.assert_each_trained_once({0: len(sizes) * most})
        ledger = Ledger.from_state(state["stream"]["ledger"])
        assert ledger.totals()["absent"] == len(sizes) * most - sum(sizes)


@pytest.mark.faults
def test_a_bad_message_is_kept_aside_and_counted(tmp_path: Path, nursery: Nursery) -> None:
    with shipped_broker(tmp_path) as broker:
        create_topic(broker, "t", 1)
        produce(broker, "t", {0: [*map(record, range(60)), b"too short", *map(record, range(60, 100))]})
        run = Run(tmp_path, nursery, broker, 100)
        stopped = run.train(0)
        assert wait(stopped) == 1
        assert "the message at partition 0, offset 60 does not fit the stream: a value of 9 bytes" in tail(stopped)
        life = run.train(0, "--on_bad_record", "quarantine")
        assert wait(life) == 0, tail(life)
        state = run.assert_each_trained_once({0: 101})
        assert Ledger.from_state(state["stream"]["ledger"]).totals()["rejected"] == 1


@pytest.mark.faults
def test_what_has_expired_stops_a_run_or_is_in_its_ledger(tmp_path: Path, nursery: Nursery) -> None:
    cluster = MockCluster()
    try:
        cluster.create("t", 2)
        produce(cluster.brokers, "t", dealt(range(400), 2))
        run = Run(tmp_path, nursery, cluster.brokers, 400, step_s=0.1)
        life = run.train(0, "--checkpoint_every", "100")
        run.wait_for_steps(life, 3)
        end(life)
        trained: Positions = run.state()["stream"]["positions"]
        cluster.expire("t", 1, 150)
        stopped = run.train(0)
        assert wait(stopped) == 1, tail(stopped)
        lost = 150 - trained[1]
        assert f"partition 1 lost {lost} records: offsets {trained[1]} to 149" in tail(stopped)
        life = run.train(1, "--on_loss", "continue")
        assert wait(life) == 0, tail(life)
        ledger = Ledger.from_state(run.state()["stream"]["ledger"])
        assert (ledger.totals()["trained"], ledger.totals()["lost"]) == (400 - lost, lost)
        assert run.state()["model"]["counts"].max() == 1
    finally:
        cluster.close()


@pytest.mark.faults
def test_partitions_that_are_added_while_it_runs_are_trained_once_as_well(tmp_path: Path, nursery: Nursery) -> None:
    records, before, after = 1200, 2, 5
    cluster = MockCluster(brokers=1)
    try:
        cluster.limit(METADATA, 4)
        cluster.create("t", after)
        with GrowingTopic(cluster.brokers, before) as grown:
            first, later = dealt(range(600), before), dealt(range(600, records), after)
            produce(cluster.brokers, "t", first)
            run = Run(tmp_path, nursery, grown.address, records, step_s=0.01)
            run.url = run.url.removesuffix("&until=end")
            life = run.train(2, "--max_samples", str(records))
            run.wait_for_steps(life, 3)
            grown.shown = after
            produce(cluster.brokers, "t", later)
            run.wait_for_steps(life, 14)  # more than the first partitions have
            end(life)
            life = run.train(0, "--max_samples", str(records))
            assert wait(life) == 0, tail(life)
        ends = {p: len(first.get(p, ())) + len(later[p]) for p in range(after)}
        run.assert_each_trained_once(ends)
    finally:
        cluster.close()


@pytest.mark.faults
def test_a_topic_is_trained_once_over_brokers_that_go_down(
    tmp_path: Path, nursery: Nursery, seed: int, record_property: Callable[[str, object], None]
) -> None:
    drawn, records, began_s = random.Random(seed), 6000, time.monotonic()
    cluster = MockCluster()
    try:
        cluster.create("t", PARTITIONS)
        produce(cluster.brokers, "t", dealt(range(records)))
        run = Run(tmp_path, nursery, cluster.brokers, records, step_s=0.02)
        down = 0
        for workers in (0, 2, 1):
            life = run.train(workers)
            for _ in range(2):
                run.wait_for_steps(life, run.moment.steps + drawn.randint(1, 10))
                brokers = drawn.sample(range(1, 4), drawn.randint(1, 3))
                for each in brokers:
                    cluster.take_down(each)
                down += len(brokers)
                time.sleep(drawn.uniform(0, 1))
                for each in brokers:
                    cluster.bring_up(each)
            end(life)
        life = run.train(1)
        assert wait(life) == 0, tail(life)
        run.assert_each_trained_once(dict.fromkeys(range(PARTITIONS), records // PARTITIONS))
    finally:
        cluster.close()
    seen = f"{records} records once each, {down} brokers down, 3 kills, {time.monotonic() - began_s:.0f} s"
    record_property("fault", ("kafka", "brokers of a topic go down and come back, the trainer is killed", seen))


@pytest.mark.faults
def test_a_hundred_partitions_are_trained_once(tmp_path: Path, nursery: Nursery) -> None:
    partitions, records = 100, 6000
    with shipped_broker(tmp_path) as broker:
        create_topic(broker, "t", partitions)
        produce(broker, "t", dealt(range(records), partitions))
        run = Run(tmp_path, nursery, broker, records)
        for workers in (3, 0):
            life = run.train(workers)
            run.wait_for_steps(life, 20)
            end(life)
        life = run.train(2)
        assert wait(life) == 0, tail(life)
        run.assert_each_trained_once(dict.fromkeys(range(partitions), records // partitions))


def test_a_first_message_that_shows_other_fields_is_said_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    mock = MockCluster(1)
    try:
        mock.create("shown", 2)
        produce(mock.brokers, "shown", {1: [b'{"x": 1}', b'{"x": 2}']})
        url = f"kafka://{mock.brokers}/shown?format=json&until=end"
        loader = StreamLoader(url, batch_size=2)
        for batch in loader:
            loader.mark_trained(batch)
        state = loader.state_dict()
        under_way = StreamLoader(url, batch_size=2)
        assert under_way.info.schema.fields_text == "x int64"
        produce(mock.brokers, "shown", {0: [b'{"x": 0.5}', b'{"x": 3}']})
        with pytest.raises(UsageError, match=r"shows other fields \(x float64\) than one before it \(x int64\)"):
            list(under_way)
        resumed = StreamLoader(url, batch_size=2, on_loss="continue")
        resumed.load_state_dict(state)
        with pytest.raises(UsageError, match=r"other fields \(x float64\) than were trained on so far \(x int64\)"):
            list(resumed)
        declared = StreamLoader(
            f"{url}&schema=x:int64", batch_size=2, on_loss="continue", quarantine=tmp_path / "quarantine.jsonl"
        )
        declared.load_state_dict(state)
        trained = []
        for batch in declared:
            trained += batch["x"].tolist()
            declared.mark_trained(batch)
        declared.check_ledger()
        assert trained == [3]
        totals = declared.position.totals()
        assert (totals["trained"], totals["rejected"], totals["lost"]) == (3, 1, 0)
    finally:
        mock.close()
