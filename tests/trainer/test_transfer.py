from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from trainer.model import GarmentClassifier
from trainer.step import train_step
from trainer.tasks import Classification
from trainer.transfer import STEPS_AHEAD, CopyStream, open_transfer

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def batches(number: int, count: int = 64) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "id": torch.arange(count),
            "image": torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator),
            "label": torch.randint(0, 10, (count,), generator=generator),
        }
        for _ in range(number)
    ]


def pinned(columns: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: column.pin_memory() for name, column in columns.items()}


def test_on_the_cpu_a_batch_stays_where_it_is() -> None:
    columns = batches(1)[0]
    assert open_transfer(CPU)(columns) is columns


@pytest.mark.cuda
@needs_cuda
def test_a_column_travels_when_it_is_first_looked_at_and_then_never_again() -> None:
    columns = open_transfer(torch.device("cuda", 0))(pinned(batches(1)[0]))
    before = torch.cuda.memory_allocated()
    assert list(columns) == ["id", "image", "label"]
    assert len(columns) == 3
    assert "image" in columns
    assert "picture" not in columns
    assert torch.cuda.memory_allocated() == before
    assert columns["image"].device == torch.device("cuda", 0)
    assert columns["image"].dtype == torch.uint8
    assert columns["image"] is columns["image"]


@pytest.mark.cuda
@needs_cuda
def test_a_column_has_its_values_though_its_memory_is_used_again_at_once() -> None:
    transfer = open_transfer(torch.device("cuda", 0))
    for number in range(50):
        # Dropped as soon as they were copied from: what is pinned next may lie in the same place.
        values = transfer({"x": torch.full((1 << 20,), number, dtype=torch.int32).pin_memory()})["x"]
        assert (values == number).all()


@pytest.mark.cuda
@needs_cuda
def test_training_over_the_copy_stream_gives_the_bits_of_training_without(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    given = [pinned(columns) for columns in batches(100, 256)]
    weights = []
    for transfer in (open_transfer(device), open_transfer(CPU)):
        torch.manual_seed(1)
        model, task = GarmentClassifier().to(device), Classification()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        for columns in given:
            train_step(model, optimizer, task, task.prepare(transfer(columns), device))
        weights.append(list(model.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


@pytest.mark.cuda
@needs_cuda
def test_a_batch_is_copied_on_a_stream_of_its_own_under_the_step_before() -> None:
    device = torch.device("cuda", 0)
    transfer = open_transfer(device)
    given = [{"x": torch.rand(1 << 24).pin_memory()} for _ in range(6)]
    square = torch.rand(4096, 4096, device=device)

    def step(columns: dict[str, torch.Tensor]) -> None:
        torch.sum(transfer(columns)["x"])
        for _ in range(20):
            square @ square

    step(given[0])
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as trace:
        for columns in given:
            step(columns)
        torch.cuda.synchronize()
    events = [event for event in trace.profiler.kineto_results.events() if event.device_type().name == "CUDA"]
    copies = [event for event in events if "Memcpy HtoD" in event.name()]
    kernels = [event for event in events if not event.name().startswith(("Memcpy", "Memset"))]
    assert len(copies) == len(given)
    assert kernels
    streams = {event.device_resource_id() for event in copies}
    assert not streams & {event.device_resource_id() for event in kernels}
    assert sum(any(_overlap(copy, kernel) for kernel in kernels) for copy in copies) >= len(given) - 2


def _overlap(one: Any, other: Any) -> bool:
    return bool(
        max(one.start_ns(), other.start_ns())
        < min(one.start_ns() + one.duration_ns(), other.start_ns() + other.duration_ns())
    )


@pytest.mark.cuda
@needs_cuda
def test_the_program_runs_ahead_by_no_more_than_the_bound() -> None:
    device = torch.device("cuda", 0)
    transfer = CopyStream(device)
    square = torch.rand(8192, 8192, device=device)
    ends: list[torch.cuda.Event] = []
    ahead = []
    for columns in batches(12):
        transfer(columns)["image"]
        ahead.append(sum(not end.query() for end in ends))  # type: ignore[no-untyped-call]
        for _ in range(5):
            square @ square
        ends.append(torch.cuda.Event())  # type: ignore[no-untyped-call]
        ends[-1].record()
    assert 0 < max(ahead) <= STEPS_AHEAD
