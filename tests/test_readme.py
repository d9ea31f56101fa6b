"""The README's two five-line examples, as they stand: two programs that only get what the text leaves to the reader."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
PORT = 5555

CAMERA = """
import numpy as np

def camera():
    for number in range(300):
        yield np.full((1, 4, 4), number % 251, np.uint8), number
"""
STEP = """
labels = []

def step(image, label):
    assert image.shape[1:] == (1, 4, 4)
    labels.extend(label.tolist())
"""
SHOW = """
print(sorted(labels) == list(range(300)), len(labels))
"""


def example(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None, f"the README has no example {name!r}"
    return found[1]


def test_the_two_examples_of_the_readme_pass_every_record_once() -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            pytest.skip(f"port {PORT}, which the README uses, is taken on this machine")
    capture = subprocess.Popen([sys.executable, "-c", CAMERA + example("capture")], stderr=subprocess.PIPE, text=True)
    training = subprocess.run(
        [sys.executable, "-c", STEP + example("training") + SHOW],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    _, complaint = capture.communicate(timeout=60)
    assert training.returncode == 0, training.stderr
    assert training.stdout.split() == ["True", "300"]
    assert capture.returncode == 0, complaint


def test_the_examples_are_five_lines() -> None:
    for name in ("capture", "training"):
        assert len([line for line in example(name).splitlines() if line.strip()]) <= 5
