"""The account of a run: each number of it that is wrong is found, also against what the producer says."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import LedgerUnbalanced, UsageError
from trainer.audit import Account, Served, rows
from trainer.checkpoint_files import CHECKPOINTS, write
from trainer.commands import main
from trainer.ledger import FATES
from trainer.mixed_position import MIX_VERSION
from trainer.position import STATE_VERSION


def ledger(**fates: list[int]) -> dict[str, Any]:
    nothing: dict[str, Any] = {fate: [0, 0] for fate in FATES}
    return {"start": {0: 0, 1: 2}, **nothing, **fates}


def state() -> dict[str, Any]:
    """35 samples: 20 of a stream that is gone, 15 of the one that followed."""
    nothing = {"trained": {}, "window": 0}
    gone = {"incarnation": "gone", "ended": False, "positions": {0: 17, 1: 10}}
    gone["ledger"] = ledger(trained=[12, 8], lost=[5, 0])
    now = {"incarnation": "now", "ended": False, "positions": {0: 13, 1: 8}, "version": STATE_VERSION, "group": "run"}
    now["ledger"] = ledger(trained=[10, 5], skipped=[0, 1], rejected=[3, 0])
    return {"samples": 35, "stream": now | {"earlier": [gone], "ahead": nothing}}


SERVED = Served(
    incarnation="now", log_start={0: 0, 1: 0}, log_end={0: 20, 1: 20}, committed={0: 13, 1: 4}, simulated=False
)


def test_it_holds() -> None:
    account = Account(state())
    account.check(SERVED)
    assert account.totals == {**dict.fromkeys(FATES, 0), "trained": 35, "skipped": 1, "rejected": 3, "lost": 5}
    assert [row["balance"] for stream in account.streams for row in rows(stream)] == [0, 0, 0, 0]


def samples(state: dict[str, Any]) -> None:
    state["samples"] -= 1


def trained(state: dict[str, Any]) -> None:
    state["stream"]["ledger"]["trained"][1] -= 1


def trained_elsewhere(state: dict[str, Any]) -> None:
    state["stream"]["ledger"]["trained"] = [11, 4]


def position(state: dict[str, Any]) -> None:
    state["stream"]["positions"][0] -= 1


def start(state: dict[str, Any]) -> None:
    state["stream"]["ledger"]["start"][1] -= 1


def fate(name: str, partition: int) -> Callable[[dict[str, Any]], None]:
    def break_it(state: dict[str, Any]) -> None:
        state["stream"]["ledger"][name][partition] -= 1

    return break_it


def lost_of_the_stream_before(state: dict[str, Any]) -> None:
    state["stream"]["earlier"][0]["ledger"]["lost"][0] -= 1


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (samples, "trained: the ledger has 35 records, the checkpoint 34"),
        (trained, "trained: the ledger has 34 records, the checkpoint 35"),
        (trained_elsewhere, "start or position or rejected: 13 records of partition 0 have passed and 14 are"),
        (position, "start or position or rejected: 12 records of partition 0 have passed and 13 are accounted for"),
        (start, "start or position or skipped: 7 records of partition 1 have passed and 6 are accounted for"),
        (fate("skipped", 1), "start or position: 6 records of partition 1 have passed and 5 are"),
        (fate("rejected", 0), "start or position or rejected: 13 records of partition 0 have passed and 12 are"),
        (fate("held_out", 0), "13 records of partition 0 have passed and 12 are"),
        (lost_of_the_stream_before, "start or position or lost: 17 records of partition 0 .* in stream gone"),
    ],
)
def test_a_number_that_is_wrong_is_found_and_named(break_it: Callable[[dict[str, Any]], None], said: str) -> None:
    broken = state()
    break_it(broken)
    with pytest.raises(LedgerUnbalanced, match=said):
        Account(broken).check()


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"incarnation": "another"}, "incarnation: found stream another, and the run reads now"),
        ({"log_end": {0: 12, 1: 20}}, "position: 13 of partition 0 lies beyond the log end 12"),
        ({"committed": {0: 14, 1: 0}}, "committed: 14 of partition 0 lies beyond the position 13"),
    ],
)
def test_a_producer_that_says_otherwise_is_named(said: dict[str, Any], wrong: str) -> None:
    with pytest.raises(LedgerUnbalanced, match=wrong):
        Account(state()).check(replace(SERVED, **said))


def test_a_simulated_log_that_was_restarted_may_be_behind_and_a_group_need_not_be_known() -> None:
    Account(state()).check(replace(SERVED, log_end={0: 0, 1: 0}, committed=None, simulated=True))


def test_what_a_log_has_forgotten_and_what_remains_in_it_is_told_by_partition() -> None:
    stream = Account(state()).streams[-1]
    first, second = rows(stream, replace(SERVED, log_start={0: 16, 1: 0}))
    assert (first["forgotten"], first["remain"], first["committed"]) == (3, 4, 13)
    assert (second["forgotten"], second["remain"], second["committed"]) == (0, 12, 4)


def test_the_command_shows_every_stream_and_says_what_is_wrong_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / CHECKPOINTS, 35, state())
    assert main(["ledger", "--run_dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "stream gone, gone, so it lost at least what is said here" in out
    assert "stream now, being trained" in out
    assert "over all streams: trained 35, held out 0, thinned 0, skipped 1, rejected 3, lost 5, absent 0" in out
    assert out.endswith("the ledger is balanced\n")
    broken = state()
    samples(broken)
    write(tmp_path / CHECKPOINTS, 36, broken)
    with pytest.raises(LedgerUnbalanced, match=r"^trained: "):
        main(["ledger", "--run_dir", str(tmp_path), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["holds"], told["fault"]) == (False, "trained: the ledger has 35 records, the checkpoint 34")
    assert [each["totals"]["lost"] for each in told["streams"]] == [5, 0]


def mixed_state() -> dict[str, Any]:
    """The same stream, and another one beside it whose URL is known as well."""
    one = state()["stream"] | {"url": "tcp://127.0.0.1:1"}
    other = state()["stream"] | {"incarnation": "other", "earlier": [], "url": "tcp://127.0.0.1:2"}
    return {"samples": 50, "stream": {"version": MIX_VERSION, "group": "run", "streams": [one, other]}}


def test_of_a_mix_every_stream_is_held_against_the_log_that_it_is_served_from() -> None:
    account = Account(mixed_state())
    for incarnation in ("now", "other"):
        account.check(replace(SERVED, incarnation=incarnation))
        with pytest.raises(LedgerUnbalanced, match="position: 13 of partition 0"):
            account.check(replace(SERVED, incarnation=incarnation, log_end={0: 12, 1: 20}))
    run = "the run reads now at tcp://127.0.0.1:1 and other at tcp://127.0.0.1:2"
    for none_of_them in ("gone", "another"):
        with pytest.raises(LedgerUnbalanced, match=f"incarnation: found stream {none_of_them}, and {run}"):
            account.check(replace(SERVED, incarnation=none_of_them))
    broken = mixed_state()
    broken["stream"]["streams"][1]["positions"][0] -= 1
    with pytest.raises(LedgerUnbalanced, match=r"of partition 0 have passed .* in stream other"):
        Account(broken).check()
    with pytest.raises(UsageError, match="a mix of version 99"):
        Account({"samples": 0, "stream": mixed_state()["stream"] | {"version": 99}})


def test_the_command_shows_where_each_stream_of_a_mix_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / CHECKPOINTS, 50, mixed_state())
    assert main(["ledger", "--run_dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "stream gone, gone, so it lost at least what is said here" in out
    assert "stream now at tcp://127.0.0.1:1, being trained" in out
    assert "stream other at tcp://127.0.0.1:2, being trained" in out


def test_a_run_without_a_checkpoint_and_a_producer_that_is_not_there_are_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no checkpoint: train first, or give another --run_dir"):
        main(["ledger", "--run_dir", str(tmp_path)])
    with pytest.raises(UsageError, match="or leave --stream out"):
        main(["ledger", "--run_dir", str(tmp_path), "--stream", f"ipc://{tmp_path}/nobody", "--timeout", "0.1"])
    with pytest.raises(UsageError, match="give --stream the URL of one"):
        main(["ledger", "--run_dir", str(tmp_path), "--stream", "tcp://127.0.0.1:1,tcp://127.0.0.1:2"])
