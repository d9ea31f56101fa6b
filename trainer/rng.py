"""The random generators that a training run may draw from: seeded at the start, carried through a checkpoint.

Data order and splits never depend on them (they are functions of the stream's seed); what does is the
initialisation of the model and whatever the model draws while it trains, dropout for one.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

#: numpy's global generator takes 32 bits.
NUMPY_SEEDS = 1 << 32


def seed_generators(seed: int) -> None:
    """Start Python's, numpy's and torch's global generators (the CPU's and every CUDA device's) from one seed."""
    random.seed(seed)
    np.random.seed(seed % NUMPY_SEEDS)  # noqa: NPY002  (libraries draw from the global one)
    torch.manual_seed(seed)


@contextmanager
def drawing_from(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, Python's and torch's draw from `seed`, of 64 bits; then they go on as if nothing had been drawn.

    Of CUDA's only that of `device` is looked after. Cheap enough for each batch, which torch's `fork_rng` with
    `manual_seed` (0.7 ms) and numpy's state (0.2 ms) are not.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    states = [generator.get_state() for generator in generators]
    python = random.getstate()
    try:
        for generator in generators:
            generator.manual_seed(seed)
        random.seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        random.setstate(python)


def capture_generators(device: torch.device) -> dict[str, Any]:
    """The state of all of them in values that `torch.load(weights_only=True)` reads.

    Of CUDA's generators only that of `device` is taken; a run trains on one.
    """
    numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    version, words, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": {
            "key": torch.from_numpy(numpy["state"]["key"].astype(np.int64)),
            "pos": int(numpy["state"]["pos"]),
            "has_gauss": int(numpy["has_gauss"]),
            "gauss": float(numpy["gauss"]),
        },
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "gauss_next": gauss_next},
    }


def restore_generators(state: dict[str, Any], device: torch.device) -> None:
    """The reverse of `capture_generators`.

    A run that goes on on another kind of device cannot repeat the first one's draws: CUDA's generator then
    keeps the state that seeding gave it.
    """
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    numpy = state["numpy"]
    key = numpy["key"].numpy().astype(np.uint32)
    np.random.set_state(  # noqa: NPY002
        {
            "bit_generator": "MT19937",
            "state": {"key": key, "pos": numpy["pos"]},
            "has_gauss": numpy["has_gauss"],
            "gauss": numpy["gauss"],
        }
    )
    python = state["python"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss_next"]))
