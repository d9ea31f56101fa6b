"""A generator function is named and configured as a class is."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.__main__ import build_parser
from producer.generator import class_of, import_source, made_source
from producer.source_kind import declared_schema, kind_of, records_of
from protocol.errors import UsageError
from protocol.schema import Field, Schema

MODULE = '''
from __future__ import annotations
from collections.abc import Iterator
from typing import Literal

def frames(device: str, rate: float = 3.0, mode: Literal["fast", "slow"] = "fast") -> Iterator[dict]:
    """Frames of a camera.

    Args:
        device: where it is
    """
    yield {"device": device, "rate": rate, "mode": mode}

def numbers(first: int = 0, *, resume_at: int):
    yield from ({"n": n} for n in range(first + resume_at, 5))

def untyped(device):
    yield {"device": device}

def checked(device: str, camera: Unknown | None = None):
    yield {"device": device}

def plain() -> list:
    return []
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "generators.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "generators", raising=False)


def made(*arguments: str) -> Any:
    parser, source = build_parser(arguments)
    return made_source(source, parser.make(parser.parse_args(list(arguments))).source)


def test_its_parameters_are_typed_options() -> None:
    source = made("--source", "generators.frames", "--source.device", "x", "--source.rate", "2")
    assert list(records_of(source)) == [{"device": "x", "rate": 2.0, "mode": "fast"}]
    assert list(records_of(source)) == [{"device": "x", "rate": 2.0, "mode": "fast"}], "each time anew"
    assert (kind_of(source), type(source).__name__) == ("live", "frames")


def test_one_that_takes_resume_at_replays_and_the_number_is_no_option() -> None:
    source = made("--source", "generators.numbers", "--source.first", "1")
    assert kind_of(source) == "replaying"
    assert [record["n"] for record in records_of(source, 2)] == [3, 4]
    with pytest.raises(UsageError, match=r"there is no option --source\.resume_at"):
        made("--source", "generators.numbers", "--source.resume_at", "1")


def test_it_comes_from_a_settings_file_as_a_class_does() -> None:
    Path("settings.yaml").write_text(
        "source:\n  class_path: generators.frames\n  init_args:\n    device: y\n    mode: slow\n"
    )
    assert list(records_of(made("--config", "settings.yaml"))) == [{"device": "y", "rate": 3.0, "mode": "slow"}]
    with pytest.raises(UsageError, match=r"--source\.mode: odd is none of 'fast', 'slow'"):
        made("--config", "settings.yaml", "--source.mode", "odd")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generators.frames"], "--source: give device as well"),
        (["generators.frames", "--source.device", "x", "--source.rate", "much"], "--source.rate: much is no float"),
        (["generators.frames", "--source.device", "x", "--source.colour", "1"], "there is no option --source.colour"),
        (["generators.untyped"], "give the parameter device of generators.untyped a type"),
        (["generators.plain"], "is no class and no generator function .*give either"),
    ],
)
def test_a_mistake_is_said_with_the_mend(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        made("--source", *arguments)


def test_a_type_that_is_known_to_type_checkers_alone_does_not_matter() -> None:
    assert list(records_of(made("--source", "generators.checked", "--source.device", "x"))) == [{"device": "x"}]


def test_help_shows_its_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        made("--source", "generators.frames", "--source.help")
    shown = capsys.readouterr().out
    assert "--source.device DEVICE" in shown
    assert "--source.mode {fast,slow}" in shown
    assert "Frames of a camera" in shown


def test_it_declares_its_schema_by_an_attribute() -> None:
    def tokens() -> Iterator[dict[str, Any]]:
        yield {"tokens": [1, 2]}

    schema = Schema((Field("tokens", "int64", (None,)),))
    vars(tokens)["schema"] = schema
    assert declared_schema(class_of(tokens)()) is schema


def test_a_class_is_itself() -> None:
    assert import_source("collections.deque", "--source").__name__ == "deque"
