"""What the command lines share: one line for a mistake, exit statuses, help, and the settings of one component.

Exit status 0: done; 2: the user's mistake; 1: a fault. Typed arguments, YAML and class paths are jsonargparse's.
"""

import argparse
import logging
import os
import re
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from numbers import Number
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import jsonargparse
import yaml
from jsonargparse.typing import register_type

from protocol.errors import HeadraceError, UsageError

T = TypeVar("T")

#: What somebody asks a program to end with.
STOPPING = (signal.SIGINT, signal.SIGTERM)

# What torchvision calls a number, such as the degrees of a rotation.
register_type(Number, serializer=float, deserializer=float)

#: What jsonargparse says of a value, the innermost first, and how it is said to somebody who typed options.
WORDING = (
    (r"Option '([\w.]+)' is not accepted|does not accept option '([\w.]+)'", "there is no option --{path}{0}"),
    (r"arguments are required: (?:[\w-]+\.(?=\w))?(.*?)(?: -|\. Got| Given|$)", "{option}give {0} as well"),
    (r"expects a function or a callable class: (.*?)\. Got value", "{option}{0}"),
    (r"Parameter '(\w+)' from '([\w.]+)' does not specify a type", "{option}give the parameter {0} of {1} a type"),
    (r"Subtypes: \[(.*?)\] Errors: .*? Given value: (.*?)(?: -|\. Got| Given|$)", "{option}{1} is none of {0}"),
    (r"Expected a <class '([\w.]+)'>\. Got value: (.*?)(?: -|\. Got| Given|$)", "{option}{1} is no {0}"),
    (r"Expected a typing\.Literal\[(.*?)\]\. Got value: (.*?)(?: -|\. Got| Given|$)", "{option}{1} is none of {0}"),
)


class ArgumentParser(jsonargparse.ArgumentParser):
    """Says a mistake in one line, and what `--help` is for. Options are written out in full."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": HelpFormatter, **options})

    def add_class_arguments(self, theclass: type, *arguments: Any, **options: Any) -> list[str]:
        """The docstring under a field of a dataclass is that option's help.

        For it the source of the class and of all its bases is read, which takes a quarter of a second for a model of
        torch's: no others are looked at.
        """
        jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=is_dataclass(theclass))
        added: list[str] = super().add_class_arguments(theclass, *arguments, **options)
        return added

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # it parses the arguments of a class, for a parser that may have an alternative
            super().error(message, ex)
        raise UsageError(f"{_worded(_one_line(message))} (see --help)") from ex

    def make(self, config: Any) -> Any:
        """The objects that the settings describe. Raises `UsageError` where a class refuses its arguments."""
        try:
            return self.instantiate(config)
        except Exception as error:  # whatever somebody's class does while it is made
            refused: BaseException = error
            while refused.__cause__ is not None and not isinstance(refused, HeadraceError):
                refused = refused.__cause__
            if isinstance(refused, HeadraceError):
                raise refused from None
            raise UsageError(f"a class cannot be made from these arguments: {located(refused)}") from error


class HelpFormatter(jsonargparse.DefaultHelpFormatter):
    """Keeps paragraphs and indented examples; of an option it says what it is for and its default."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = text.split("\n\n")
        return "\n\n".join(
            part if part.startswith("  ") else textwrap.fill(part, width, initial_indent=indent) for part in parts
        )

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = (action.help or "").removesuffix("."), action.default
        if isinstance(default, dict | jsonargparse.Namespace):
            default = default.get("class_path")
        if text[1:2].islower():
            text = text[:1].lower() + text[1:]
        if not action.option_strings or action.nargs == 0 or default in (None, "", argparse.SUPPRESS):
            return text
        return f"{text} (default: {default})"


def settings_of(kind: type[T], config: Any) -> T:
    """The settings of one component out of all that the command line was told: its own, and only those."""
    names: Sequence[str] = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return kind(**{name: config[name] for name in names})


def read_yaml(file: str | Path, option: str, mend: str) -> Any:
    """What a YAML file holds; raises `UsageError`, with the mend, where it cannot be read."""
    try:
        return yaml.safe_load(Path(file).read_text())
    except OSError as error:
        raise UsageError(f"{option} {str(file)!r} cannot be read ({error.strerror}): {mend}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        what = f"line {mark.line + 1}: {problem}" if mark is not None else str(error)
        raise UsageError(f"{option} {str(file)!r} is no YAML ({what}): {mend}") from error


def program() -> str:
    """The package that runs as `python -m PACKAGE`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return str(spec.parent) if spec is not None and spec.parent else Path(sys.argv[0]).name


def run(main: Callable[[Sequence[str]], int]) -> int:
    """Run a command; a foreseen error becomes one line and its exit status. Anything else is a bug, and loud."""
    logging.basicConfig(level=logging.INFO, format=f"{program()}: %(message)s", stream=sys.stderr)
    try:
        return main(sys.argv[1:])
    except UsageError as error:
        print(f"{program()}: {_one_line(str(error))}", file=sys.stderr)
        return 2
    except HeadraceError as error:
        print(f"{program()}: {_one_line(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # Whoever read our output has had enough (`… | head`); Python would complain again at its exit.
        sys.stdout = None
        return 0


def leave_on_signals() -> None:
    """Let SIGINT and SIGTERM end the program at once, with status 0: until there is something to save or to close."""
    for number in STOPPING:
        signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    del number, frame
    os._exit(0)


def located(error: BaseException) -> str:
    """An error out of somebody else's class, with the place where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {_one_line(str(error))}{place}"


def _worded(message: str) -> str:
    """A parser's message without its words for parsers. Keys are nested as in `--model.width`."""
    *outer, innermost = re.split(r'Parser key "([\w.]+)":', message)
    path = ".".join(outer[1::2])
    for said, plain in WORDING:
        if (match := re.search(said, innermost)) is not None:
            found = [re.sub(r"<class '([\w.]+)'>", r"\1", group) for group in match.groups() if group]
            return plain.format(*found, path=path and f"{path}.", option=path and f"--{path}: ")
    return f"--{path}:{innermost}" if path else message


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines)
