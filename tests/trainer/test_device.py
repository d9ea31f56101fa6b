import os
from collections.abc import Iterator

import pytest
import torch

from protocol.errors import UsageError
from trainer.device import DeviceSettings, open_device


@pytest.fixture
def settings_of_torch_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "to be removed")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.backends.cudnn.benchmark = before[1]


def test_auto_is_cuda_where_there_is_one_and_else_the_cpu() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert open_device(DeviceSettings()).type == expected


def test_the_cpu_has_one_name() -> None:
    assert open_device(DeviceSettings(device="cpu:0")) == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cpu cuda"])
def test_a_name_that_is_none_is_the_users_mistake(name: str) -> None:
    with pytest.raises(UsageError, match="names no device: give auto, cpu, cuda or cuda:N"):
        open_device(DeviceSettings(device=name))


def test_a_kind_of_device_that_was_never_tried_is_refused() -> None:
    with pytest.raises(UsageError, match="trains on cpu and cuda, not on 'meta'"):
        open_device(DeviceSettings(device="meta"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none_says_what_to_give_instead() -> None:
    with pytest.raises(UsageError, match=r"'cuda' is not here \(.*\): give auto or cpu"):
        open_device(DeviceSettings(device="cuda"))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_comes_with_its_index_and_one_too_many_is_refused() -> None:
    assert open_device(DeviceSettings(device="cuda")).index == torch.cuda.current_device()
    with pytest.raises(UsageError, match="is not here: there are"):
        open_device(DeviceSettings(device=f"cuda:{torch.cuda.device_count()}"))


@pytest.mark.usefixtures("settings_of_torch_restored")
def test_deterministic_makes_torch_refuse_what_is_not() -> None:
    open_device(DeviceSettings(device="cpu", deterministic=True))
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.usefixtures("settings_of_torch_restored")
def test_not_deterministic_leaves_torch_as_it_is() -> None:
    open_device(DeviceSettings(device="cpu"))
    assert not torch.are_deterministic_algorithms_enabled()
