"""A folder of files that appears whole or not at all, and can tell whether it still is what was written.

    target.tmp/       while it is written or removed; a killed process may leave it
    target/           files and their manifest: sizes and SHA-256 digests, written last
    target.old/       only while a folder of the same name is replaced

Every file, then the folder, then the name in its parent are synced in this order, so that after a power loss
either the old state of things is found or the new one.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from types import TracebackType
from typing import Any, Self

MANIFEST = "manifest.json"
UNFINISHED = ".tmp"
REPLACED = ".old"


class Damaged(Exception):
    """The folder is not what its manifest says, or the manifest is not what was written."""


class Foreign(Exception):
    """The folder holds no manifest, or that of something else."""


class NoManifest(Foreign):
    """The folder holds no manifest."""


@dataclass(frozen=True)
class Kind:
    """What a sealed folder holds: `name` for people and programs, `version` of its form."""

    name: str
    version: int


class SealedFolder:
    """Writes one: `with SealedFolder(target, kind) as folder:` create the files, then `folder.seal(facts)`.

    Left without `seal`, nothing of it stays. Everything raises `OSError` as the file system does.
    """

    def __init__(self, target: Path, kind: Kind) -> None:
        self._target = target
        self._kind = kind
        self._folder = target.with_name(target.name + UNFINISHED)
        self._files: dict[str, DigestedFile] = {}

    def __enter__(self) -> Self:
        make_folder(self._target.parent)
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.abandon()
        # What cannot be removed now is removed before the next writing; the error under way says what is wrong.
        shutil.rmtree(self._folder, ignore_errors=True)

    def create(self, name: str) -> "DigestedFile":
        """A new file of the folder, to be written from its beginning to its end."""
        file = self._files[name] = DigestedFile(self._folder / name)
        return file

    def seal(self, facts: Mapping[str, Any]) -> None:
        """Make everything durable, write the manifest with these facts (JSON), give the folder its name."""
        entries = {name: file.finish() for name, file in self._files.items()}
        manifest = DigestedFile(self._folder / MANIFEST)
        manifest.write(_encode({"kind": self._kind.name, "version": self._kind.version, "facts": facts}, entries))
        manifest.finish()
        sync_folder(self._folder)
        replaced = self._target.with_name(self._target.name + REPLACED)
        if self._target.exists():
            if replaced.exists():
                remove_folder(replaced)
            self._target.replace(replaced)
        self._folder.replace(self._target)
        sync_folder(self._target.parent)
        if replaced.exists():
            remove_folder(replaced)


class DigestedFile:
    """A file that knows the digest of what was meant to be written, whatever the disk makes of it.

    A write that fails does not raise: torch.save, in whose middle it happens, would turn it into another error.
    Later writes are dropped and `finish` raises what the file system said.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Append the bytes."""
        size = memoryview(data).nbytes
        if self._error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
            self._digest.update(data)
            self._bytes += size
        return size

    def flush(self) -> None:
        """Writers call it; only `finish` makes anything sure."""

    def finish(self) -> dict[str, int | str]:
        """Make it durable and close it; its entry in the manifest. Raises `OSError`, the first that there was."""
        if self._error is not None:
            raise self._error
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}

    def abandon(self) -> None:
        """Close it whatever happened; closing flushes, so it fails as the writes before it did."""
        try:
            self._file.close()
        except OSError as error:
            self._error = self._error or error


def check_folder(folder: Path, kind: Kind) -> dict[str, Any]:
    """Read every file against the manifest; the facts in it.

    Raises `Damaged`, `Foreign` (also for another version of the form), `OSError` for what cannot be read.
    """
    _check_plain(folder)
    manifest = _read_manifest(folder, kind)
    for name, entry in manifest["files"].items():
        if "/" in name or name in ("", ".", ".."):
            raise Damaged(f"{MANIFEST} names {name!r}, which is no file of this folder")
        try:
            with (folder / name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size != entry["bytes"]:
                    raise Damaged(f"{name} has {size} bytes instead of {entry['bytes']}")
                if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                    raise Damaged(f"{name} is not what was written (its SHA-256 differs)")
        except FileNotFoundError as error:
            raise Damaged(f"{name} is missing") from error
    facts: dict[str, Any] = manifest["facts"]
    return facts


def _check_plain(folder: Path) -> None:
    """A link may lead out of the run directory, and a pipe is never read to its end; nobody seals either."""
    if not os.path.lexists(folder / MANIFEST):
        return  # it is no sealed folder, which reading the manifest says
    for path in folder.iterdir():
        mode = path.lstat().st_mode
        if not S_ISREG(mode) and not S_ISDIR(mode):
            raise Damaged(f"{path.name} is no regular file")


def make_folder(folder: Path) -> None:
    """Make it and its parents where they are missing, durably."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)
    folder.mkdir(exist_ok=True)  # fails where something else has the name


def remove_folder(folder: Path) -> None:
    """Remove a sealed folder at once: it loses its name first, so that half of it is never taken for a damaged one."""
    nameless = folder.with_name(folder.name + UNFINISHED)
    if nameless.exists():
        shutil.rmtree(nameless)
    folder.replace(nameless)
    shutil.rmtree(nameless)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encode(content: dict[str, Any], files: Mapping[str, Any]) -> bytes:
    """One way only to write it, with a digest of its own: so that a changed byte anywhere shows."""
    content = {**content, "files": dict(files)}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return (json.dumps({**content, "sha256": digest}, sort_keys=True, indent=1) + "\n").encode()


def _read_manifest(folder: Path, kind: Kind) -> dict[str, Any]:
    try:
        written = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoManifest(f"there is no {MANIFEST} in it") from error
    try:
        manifest: dict[str, Any] = json.loads(written)
        content = {name: manifest[name] for name in ("kind", "version", "facts")}
        if _encode(content, manifest["files"]) != written:
            raise Damaged(f"{MANIFEST} is not what was written")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{MANIFEST} is not what was written ({error})") from error
    if manifest["kind"] != kind.name:
        raise Foreign(f"it is a {manifest['kind']}")
    if manifest["version"] != kind.version:
        raise Foreign(f"its form is version {manifest['version']}; this headrace reads version {kind.version}")
    return manifest
