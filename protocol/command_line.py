"""What the command lines share: one line for a mistake, exit statuses, and classes by their import path.

Exit status 0: done; 2: the user's mistake; 1: a fault. Typed arguments, YAML and class paths are jsonargparse's.
"""

import argparse
import importlib
import logging
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
import yaml

from protocol.errors import HeadraceError, UsageError

# The docstring under a field of a settings class is that option's help.
jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)


class ArgumentParser(jsonargparse.ArgumentParser):
    """Says a mistake in one line, and what `--help` is for. Options are written out in full."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": HelpFormatter, **options})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        del ex
        print(f"{program()}: {_one_line(message)} (see --help)", file=sys.stderr)
        raise SystemExit(2)

    def make(self, config: Any) -> Any:
        """The objects that the settings describe. Raises `UsageError` where a class refuses its arguments."""
        try:
            return self.instantiate(config)
        except (ValueError, TypeError) as error:
            refused: BaseException = error
            while refused.__cause__ is not None and not isinstance(refused, HeadraceError):
                refused = refused.__cause__
            if isinstance(refused, HeadraceError):
                raise refused from None
            raise UsageError(f"a class cannot be made from these arguments: {refused}") from error


class HelpFormatter(jsonargparse.DefaultHelpFormatter):
    """Keeps the paragraphs of a description."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(textwrap.fill(part, width, initial_indent=indent) for part in text.split("\n\n"))


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


def import_class(path: str, option: str) -> type[Any]:
    """The class at an import path such as `package.module.Class`. Raises `UsageError` with what was not found."""
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise UsageError(f"{option} {path!r} is no class path: give package.module.Class, importable from this folder")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module_name), name)
    except ModuleNotFoundError as error:
        text = f"{option} {path!r}: there is no module {error.name!r}; install it or run from its folder"
        raise UsageError(text) from error
    except AttributeError as error:
        raise UsageError(f"{option} {path!r}: module {module_name!r} has no {name!r}") from error
    if not isinstance(found, type):
        raise UsageError(f"{option} {path!r} is no class")
    return found


def class_path_in(arguments: Sequence[str], option: str) -> str | None:
    """The class path that `--OPTION` or a `--config` file names, before the whole command line can be parsed.

    An option whose class may be of any kind gets its arguments' types from that very class.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(f"--{option}")
    parser.add_argument(f"--{option}.class_path", dest=option)
    parser.add_argument("--config", action="append", default=[])
    known, _ = parser.parse_known_args(list(arguments))
    if (given := getattr(known, option)) is not None:
        return str(given)
    for file in reversed(known.config):
        try:
            settings = yaml.safe_load(Path(file).read_text())
        except (OSError, yaml.YAMLError):
            continue  # the parser itself will say what is wrong with the file
        value = settings.get(option) if isinstance(settings, dict) else None
        if isinstance(value, dict):
            value = value.get("class_path")
        if value is not None:
            return str(value)
    return None


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines)
