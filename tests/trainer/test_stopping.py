import gzip
import io
import os
from math import nan
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import UsageError
from trainer.metrics import Window
from trainer.model import GarmentClassifier
from trainer.step import train_step
from trainer.stopping import Stopping, StoppingSettings, Verdict
from trainer.tasks import Classification
from trainer.validation import validate

BEST = Verdict(best=True, overfitting=False, stop=False)
NOTHING = Verdict(best=False, overfitting=False, stop=False)


def verdicts(stopping: Stopping, losses: list[tuple[float, float]]) -> list[Verdict]:
    return [stopping.observe(100 * number, *pair) for number, pair in enumerate(losses, start=1)]


def test_over_fitting_is_said_once_after_k_validations_in_which_only_the_training_loss_fell() -> None:
    stopping = Stopping(StoppingSettings(overfitting_after=3))
    losses = [(1.0, 0.9), (0.9, 0.8), (0.8, 0.8), (0.7, 0.85), (0.6, 0.9), (0.5, 1.0), (0.4, 1.1)]
    said = Verdict(best=False, overfitting=True, stop=False)
    assert verdicts(stopping, losses) == [BEST, BEST, NOTHING, NOTHING, said, NOTHING, NOTHING]
    assert stopping.explanation() == (
        "over-fitting: 5 validations without a loss below 0.8000 (at 200 samples) "
        "while the training loss went on falling"
    )


def test_a_new_best_ends_the_episode_and_the_next_one_is_said_anew() -> None:
    stopping = Stopping(StoppingSettings(overfitting_after=2))
    losses = [(1.0, 0.9), (0.9, 1.0), (0.8, 1.0), (0.7, 0.5), (0.6, 0.6), (0.5, 0.6)]
    assert [verdict.overfitting for verdict in verdicts(stopping, losses)] == [False, False, True, False, False, True]


def test_a_run_that_has_come_to_rest_is_not_over_fitted() -> None:
    stopping = Stopping(StoppingSettings(overfitting_after=3, early_stop=3))
    assert verdicts(stopping, [(1.0, 0.9)] + [(1.0, 0.9)] * 50) == [BEST] + [NOTHING] * 50


def test_a_stream_that_became_harder_is_not_over_fitting() -> None:
    stopping = Stopping(StoppingSettings(overfitting_after=3, early_stop=3))
    harder = [(1.0 + step / 10, 0.9 + step / 10) for step in range(20)]
    assert verdicts(stopping, harder) == [BEST] + [NOTHING] * 19


def test_early_stop_ends_the_run_after_its_own_number() -> None:
    stopping = Stopping(StoppingSettings(overfitting_after=1, early_stop=3))
    losses = [(1.0, 0.9), (0.9, 1.0), (0.8, 1.0), (0.8, 1.0), (0.7, 1.0), (0.6, 1.0)]
    assert [verdict.stop for verdict in verdicts(stopping, losses)] == [False, False, False, False, True, True]


def test_without_early_stop_it_never_stops() -> None:
    stopping = Stopping(StoppingSettings(overfitting_after=1))
    assert not any(v.stop for v in verdicts(stopping, [(1.0 - step / 100, 1.0 + step) for step in range(90)]))


def test_the_best_is_the_least_and_where_it_was() -> None:
    stopping = Stopping(StoppingSettings())
    assert [v.best for v in verdicts(stopping, [(1, 0.9), (1, 0.7), (1, 0.7), (1, nan), (1, 0.8), (1, 0.6)])] == [
        *(True, True, False, False, False, True),
    ]
    assert (stopping.best_loss, stopping.best_samples) == (0.6, 600)


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), max_size=30), st.integers(0, 30), st.integers(1, 4))
def test_saved_anywhere_and_restored_it_judges_the_same(
    losses: list[tuple[float, float]], cut: int, validations: int
) -> None:
    settings = StoppingSettings(overfitting_after=validations, early_stop=validations + 1)
    expected = verdicts(Stopping(settings), losses)
    first, second = Stopping(settings), Stopping(settings)
    before = verdicts(first, losses[:cut])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert before + verdicts(second, losses[cut:]) == expected


