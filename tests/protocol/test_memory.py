"""A process that frees a chunk's memory again and again keeps it, and asks the system for nothing more."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from protocol.memory import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else "not asked")
def chunks():
    for _ in range(40):
        held = [bytearray(1 << 20) for _ in range(8)]
        del held
chunks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
chunks()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(asked: str) -> tuple[str, int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, asked], capture_output=True, text=True, check=True)
    said, faults = done.stdout.split()[0], done.stdout.split()[-1]
    return said, int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="the C library is another one")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    kept, few = page_faults("keep")
    _, many = page_faults("leave")
    if kept != "True":
        pytest.skip("this C library has no mallopt")
    assert few < many / 10, f"{few} page faults with, {many} without"
