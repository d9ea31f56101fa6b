"""The four files of FashionMNIST: where they lie, what must be in them, and how to get them."""

import gzip
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from producer.idx import IdxError, read_idx
from protocol.errors import UsageError

Bytes = npt.NDArray[np.uint8]
Say = Callable[[str], None]

#: side → (pictures, labels)
FILES: Mapping[str, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
CLASSES = 10
PICTURE_SHAPE = (28, 28)

#: Where torchvision's dataset keeps them below its root.
TORCHVISION_FOLDER = Path("FashionMNIST", "raw")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
CONNECT_TIMEOUT_S = 15
APT_TIMEOUT_S = 300
APT_OPTIONS = (
    *("-o", f"Acquire::http::Timeout={CONNECT_TIMEOUT_S}", "-o", f"Acquire::https::Timeout={CONNECT_TIMEOUT_S}"),
    *("-o", "Acquire::Retries=1"),
    # Started by root, apt would fetch as a user of its own, who may not write into our folder.
    *("-o", "APT::Sandbox::User=root"),
)


class FilesMissing(UsageError):
    """A folder without the files. Its text says how to get them."""


class _NotGotError(Exception):
    """One way of getting the files failed; its text says why."""


def read_side(root: Path, side: str) -> tuple[Bytes, Bytes]:
    """(pictures [N, 28, 28], labels [N]) of `train` or `test`.

    They lie as torchvision keeps them (`root/FashionMNIST/raw`) or in `root` itself, zipped or not. Raises
    `FilesMissing`, or `UsageError` where a file is damaged.
    """
    picture_path, label_path = (_locate(root, name) for name in FILES[side])
    try:
        pictures, labels = read_idx(picture_path, 3), read_idx(label_path, 1)
        if pictures.shape[1:] != PICTURE_SHAPE:
            raise IdxError(f"{picture_path} has pictures of {pictures.shape[1:]} where {PICTURE_SHAPE} are due")
        if len(pictures) != len(labels) or not len(labels):
            raise IdxError(f"{picture_path} has {len(pictures)} pictures, {label_path.name} {len(labels)} labels")
        if labels.max() >= CLASSES:
            raise IdxError(f"{label_path} has a label {labels.max()} where 0 to {CLASSES - 1} are known")
    except IdxError as error:
        raise UsageError(f"{error}: run `{_command(root)}`, which fetches it anew") from error
    return pictures, labels


def fetch(root: Path, say: Say) -> None:
    """Get what is not there yet into `root/FashionMNIST/raw`; `say` hears each step in one line.

    The files arrive in a folder of their own and are moved only when all four are whole. Raises `UsageError` where
    no way leads to them.
    """
    try:
        for side in FILES:
            read_side(root, side)
    except FilesMissing:
        pass  # which is what this is for
    except UsageError as error:
        say(str(error).partition(": run")[0])
    else:
        say(f"FashionMNIST is in {root}: nothing to fetch")
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".fetching-") as folder:
            whole = _get(root, Path(folder).resolve(), say)
            target = root / TORCHVISION_FOLDER
            target.mkdir(parents=True, exist_ok=True)
            for name in _names():
                (whole / name).replace(target / name)
    except OSError as error:
        raise UsageError(f"cannot write FashionMNIST to {root} ({error}): name another folder") from error
    say(f"FashionMNIST is in {target}")


def _get(root: Path, folder: Path, say: Say) -> Path:
    """The folder, below `folder`, in which the four files lie unzipped and whole."""
    failures = []
    for title, get in (("torchvision's downloader", _from_torchvision), ("Debian's package", _from_debian)):
        way = folder / get.__name__
        way.mkdir()
        say(f"Fetching FashionMNIST (31 MB) with {title} ...")
        try:
            found = get(way)
            for side in FILES:
                read_side(found, side)
        except (_NotGotError, UsageError) as error:
            failures.append(f"{title}: {error}")
            say(f"  not this way: {error}")
        else:
            return found
    raise UsageError(
        f"FashionMNIST could not be fetched ({'; '.join(failures)}): connect to the internet and run "
        f"`{_command(root)}` again, or unpack Debian's package {DEBIAN_PACKAGE} (apt-get download, dpkg-deb -x) and "
        "name the folder of its four files with --source.root"
    )


def _from_torchvision(folder: Path) -> Path:
    try:
        from torchvision.datasets import FashionMNIST
    except ImportError as error:
        raise _NotGotError(f"it is not installed ({error})") from error
    # It sets no time-out of its own, and a firewall that drops packets would be waited for for minutes.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_TIMEOUT_S)
    try:
        FashionMNIST(str(folder), download=True)
    except (RuntimeError, OSError, EOFError, http.client.HTTPException) as error:
        raise _NotGotError(_last_line(str(error))) from error
    finally:
        socket.setdefaulttimeout(before)
    return folder / TORCHVISION_FOLDER


def _from_debian(folder: Path) -> Path:
    """Download and unpack the package without root. Slim systems have no package lists: then they are fetched too."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise _NotGotError(f"there is no {program} here")
    own = ("-o", f"Dir::State::lists={folder / 'lists'}", "-o", f"Dir::Cache={folder / 'cache'}")
    for needed in ("lists/partial", "cache/archives/partial"):
        (folder / needed).mkdir(parents=True)
    try:
        _run("apt-get", *APT_OPTIONS, "download", DEBIAN_PACKAGE, cwd=folder)
    except _NotGotError:
        _run("apt-get", *APT_OPTIONS, *own, "update", cwd=folder)
        _run("apt-get", *APT_OPTIONS, *own, "download", DEBIAN_PACKAGE, cwd=folder)
    unpacked, whole = folder / "unpacked", folder / "whole"
    for package in folder.glob("*.deb"):
        _run("dpkg-deb", "--extract", str(package), str(unpacked), cwd=folder)
    whole.mkdir()
    for name in _names():
        found = next(unpacked.rglob(f"{name}.gz"), None)
        if found is None:
            raise _NotGotError(f"the package has no {name}.gz")
        with gzip.open(found) as source, (whole / name).open("wb") as target:
            shutil.copyfileobj(source, target)
    return whole


def _run(*command: str, cwd: Path) -> None:
    try:
        subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=APT_TIMEOUT_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise _NotGotError(f"{command[0]} failed: {_last_line(error.stderr)}") from error
    except subprocess.TimeoutExpired as error:
        raise _NotGotError(f"{command[0]} took over {APT_TIMEOUT_S} s") from error


def _locate(root: Path, name: str) -> Path:
    for folder in (root / TORCHVISION_FOLDER, root):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise FilesMissing(
        f"no FashionMNIST in {root} ({name} is not there): run `make demo` or `{_command(root)}` to fetch it, or name "
        "the folder that has it with --source.root"
    )


def _names() -> list[str]:
    return [name for pair in FILES.values() for name in pair]


def _command(root: Path) -> str:
    return f"python -m producer.fashion_mnist {root}"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no word about why"])[-1].strip()
