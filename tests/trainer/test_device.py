import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from protocol.errors import UsageError
from trainer.device import DeviceSettings, check_compiler, open_device, pins_memory


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


def test_batches_are_pinned_where_they_go_to_cuda_unless_that_is_refused() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 0)
    assert [pins_memory(DeviceSettings(), device) for device in (cpu, cuda)] == [False, True]
    assert pins_memory(DeviceSettings(pin_memory=True), cuda)
    assert not pins_memory(DeviceSettings(pin_memory=False), cuda)
    assert not pins_memory(DeviceSettings(pin_memory=False), cpu)
    with pytest.raises(UsageError, match=r"--pin_memory true is of use for CUDA only, .* on cpu: give auto or false"):
        pins_memory(DeviceSettings(pin_memory=True), cpu)


@pytest.mark.parametrize(
    ("device", "missing"), [("cpu", r"C\+\+ compiler, .* no g\+\+"), ("cuda", "C compiler, .* no gcc or clang")]
)
def test_compiling_without_a_compiler_is_refused_before_the_first_batch(
    device: str, missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("CC", "CXX"):
        monkeypatch.setenv(variable, "to be removed")
        monkeypatch.delenv(variable)
    with pytest.raises(UsageError, match=f"--compile needs a {missing} here: install one"):
        check_compiler(torch.device(device))
    compiler = tmp_path / ("g++" if device == "cpu" else "clang")
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    check_compiler(torch.device(device))
    monkeypatch.setenv("CXX" if device == "cpu" else "CC", "/nowhere/cc")
    with pytest.raises(UsageError, match="no /nowhere/cc here"):
        check_compiler(torch.device(device))
