"""Whatever comes over the wire: an error that says whose fault it was, little memory, and no other reader harmed."""

import importlib.util
import random
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codec import decode_reply, decode_request, encode
from protocol.errors import PeerError
from protocol.messages import Request
from tests.allocations import at_most
from tests.protocol.drawn_messages import requests
from tests.protocol.fuzzing import GOLDEN, HOSTILE, REPLIES, REQUESTS, HostilePeers, HostileServer, Mutator

MIB = 1 << 20
ALL = list(range(14))


@pytest.mark.parametrize("name", HOSTILE)
def test_what_was_found_once_does_no_harm_again(name: str) -> None:
    with at_most(MIB):
        for decode in (decode_request, decode_reply):
            with pytest.raises(PeerError):
                decode(HOSTILE[name])


def fuzz(seed: int, frames: int, *, check_every: int) -> None:
    """So many frames, half of them against a server and half against a reader, and an honest reader in between."""
    draw = random.Random(seed)
    to_server, to_reader = Mutator(draw, REQUESTS), Mutator(draw, REPLIES)
    peers, server = HostilePeers(draw), HostileServer()
    for number in range(frames // 2):
        peers.send(to_server.frames())
        server.send(to_reader.frames())
        if number % check_every == 0:
            assert peers.read() == ALL, f"frame {2 * number}"
    assert peers.read() == ALL
    assert peers.service.refused.total() >= peers.refused > 0.8 * frames / 2, "each is counted; most of them were bad"
    assert peers.refused < frames / 2, "none was obeyed, so this shows less than it could"
    assert 0 < server.failed < frames / 2


@pytest.mark.slow
def test_mutated_messages_raise_nothing_but_what_is_meant_and_harm_no_other_reader(seed: int) -> None:
    with at_most(8 * MIB):
        fuzz(seed, 4000, check_every=100)


@pytest.mark.faults
def test_a_million_mutated_messages_raise_nothing_but_what_is_meant_and_harm_no_other_reader(seed: int) -> None:
    fuzz(seed, 20_000, check_every=500)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fuzz(seed + 1, 1_000_000, check_every=500)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"a million frames: the most memory that was ever held grew by {grown / MIB:.1f} MiB")
    assert grown < 64 * MIB


@given(asked=st.lists(requests, max_size=30), seed=st.integers(0, 1 << 16))
@settings(max_examples=50)
def test_requests_that_are_well_formed_and_mean_nothing_harm_no_other_reader(asked: list[Request], seed: int) -> None:
    peers = HostilePeers(random.Random(seed))
    for request in asked:
        peers.send(encode(request))
    assert peers.read() == ALL


@pytest.mark.faults
def test_frames_that_a_coverage_guided_fuzzer_finds_raise_nothing_but_what_is_meant(seed: int, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed (pip install atheris): the seeded fuzzer ran alone")
    for name, frames in (GOLDEN | HOSTILE).items():
        (tmp_path / name.replace(" ", "-")).write_bytes(b"".join(frames))
    command = [sys.executable, "-m", "tests.protocol.atheris_target", f"-seed={seed}", "-max_total_time=120"]
    command += [f"-artifact_prefix={tmp_path}/", str(tmp_path)]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    print(found.stderr[-1500:])
    assert found.returncode == 0


def test_a_fault_in_a_session_would_be_seen() -> None:
    """The fuzzer lets nothing through but what is meant."""
    peers = HostilePeers(random.Random(0))
    peers.service.receive = None  # type: ignore[method-assign, assignment]
    with pytest.raises(TypeError), suppress(PeerError):
        peers.send(GOLDEN["describe"])
