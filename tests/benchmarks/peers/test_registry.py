import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import processes
from benchmarks.peers import registry
from benchmarks.peers.registry import PEERS, Peer, PeerFailed, PeerResult, run_peer
from tests.programs import wait_until

DATA = Path(os.environ.get("HEADRACE_DATA", "data"))
FIGURES: dict[str, Any] = {
    "records_per_s": 2.0,
    "records": 4,
    "cpu_s_per_million": 1.0,
    "peak_bytes": 5,
    "verified": True,
    "version": "1",
}


def peer(name: str) -> Peer:
    return next(peer for peer in PEERS if peer.name == name)


def measured(peer: Peer, workers: int = 0, seconds: float = 0.3, timeout_s: float = 100, rate: float = 0) -> PeerResult:
    return run_peer(
        peer,
        data=DATA,
        batch_size=16,
        workers=workers,
        seconds=seconds,
        timeout_s=timeout_s,
        say=print,
        rate=rate,
    )


def script(folder: Path, text: str) -> Peer:
    path = folder / "script.py"
    path.write_text(text)
    return Peer(name="made here", script=str(path))


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made, and nothing else."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.mark.long
@pytest.mark.parametrize(("name", "workers"), [("torchvision", 0), ("torchvision", 2), ("naive", 2)])
def test_what_is_always_measured_delivers_the_training_side(name: str, workers: int, temporary: Path) -> None:
    result = measured(peer(name), workers)
    assert peer(name).always
    assert not peer(name).requirements
    assert result.verified
    assert result.records >= 16
    assert result.records_per_s > 0
    assert result.cpu_s_per_million > 0
    assert result.peak_bytes > 50e6, "torch alone takes more"
    assert not list(temporary.iterdir())


@pytest.mark.long
def test_a_paced_peer_keeps_its_pace_and_tells_the_age_of_its_records() -> None:
    rate, start_s = 100, time.monotonic()
    result = measured(peer("naive"), rate=rate)
    assert 0 < result.records <= rate * (time.monotonic() - start_s)
    assert result.age_p50_ms is not None
    assert result.age_p99_ms is not None
    assert 0 <= result.age_p50_ms <= result.age_p99_ms


@pytest.mark.long
@pytest.mark.slow
def test_a_peer_that_delivers_what_it_should_not_gives_no_figures(tmp_path: Path) -> None:
    wrong = script(
        tmp_path,
        "import torch\n"
        "from benchmarks.peers.measuring import measure, over_and_over, parser\n"
        "batch = torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)\n"
        "measure(parser().parse_args(), over_and_over([batch]), version='0')\n",
    )
    with pytest.raises(PeerFailed, match=r"^image 0 of a batch is none of the training pictures$"):
        measured(wrong)


def test_figures_are_read_from_the_last_line(tmp_path: Path) -> None:
    assert measured(script(tmp_path, f"print('chatter')\nprint({json.dumps(json.dumps(FIGURES))})")) == PeerResult(
        **FIGURES
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("raise RuntimeError('two\\nlines')", "lines"),
        ("import a_module_that_nobody_has", "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "it ended with status -9 and said nothing"),
        ("print('hello')", "its last line is not JSON but 'hello'"),
        ("pass", "its last line is not JSON but ''"),
        ("print('{\"records\": 4}')", "its figures are of batches that nobody has verified"),
        ("print('{\"verified\": true}')", "its figures are not those that are due: "),
    ],
    ids=["raises", "lacks a package", "is killed", "prints no JSON", "prints nothing", "verifies nothing", "forgets"],
)
def test_a_script_that_fails_is_one_line_that_says_why(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(PeerFailed) as raised:
        measured(script(tmp_path, text))
    assert str(raised.value).startswith(complaint)
    assert len(str(raised.value).splitlines()) == 1


# A child and its child in a process group of its own, which ignore what they can; then the script goes, or hangs.
FAMILY = """
import os, signal, sys, time
from multiprocessing.shared_memory import SharedMemory
held = SharedMemory(create=True, size=4096, name=sys.argv[sys.argv.index("--scratch") + 1].rpartition("/")[2])
for _ in range(2):
    if os.fork():
        break
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    open(NOTE + ".new", "w").write(f"{os.getsid(0)} {held.name}")
    os.rename(NOTE + ".new", NOTE)
    time.sleep(1000)
while not os.path.exists(NOTE):
    time.sleep(0.01)
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("then", "complaint"),
    [("time.sleep(1000)", "no figures within 5 s"), ("os._exit(5)", "it ended with status 5 and said nothing")],
    ids=["hangs", "goes before its children"],
)
def test_nothing_is_left_of_a_script(then: str, complaint: str, tmp_path: Path, temporary: Path) -> None:
    note = tmp_path / "note"
    family = script(tmp_path, f"NOTE = {str(note)!r}\n{FAMILY}\n{then}")
    with pytest.raises(PeerFailed, match=complaint):
        measured(family, timeout_s=5)
    session, name = note.read_text().split()
    assert processes.members(int(session)) == {}
    assert not Path("/dev/shm", name).exists()
    assert not list(temporary.iterdir())


def test_an_interrupt_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "note"
    family = script(tmp_path, f"NOTE = {str(note)!r}\n{FAMILY}\ntime.sleep(1000)")

    def interrupted(*args: object) -> int:
        wait_until(note.exists, "the family")
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.Popen.wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measured(family)
    assert processes.members(int(note.read_text().split()[0])) == {}


def test_every_peer_has_its_script_and_a_name_of_its_own() -> None:
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    for each in PEERS:
        assert (registry.HERE / each.script).is_file()
        assert all(requirement.count("==") == 1 for requirement in each.requirements), "pins make it repeatable"
