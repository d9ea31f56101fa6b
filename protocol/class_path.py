"""Classes of anybody's, named on a command line by their import path."""

import argparse
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from protocol.command_line import located, program, read_yaml
from protocol.errors import UsageError
from protocol.values import shown

#: What a settings file may name without a word: it runs nothing that does not run anyway.
WELL_KNOWN = ("protocol.", "producer.", "trainer.", "torch.nn.", "torch.optim.")

#: A class that a topic's URL names (protocol/kafka/url.py).
DECODER = re.compile(r"kafka://.*[?&]decoder=([\w.]+)")


def import_class(path: str, option: str, base: type[Any] | None = None) -> type[Any]:
    """The class at an import path such as `package.module.Class`, a subclass of `base` if one is given.

    Of the subclasses of `base` that are imported already the name alone will do, such as `AdamW`. Raises `UsageError`
    with what was not found.
    """
    known = [] if "." in path else [each for each in _subclasses(base) if each.__name__ == path]
    if known:
        return known[0]
    found = import_named(path, option)
    if not isinstance(found, type):
        raise UsageError(f"{option} {path!r} is no class")
    if base is not None and not issubclass(found, base):
        raise UsageError(f"{option} {path!r} is no {base.__module__}.{base.__qualname__}: give a subclass of that")
    return found


def import_named(path: str, option: str) -> Any:
    """What stands at an import path such as `package.module.name`. Raises `UsageError` with what was not found."""
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise UsageError(f"{option} {path!r} is no class path: give package.module.Class, importable from here")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module_name), name)
    except ModuleNotFoundError as error:
        text = f"{option} {path!r}: there is no module {error.name!r}; install it or run from its folder"
        raise UsageError(text) from error
    except AttributeError as error:
        raise UsageError(f"{option} {path!r}: module {module_name!r} has no {name!r}") from error
    except Exception as error:  # whatever a module does while it is imported
        raise UsageError(f"{option} {path!r} cannot be imported: {located(error)}") from error


def class_path_in(arguments: Sequence[str], option: str) -> str | None:
    """The class path that `--OPTION` or a `--config` file names, before the whole command line can be parsed.

    An option whose class may be of any kind gets its arguments' types from that very class. Raises `UsageError` for a
    file that cannot be read.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(f"--{option}")
    parser.add_argument(f"--{option}.class_path", dest=option)
    parser.add_argument("--config", action="append", default=[])
    try:
        known, _ = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError:
        return None  # the parser itself will say what is missing
    if (given := getattr(known, option)) is not None:
        return str(given)
    for file in reversed(known.config):
        value = _settings_in(file).get(option)
        if isinstance(value, dict):
            value = value.get("class_path")
        if value is not None:
            return str(value)
    return None


def add_class(parser: Any, option: str, kind: type[Any], text: str, default: str = "", **more: Any) -> None:
    """An option that takes the path of a subclass of `kind`, and that class's own arguments as `--OPTION.NAME`.

    `default` is the path of a class as well; that of `kind` if it is not given. `more` is what jsonargparse's
    `add_subclass_arguments` takes besides.
    """
    name = default or f"{kind.__module__}.{kind.__qualname__}"
    options = {"default": {"class_path": name}, "required": True, "metavar": "CLASS", "help": text, **more}
    try:
        parser.add_subclass_arguments(kind, option, as_group=False, **options)
    except ValueError as error:
        text = f"--{option} {name!r}: its arguments cannot be told; give a class written in Python"
        raise UsageError(text) from error


def check_added(arguments: Sequence[str], option: str, kind: type[Any]) -> None:
    """Raise `UsageError` for what `--OPTION+` adds to a list and cannot be imported: the parser would not say why."""
    for name, path in pairwise(arguments):
        if name == f"--{option}+":
            import_class(path, f"--{option}", kind)


def say_classes(arguments: Sequence[str], *options: str) -> None:
    """Say in one line which classes the `--config` files name, before any of them is imported: that runs their code.

    `options` are those that take a class by its path alone, without `class_path`.
    """
    for file in _config_files(arguments):
        settings = _settings_in(file)
        say_imports(file, named_paths(settings, options))


def say_imports(file: str | Path, paths: Iterable[str]) -> None:
    """Say on standard error that these classes are about to be imported because a file names them."""
    strange = [path for path in dict.fromkeys(paths) if "." in path and not path.startswith(WELL_KNOWN)]
    if strange:
        names = ", ".join(map(shown, strange))
        print(f"{program()}: {file} names classes, whose code will run: {names}", file=sys.stderr, flush=True)


def named_paths(settings: object, alone: Sequence[str]) -> list[str]:
    """All class paths in nested settings, and what the options `alone` name without `class_path`."""
    return [*_alone(settings, alone), *class_paths(settings)]


def class_paths(settings: object) -> Iterator[str]:
    """All class paths in nested settings, those that a stream's URL names among them."""
    if isinstance(settings, str) and (match := DECODER.match(settings)):
        yield match[1]
    if isinstance(settings, dict):
        if isinstance(path := settings.get("class_path"), str):
            yield path
        settings = list(settings.values())
    if isinstance(settings, list):
        for each in settings:
            yield from class_paths(each)


def _alone(settings: object, options: Sequence[str]) -> Iterator[str]:
    """The values of these options, some of them lists, which a sweep nests (`train`) and may list (`choice`)."""
    if not isinstance(settings, dict):
        return
    for name, value in settings.items():
        if name not in options:
            yield from _alone(value, options)
            continue
        choices = value.get("choice") if isinstance(value, dict) else value
        yield from (each for each in (choices if isinstance(choices, list) else [choices]) if isinstance(each, str))


def _config_files(arguments: Sequence[str]) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action="append", default=[])
    try:
        files: list[str] = parser.parse_known_args(list(arguments))[0].config
    except argparse.ArgumentError:
        return []  # the parser itself will say what is missing
    return files


def _subclasses(base: type[Any] | None) -> Iterator[type[Any]]:
    for each in () if base is None else base.__subclasses__():
        yield each
        yield from _subclasses(each)


def _settings_in(file: str) -> dict[str, Any]:
    mend = "give a YAML file of settings, as --print_config prints them"
    settings = read_yaml(file, "--config", mend)
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise UsageError(f"--config {file!r} holds no settings: {mend}")
    return settings
