import subprocess
import zipfile
from pathlib import Path

import pytest

from benchmarks.peers.environment import EnvironmentFailed, python_for
from benchmarks.peers.registry import Peer, PeerFailed, run_peer


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and an index of packages of our own: pip asks nobody else. The folder of the packages."""
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(packages))
    return packages


def package(folder: Path, name: str, version: str) -> None:
    """A wheel whose one module bears the version."""
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"VERSION = {version!r}")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


@pytest.mark.long
@pytest.mark.slow
def test_a_pinned_package_comes_before_the_parents_and_the_rest_of_the_parents_behind(offline: Path) -> None:
    package(offline, "msgpack", "99.1")
    said: list[str] = []
    python = python_for(("msgpack==99.1",), said.append)
    assert len(said) == 2, "that it installs, and that it has"
    show = "import msgpack, numpy, torch; print(msgpack.VERSION, numpy.__version__)"
    done = subprocess.run([python, "-c", show], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("99.1 ")
    assert python_for(("msgpack==99.1",), said.append) == python
    assert len(said) == 2, "it is made once"


@pytest.mark.long
@pytest.mark.slow
def test_an_environment_that_was_interrupted_is_made_anew(offline: Path) -> None:
    package(offline, "onepeer", "1")
    python = python_for(("onepeer==1",), print)
    folder = python.parents[1]
    (folder / "whole").unlink()
    (folder / "left over").touch()
    assert python_for(("onepeer==1",), print) == python
    assert not (folder / "left over").exists()


@pytest.mark.slow
def test_a_package_that_is_not_to_be_had_is_one_line() -> None:
    wanted = Peer(name="wanted", script="naive.py", requirements=("onepeer==1",))
    with pytest.raises(
        PeerFailed, match=r"^the install of onepeer==1 failed: No matching distribution found"
    ) as raised:
        run_peer(wanted, data=Path("data"), batch_size=1, workers=0, seconds=0.1, timeout_s=10, say=print)
    assert len(str(raised.value).splitlines()) == 1


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(EnvironmentFailed, match="no environment for onepeer in ") as raised:
        python_for(("onepeer==1",), print)
    assert len(str(raised.value).splitlines()) == 1
