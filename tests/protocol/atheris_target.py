"""The codec and both sessions under atheris (coverage-guided; github.com/google/atheris), where it is installed.

python -m tests.protocol.atheris_target -max_total_time=60 CORPUS
"""

import random
import sys

import atheris

with atheris.instrument_imports(include=["protocol", "producer"]):
    from tests.protocol.fuzzing import HostilePeers, HostileServer

PEERS, SERVER = HostilePeers(random.Random(0)), HostileServer()


def send(data: bytes) -> None:
    """The first byte says where frame 0 ends, in 256ths; whatever is raised here is a fault."""
    cut = len(data) if not data or data[0] & 0x80 else len(data) * data[0] // 128
    frames = [data[:cut], data[cut:]] if cut < len(data) else [data]
    PEERS.send(frames)
    SERVER.send(frames)


if __name__ == "__main__":
    atheris.Setup(sys.argv, send)
    atheris.Fuzz()
