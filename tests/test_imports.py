"""What can be imported, by which names, and what is not imported for it."""

import subprocess
import sys

import pytest

import producer
import trainer

HEAVY = ("torch", "torchvision", "torchmetrics", "tensorboard", "PIL", "jsonargparse", "rich")


def imported_by(statement: str) -> set[str]:
    """The packages that a fresh interpreter has after the statement."""
    show = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", f"{statement}; {show}"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_capture_program_imports_neither_torch_nor_the_command_lines() -> None:
    found = imported_by("from producer import Publisher")
    assert found & {"zmq", "msgpack", "numpy"} == {"zmq", "msgpack", "numpy"}, "else nothing was looked at"
    assert found.isdisjoint(HEAVY)


@pytest.mark.parametrize("program", ["producer", "protocol"])
def test_the_programs_without_models_import_no_torch(program: str) -> None:
    found = imported_by(f"import {program}.__main__")
    assert "jsonargparse" in found, "else nothing was looked at"
    assert found.isdisjoint(HEAVY[:5])


def test_the_trainer_has_something_to_say_before_it_imports_torch() -> None:
    assert "torch" not in imported_by("import trainer.__main__")


def test_the_public_names_are_these() -> None:
    assert producer.__all__ == ["Publisher"]
    assert trainer.__all__ == ["MixedLoader", "Predictor", "StreamDataset", "StreamLoader"]


def test_every_public_name_can_be_imported() -> None:
    assert producer.Publisher.__module__ == "producer.publisher"
    assert [getattr(trainer, name).__name__ for name in trainer.__all__] == trainer.__all__


def test_a_name_that_is_not_public_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="StreamReader"):
        from trainer import StreamReader  # noqa: F401
