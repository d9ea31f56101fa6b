import platform
from importlib import metadata

import pytest
import torch

from trainer.environment import environment, versions


def test_versions_device_and_threads_are_those_of_this_process() -> None:
    found = environment(torch.device("cpu"))
    assert (found["Python"], found["torch"], found["device"]) == (platform.python_version(), torch.__version__, "cpu")
    assert found["threads of an operation"] == torch.get_num_threads()
    assert found["headrace"]


def test_what_is_not_installed_has_no_version() -> None:
    assert dict(versions("torch", "no-such-package")) == {"torch": metadata.version("torch")}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_told_by_its_name() -> None:
    found = environment(torch.device("cuda", 0))
    assert (found["GPU"], found["CUDA"]) == (torch.cuda.get_device_name(0), torch.version.cuda)