@pytest.mark.parametrize("settings", [{"overfitting_after": 0}, {"overfitting_after": -1}, {"early_stop": -1}])
def test_numbers_that_mean_nothing_are_the_users_mistake(settings: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="give"):
        StoppingSettings(**settings)


def pictures_of_garments() -> tuple[np.ndarray, np.ndarray] | None:
    """The training pictures where they lie as torchvision unpacks them."""
    raw = Path(os.environ.get("HEADRACE_DATA", "data")) / "FashionMNIST" / "raw"
    found: list[np.ndarray] = []
    for name, header in (("train-images-idx3-ubyte", 16), ("train-labels-idx1-ubyte", 8)):
        if (raw / name).exists():
            found.append(np.fromfile(raw / name, dtype=np.uint8, offset=header))
        elif (raw / f"{name}.gz").exists():
            found.append(np.frombuffer(gzip.decompress((raw / f"{name}.gz").read_bytes()), np.uint8, offset=header))
        else:
            return None
    return found[0].reshape(-1, 1, 28, 28), found[1]


def pictures_of_noise(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten faint patterns under noise: few pictures are sooner learnt by heart than understood."""
    random = np.random.RandomState(0)
    patterns, labels = random.rand(10, 1, 28, 28), random.randint(0, 10, count)
    noisy = patterns[labels] * 0.35 + random.rand(count, 1, 28, 28) * 0.65
    return (noisy * 255).astype(np.uint8), labels.astype(np.uint8)


def passes_until_stop(
    images: np.ndarray, labels: np.ndarray, train: int, early_stop: int
) -> list[tuple[Verdict, dict[str, float]]]:
    """Train LeNet on the first `train` pictures, validate on the others after each pass."""
    torch.manual_seed(0)
    order = np.random.RandomState(0)
    columns = {"image": torch.from_numpy(images.copy()), "label": torch.from_numpy(labels.astype(np.int64))}
    held_out = [{name: column[train:] for name, column in columns.items()}]
    model, task, window, cpu = GarmentClassifier(), Classification(), Window(), torch.device("cpu")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
    stopping = Stopping(StoppingSettings(overfitting_after=3, early_stop=early_stop))
    history: list[tuple[Verdict, dict[str, float]]] = []
    for number in range(1, 61):
        for rows in np.split(order.permutation(train), train // 50):
            prepared = task.prepare({name: column[rows] for name, column in columns.items()}, cpu)
            window.add(train_step(model, optimizer, task, prepared))
        found = validate(model, task, held_out, cpu)
        verdict = stopping.observe(number * train, window.read()["loss"], found["loss"])
        history.append((verdict, found))
        window.reset()
        if verdict.stop:
            break
    return history


def assert_that_over_fitting_was_seen(history: list[tuple[Verdict, dict[str, float]]]) -> None:
    said = [number for number, (verdict, _) in enumerate(history) if verdict.overfitting]
    best = max(number for number, (verdict, _) in enumerate(history) if verdict.best)
    assert said, "over-fitting was never said"
    assert history[-1][0].stop, "it never stopped"
    assert len(history) < 60
    assert best < said[-1] < len(history) - 1
    assert history[-1][1]["loss"] > history[best][1]["loss"]


@pytest.mark.slow
def test_a_network_that_learns_noise_by_heart_is_stopped() -> None:
    assert_that_over_fitting_was_seen(passes_until_stop(*pictures_of_noise(900), train=600, early_stop=5))


@pytest.mark.long
def test_a_network_that_sees_2000_garments_many_times_is_stopped() -> None:
    garments = pictures_of_garments()
    if garments is None:
        pytest.skip("FashionMNIST is neither in $HEADRACE_DATA nor in ./data")
    images, labels = garments
    assert_that_over_fitting_was_seen(passes_until_stop(images[:3000], labels[:3000], train=2000, early_stop=5))
