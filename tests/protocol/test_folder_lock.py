import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.errors import UsageError
from protocol.folder_lock import FolderLock, is_held

HOLDER = (
    "import sys, time\nfrom pathlib import Path\nfrom protocol.folder_lock import FolderLock\n"
    "lock = FolderLock(Path(sys.argv[1]), 'run', mend='stop it')\nprint('held', flush=True)\ntime.sleep(600)\n"
)


def held(folder: Path) -> "subprocess.Popen[str]":
    """Another process that holds the folder."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_process_is_told_who_holds_the_folder_and_what_to_do(tmp_path: Path) -> None:
    with held(tmp_path) as holder:
        who = f"process {holder.pid} on {socket.gethostname()}"
        for _ in range(2):  # asking leaves who it is as it was
            with pytest.raises(UsageError, match=f"^{tmp_path} is in use by {who}: stop it, or another$"):
                FolderLock(tmp_path, "run", mend="stop it, or another")
        assert is_held(tmp_path, "run")
        assert not is_held(tmp_path, "another name")
        holder.kill()


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    with held(tmp_path) as holder:
        holder.kill()
    assert not is_held(tmp_path, "run")
    lock = FolderLock(tmp_path, "run", mend="")
    assert json.loads((tmp_path / "run.owner").read_text())["pid"] == os.getpid()
    lock.release()
    lock.release()
    assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


def test_a_second_release_takes_nothing_from_the_next_holder(tmp_path: Path) -> None:
    first = FolderLock(tmp_path, "run", mend="")
    first.release()
    second = FolderLock(tmp_path, "run", mend="")
    first.release()
    assert (tmp_path / "run.owner").exists()
    assert is_held(tmp_path, "run")
    second.release()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', "7"])
def test_an_owner_that_cannot_be_read_is_another_process(tmp_path: Path, content: str) -> None:
    with held(tmp_path) as holder:
        (tmp_path / "run.owner").write_text(content)
        with pytest.raises(UsageError, match="in use by another process: stop it"):
            FolderLock(tmp_path, "run", mend="stop it")
        holder.kill()
