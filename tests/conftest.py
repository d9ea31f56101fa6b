"""What tests of several rooms share."""

import os
import random

import pytest


@pytest.fixture
def seed() -> int:
    """SEED from the environment, which repeats a test that has failed, else a new one; it is printed."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"SEED={seed}")
    return seed
