"""Row 10: the link between the two is delayed, cut, or loses its connections."""

import time
from pathlib import Path

import pytest
import zmq
from zmq.utils.monitor import parse_monitor_message

from protocol.handshake import ASK_EVERY_S
from protocol.subscription import ReaderSettings
from protocol.zmq_transport import ZmqReader
from tests.faults.conftest import Row
from tests.faults.proxy import Proxy
from tests.trainer.counted_run import AHEAD_STEPS, CountedRun, free_address
from tests.trainer.lives import Nursery

#: How soon a reader tries to connect again, and how seldom at last; ZeroMQ draws up to as much again on top.
FIRST_S, MOST_S = 0.1, 2.0
WORKERS = 2
AWAY = "the producer is away; waiting for it"


@pytest.mark.faults
def test_a_reader_connects_again_with_a_back_off() -> None:
    reader = ZmqReader(free_address(), ReaderSettings())
    reader._socket.disable_monitor()  # a socket has one monitor, and the reader's looks at handshakes
    reader._socket.monitor("inproc://retried", zmq.EVENT_CONNECT_RETRIED)
    retried = reader._context.socket(zmq.PAIR)
    retried.connect("inproc://retried")
    pauses_s: list[float] = []
    while not pauses_s or pauses_s[-1] < MOST_S:
        assert retried.poll(10_000)
        pauses_s.append(parse_monitor_message(retried.recv_multipart())["value"] / 1000)
    reader._socket.disable_monitor()
    reader.close()
    assert FIRST_S <= pauses_s[0] < 2 * FIRST_S
    assert pauses_s == sorted(pauses_s)
    assert len(pauses_s) < 10


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_bad_link_loses_nothing_and_is_not_stormed(tmp_path: Path, nursery: Nursery, seed: int, row: Row) -> None:
    with CountedRun(tmp_path, nursery, seed, passes=15, workers=[WORKERS]) as run, Proxy(run.bound) as proxy:
        run.url = proxy.url
        life = run.train()
        run.wait_for_steps(life, AHEAD_STEPS)

        def train_on() -> None:
            run.wait_for_steps(life, run.moment.steps + AHEAD_STEPS)

        for _ in range(20):
            proxy.drop(run.drawn)
            time.sleep(run.drawn.uniform(0, 0.3))
        train_on()
        proxy.delay_s = 1.0
        for _ in range(5):
            train_on()
            proxy.drop(run.drawn)
        train_on()
        proxy.delay_s = 0.0
        for pause_s in run.drawn.sample([0.1, 1.0, 3.0, 10.0], 4):
            proxy.cut()
            time.sleep(pause_s)
            proxy.mend()
            mended_s = time.monotonic()
            train_on()
            back_s = [at_s - mended_s for at_s in proxy.connected_s if at_s > mended_s]
            assert min(back_s) < 2 * MOST_S + 1
        proxy.turns_away = True
        proxy.drop()
        turned_s, before = time.monotonic(), len(proxy.connected_s)
        run.hear(life, AWAY, run.said().count(AWAY) + 1)
        time.sleep(10)
        proxy.turns_away = False
        attempts, turned_s = len(proxy.connected_s) - before, time.monotonic() - turned_s
        train_on()
        # A commit has a connection of its own; the workers' readers are there all the time. Each looks at the greeting
        # now and then.
        assert attempts <= (WORKERS + 1) * (turned_s / FIRST_S + turned_s / ASK_EVERY_S + 2)
        run.finish()
        assert run.trainer is life
        row(
            10,
            "link (a proxy) with 25 connections reset, 1 s of delay each way, cut four times for 0.1 to 10 s, and a "
            f"gateway that turned everybody away for {turned_s:.0f} s",
            f"all counts 1 in each of {run.passes} passes in one life of the trainer; back within "
            f"{2 * MOST_S:.0f} s of the mend, where connecting is refused after pauses that double up to that; "
            f"{attempts / turned_s / (WORKERS + 1):.0f} attempts a second and connection at the gateway",
        )
