import io
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from trainer.rng import capture_generators, drawing_from, restore_generators, seed_generators

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def generators_left_as_they_were() -> Iterator[None]:
    state = capture_generators(CPU)
    yield
    restore_generators(state, CPU)


def draws(device: torch.device = CPU) -> list[float]:
    # gauss and standard_normal keep a second value for the next call: part of the state
    return [
        *torch.rand(3).tolist(),
        *torch.rand(3, device=device).tolist(),
        *np.random.standard_normal(3),  # noqa: NPY002
        random.gauss(0, 1),
        random.random(),
    ]


def through_a_checkpoint(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def test_one_seed_starts_them_all() -> None:
    seed_generators(7)
    first = draws()
    seed_generators(7)
    assert draws() == first
    seed_generators(8)
    assert not set(draws()) & set(first)


def test_a_seed_may_be_larger_than_numpy_takes() -> None:
    seed_generators((1 << 40) + 1)


@pytest.mark.parametrize("drawn_before", [0, 1, 2])
def test_what_follows_a_restore_is_what_followed_the_capture(drawn_before: int) -> None:
    seed_generators(7)
    for _ in range(drawn_before):
        draws()
    state = through_a_checkpoint(capture_generators(CPU))
    expected = draws()
    draws()
    restore_generators(state, CPU)
    assert draws() == expected


def test_what_was_captured_does_not_change_with_later_draws() -> None:
    seed_generators(7)
    state = capture_generators(CPU)
    expected = draws()
    restore_generators(state, CPU)
    assert draws() == expected


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_draws_are_repeated_too() -> None:
    device = torch.device("cuda", 0)
    seed_generators(7)
    state = through_a_checkpoint(capture_generators(device))
    expected = draws(device)
    restore_generators(state, device)
    assert draws(device) == expected


def test_what_is_drawn_from_a_seed_of_its_own_is_no_part_of_what_is_drawn_elsewhere() -> None:
    def inside(seed: int) -> list[float]:
        with drawing_from(seed, CPU):
            return [*torch.rand(3).tolist(), random.gauss(0, 1), random.random()]

    seed_generators(7)
    expected = draws(), draws()
    seed_generators(7)
    before = draws()
    one = inside(1 << 63)
    assert (before, draws()) == expected
    assert inside(1 << 63) == one
    assert not set(inside(5)) & set(one)


def test_an_error_inside_leaves_the_generators_as_they_were() -> None:
    seed_generators(7)
    expected = torch.rand(3)
    seed_generators(7)
    with pytest.raises(IndexError), drawing_from(3, CPU):
        random.choice(torch.rand(0).tolist())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_draws_from_that_seed_as_well_and_then_goes_on() -> None:
    device = torch.device("cuda", 0)

    def inside() -> list[float]:
        with drawing_from(3, device):
            return [*torch.rand(3, device=device).tolist()]

    seed_generators(7)
    one = inside()
    expected = draws(device)
    seed_generators(7)
    assert draws(device) == expected
    assert inside() == one
