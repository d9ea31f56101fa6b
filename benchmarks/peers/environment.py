"""A virtual environment for each peer, made on demand in the user's cache: their pins exclude each other's.

PyTorch is not installed again: each environment ends its search path with the packages of the one that runs this, so
what a peer pins comes first and the rest is found behind it.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

INSTALL_TIMEOUT_S = 900.0
INSTALL = ("--no-deps", "--no-input", "--disable-pip-version-check", "--quiet")


class EnvironmentFailed(Exception):
    """A peer's environment could not be made. Its text is one line."""


def python_for(requirements: Sequence[str], say: Callable[[str], None]) -> Path:
    """The interpreter of an environment with exactly these (complete and pinned: no dependency is added to them).

    `say` hears a line when there is something to wait for. Raises `EnvironmentFailed`.
    """
    if not requirements:
        return Path(sys.executable)
    name, _, _ = requirements[0].partition("==")
    parents = [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]
    digest = hashlib.sha256(repr((requirements, parents, sys.version)).encode()).hexdigest()[:12]
    folder = cache() / f"{name}-{digest}"
    whole = folder / "whole"  # an environment that was interrupted lacks it, and is made anew
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with alone(folder.with_name(f"{folder.name}.lock")):
            if not whole.exists():
                start_s = time.monotonic()
                say(f"installing {name} into {folder} ...")
                shutil.rmtree(folder, ignore_errors=True)
                make(folder, requirements, parents)
                whole.touch()
                say(f"installed {name} in {time.monotonic() - start_s:.0f} s")
    except OSError as error:
        raise EnvironmentFailed(f"no environment for {name} in {folder.parent}: {error}") from error
    return folder / "bin" / "python"


def cache() -> Path:
    """Where the environments lie, under XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headrace" / "peers"


def make(folder: Path, requirements: Sequence[str], parents: Sequence[str]) -> None:
    """Raises `EnvironmentFailed`, or `OSError` where the folder cannot be written."""
    run("virtual environment", sys.executable, "-m", "venv", "--without-pip", str(folder))
    python = str(folder / "bin" / "python")
    pip = (sys.executable, "-I", "-m", "pip", "--python", python)
    run(f"install of {requirements[0]}", *pip, "install", *INSTALL, *requirements)
    # Written last, so that pip saw an empty environment.
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    Path(own, "of_the_parent.pth").write_text("".join(f"{parent}\n" for parent in parents))


def run(what: str, *command: str) -> None:
    """Raises `EnvironmentFailed` with the last complaint where the command fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFailed(f"the {what} took over {INSTALL_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["no word about why"]
        raise EnvironmentFailed(f"the {what} failed: {errors[-1].removeprefix('ERROR:').strip()}")


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Two benchmarks at once make one environment after the other."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
