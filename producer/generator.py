"""A generator function as a source: the class of its arguments, so that it is named and configured as a class is."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from producer.source_kind import RESUME_AT
from protocol.class_path import add_class, import_named
from protocol.errors import UsageError

Record = Mapping[str, Any]


class Generated:
    """A generator function with its arguments."""

    function: ClassVar[Callable[..., Iterator[Record]]]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.generate = partial(type(self).function, *arguments, **named)


class Live(Generated):
    """The live source that such a function is."""

    def __iter__(self) -> Iterator[Record]:
        return self.generate()


class Replaying(Generated):
    """The replaying source that a function with a parameter `resume_at` is."""

    def records(self, resume_at: int) -> Iterator[Record]:
        """The records from this number on."""
        return self.generate(resume_at=resume_at)


def import_source(path: str, option: str) -> type[Any]:
    """The class of a source at an import path, or that made of the generator function there; raises `UsageError`."""
    found = import_named(path, option)
    if isinstance(found, type):
        return found
    if not inspect.isgeneratorfunction(found):
        raise UsageError(f"{option} {path!r} is no class and no generator function (one with `yield`): give either")
    return class_of(found)


def class_of(function: Callable[..., Iterator[Record]]) -> type[Generated]:
    """A class whose objects give what the function does with the arguments that they are made with."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError:  # of what is imported for type checkers alone
        signature = inspect.signature(function)

    def init(self: Generated, *arguments: Any, **named: Any) -> None:
        Generated.__init__(self, *arguments, **named)

    # What a parser reads of the class is what the function's author has written.
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    given = [each for each in signature.parameters.values() if each.name != RESUME_AT]
    vars(init)["__signature__"] = inspect.Signature([own, *given])
    members = {
        "__init__": init,
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "function": staticmethod(function),
        "schema": getattr(function, "schema", None),
    }
    return type(function.__name__, (Replaying if RESUME_AT in signature.parameters else Live,), members)


def add_source(parser: Any, option: str, source: type[Any], text: str) -> None:
    """An option for the source and its own arguments."""
    if not issubclass(source, Generated):
        add_class(parser, option, source, text)
        return
    # At this import path jsonargparse finds the function, and takes it for one that returns such an object.
    source.function.__annotations__["return"] = source
    add_class(parser, option, source, text, skip={RESUME_AT}, instantiate=False)


def made_source(source: type[Any], made: Any) -> Any:
    """The object that the parser has made of the settings, or made of those of a generator function."""
    if not issubclass(source, Generated):
        return made
    arguments = made.get("init_args")  # none at all, where there are none
    return source() if arguments is None else source(**vars(arguments))
