"""A disk whose power may fail: what is done under a folder is recorded, and what a power loss would leave is drawn.

POSIX promises no more than this (fsync): what a file held when it was synced stays, and so do the names that a folder
had when the folder was synced. Of what came later any part may be there: the first so many changes of each folder's
names, and of each file's bytes the first so many, the rest cut off or zeros.
"""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trainer import sealed

#: Chooses a number from the first to the second, both included: how much of something stays.
Choice = Callable[[int, int], int]
#: A file's bytes, or the names in a folder with what is left of each.
Left = bytes | frozenset[tuple[str, "Left"]]


@dataclass
class File:
    """What was written, and how many bytes of it are durable."""

    content: bytearray = field(default_factory=bytearray)
    durable: int = 0

    def sync(self) -> None:
        self.durable = len(self.content)

    def left(self, choose: Choice) -> bytes:
        kept = choose(self.durable, len(self.content))
        return bytes(self.content[:kept].ljust(choose(kept, len(self.content)), b"\0"))


@dataclass
class Folder:
    """Changes of its names in their order (None takes one away), and how many of them are durable."""

    changes: list[dict[str, "File | Folder | None"]] = field(default_factory=list)
    durable: int = 0

    def sync(self) -> None:
        self.durable = len(self.changes)

    def names(self, changes: int | None = None) -> dict[str, "File | Folder"]:
        """After so many changes, or all."""
        found: dict[str, File | Folder | None] = {}
        for change in self.changes[:changes]:
            found |= change
        return {name: node for name, node in found.items() if node is not None}

    def left(self, choose: Choice) -> "Left":
        """What a power loss at this moment could leave of it."""
        names = self.names(choose(self.durable, len(self.changes)))
        return frozenset((name, node.left(choose)) for name, node in names.items())


class Disk:
    """Records what is done under the folder `place`; calls `after` with the name of each operation that was done.

    A sync whose path `left_out` accepts is taken for one that the program forgot.
    """

    def __init__(
        self, place: Path, after: Callable[[str], None], left_out: Callable[[Path], bool] = lambda _path: False
    ) -> None:
        self._place, self._after, self._left_out = place, after, left_out
        self.root = Folder()

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """From here on see what makes, names, removes, writes or syncs."""
        self._see(patch, os, "mkdir", lambda path, *_: self._change(path, Folder()))
        self._see(patch, os, "rmdir", lambda path: self._change(path, None))
        self._see(patch, os, "unlink", lambda path: self._change(path, None))
        self._see(patch, os, "replace", self._replace)
        self._see(patch, os, "fsync", self._sync)
        self._see(patch, io, "open", lambda path, mode, *_: self._change(path, File()) if mode == "xb" else None)
        write = sealed.DigestedFile.write

        def written(file: sealed.DigestedFile, data: bytes | memoryview) -> int:
            size = write(file, data)
            node = self._node(Path(file._file.name))
            assert isinstance(node, File)
            node.content += data
            self._after("write")
            return size

        patch.setattr(sealed.DigestedFile, "write", written)

    def _see(self, patch: pytest.MonkeyPatch, module: Any, name: str, record: Callable[..., None]) -> None:
        real = getattr(module, name)

        def call(path: Any, *arguments: Any, dir_fd: int | None = None, **options: Any) -> Any:
            whole = _whole(path, dir_fd)
            given = real(path, *arguments, **({} if dir_fd is None else {"dir_fd": dir_fd}), **options)
            if whole.is_relative_to(self._place):
                record(whole, *arguments)
                self._after(name)
            return given

        patch.setattr(module, name, call)

    def _change(self, path: Path, node: File | Folder | None) -> None:
        self._folder(path.parent).changes.append({path.name: node})

    def _replace(self, old: Path, new: Path) -> None:
        assert old.parent == new.parent, "what moves to another folder is not modelled"
        self._folder(old.parent).changes.append({old.name: None, new.name: self._node(old)})

    def _sync(self, path: Path) -> None:
        if not self._left_out(path):
            self._node(path).sync()

    def _folder(self, path: Path) -> Folder:
        node = self._node(path)
        assert isinstance(node, Folder)
        return node

    def _node(self, path: Path) -> File | Folder:
        node: File | Folder = self.root
        for name in path.relative_to(self._place).parts:
            assert isinstance(node, Folder)
            node = node.names()[name]
        return node


def lay(left: Left, path: Path) -> None:
    """Make a folder of what is left."""
    if isinstance(left, bytes):
        path.write_bytes(left)
        return
    path.mkdir()
    for name, node in left:
        lay(node, path / name)


def _whole(path: Any, dir_fd: int | None) -> Path:
    """Where an argument of a call of the system lies; it may be a descriptor, or be relative to one."""
    if isinstance(path, int):
        return Path(f"/proc/self/fd/{path}").readlink()
    return Path(path) if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink() / path
