"""The programs with keys: they train as without, a mistake is one line, and nothing secret is left anywhere."""

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from producer.publisher import Publisher
from protocol.errors import AccessDenied, UsageError
from protocol.keygen import make_keys
from protocol.security import client_keys, producer_keys
from tests.programs import Program, Programs, wait_until
from trainer.checkpoint_files import CHECKPOINTS, listed, load
from trainer.dataset import StreamDataset
from trainer.loader import StreamLoader

PARTS = '''
import numpy as np
from torch import nn

class Pictures:
    """Three classes, told apart by their grey."""

    def __len__(self):
        return 600

    def __getitem__(self, index: int):
        return np.full((1, 4, 4), index % 3 * 100, np.uint8), index % 3

class Small(nn.Module):
    """A model."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 3)

    def forward(self, pictures):
        return self.inner(pictures.flatten(1))
'''
pytestmark = pytest.mark.slow

SOURCE = ("--source", "parts.Pictures", "--validation", "60")
TRAIN = ("train", "--model", "parts.Small", "--display", "plain", "--connect_timeout", "60")

Served = Callable[..., Program]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Keys of a producer, of a trainer and of one who may only look, beside the classes of the runs."""
    (tmp_path / "parts.py").write_text(PARTS)
    make_keys(tmp_path / "keys", ["trainer"], "read,commit")
    make_keys(tmp_path / "keys", ["viewer"], "read")
    return tmp_path


@pytest.fixture
def url(folder: Path) -> str:
    return f"ipc://{folder}/stream"


@pytest.fixture
def producer(started: Programs, folder: Path, url: str) -> Iterator[Program]:
    """A stream without an end, for those who have keys."""
    arguments = (*SOURCE, "--bind", url, "--keys", "keys/producer", "--rate", "5000")
    program = started.start("producer", *arguments, cwd=folder)
    yield program
    program.signal(signal.SIGTERM)
    program.status()


def secrets(folder: Path) -> list[bytes]:
    clients = [client_keys(folder / "keys" / name).own.secret for name in ("trainer", "viewer")]
    return [producer_keys(folder / "keys/producer").pair.secret, *clients]


def title(pid: int) -> bytes:
    """What `ps` may show of a process: its arguments, its name and its environment."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "comm", "environ"))


def test_a_run_with_keys_learns_and_leaves_no_secret_anywhere(
    started: Programs, folder: Path, url: str, producer: Program
) -> None:
    keys = ("--keys", "keys/trainer")
    arguments = (*TRAIN, "--stream", url, *keys, "--workers", "1", "--max_samples", "2000", "--report_every", "100")
    trainer = started.start("trainer", *arguments, cwd=folder)
    wait_until(lambda: "samples" in trainer.out, "a report")
    titles = title(trainer.pid) + title(producer.pid)
    assert trainer.status() == 0, trainer.err
    print_config = started.start("trainer", *arguments, "--print_config", cwd=folder)
    assert print_config.status() == 0
    assert "keys: keys/trainer" in print_config.out
    configured = started.start("producer", *SOURCE, "--keys", "keys/producer", "--print_config", cwd=folder)
    assert configured.status() == 0
    said = "".join(each.out + each.err for each in (producer, trainer, print_config, configured)).encode()
    left = [path for path in (folder / "runs").rglob("*") if path.is_file()]
    assert {"events.out", "checkpoints", "splits"} <= {part[:11].rstrip(".") for path in left for part in path.parts}
    kept = b"".join(path.read_bytes() for path in left)
    assert b"keys/trainer" in kept, "else the settings were not kept"
    for secret in secrets(folder):
        assert secret not in titles + said + kept


def test_looking_needs_a_key_as_well_and_the_right_to_read_is_enough(
    started: Programs, folder: Path, url: str, producer: Program
) -> None:
    del producer
    viewer = ("--keys", "keys/viewer", "--timeout", "60")
    info = started.start("protocol", "info", url, *viewer, cwd=folder)
    peek = started.start("protocol", "peek", url, *viewer, cwd=folder)
    assert (info.status(), peek.status()) == (0, 0), info.err + peek.err
    drop = started.start("protocol", "groups", url, "--drop", "run", *viewer, cwd=folder)
    assert "protocol: drop needs the right to commit" in drop.complaint()
    keyless = started.start("protocol", "info", url, cwd=folder)
    assert (
        keyless.complaint() == f"protocol: the producer at {url} asks for keys: give --keys DIR (keys=DIR in a program)"
    )


@pytest.mark.parametrize(
    ("module", "arguments", "complaint"),
    [
        ("trainer", ("--keys", "keys"), "trainer: --keys keys: give one of the folders in it, that of this client"),
        ("trainer", (), "trainer: the producer at .* asks for keys: give --keys DIR"),
        ("producer", ("--keys", "keys/trainer"), "producer: --keys keys/trainer: these are the keys of a client"),
        ("producer", ("--bind", "tcp://0.0.0.0:*"), r"producer: tcp://0\.0\.0\.0:\* can be reached .* say --insecure"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    started: Programs, folder: Path, producer: Program, module: str, arguments: tuple[str, ...], complaint: str
) -> None:
    del producer
    all_of_it = (*TRAIN, "--stream", "ipc://stream", *arguments) if module == "trainer" else (*SOURCE, *arguments)
    assert re.match(complaint, started.start(module, *all_of_it, cwd=folder).complaint())


def test_a_producer_that_is_meant_to_be_open_says_so(started: Programs, folder: Path) -> None:
    open_to_all = started.start("producer", *SOURCE, "--bind", "tcp://0.0.0.0:*", "--insecure", cwd=folder)
    wait_until(lambda: "serving" in open_to_all.out, "the producer")
    open_to_all.signal(signal.SIGTERM)
    assert open_to_all.status() == 0


def test_a_run_whose_key_is_taken_off_the_list_saves_what_it_has_trained_and_ends(
    started: Programs, folder: Path, url: str, producer: Program
) -> None:
    keys = ("--keys", "keys/trainer")
    trainer = started.start("trainer", *TRAIN, "--stream", url, *keys, "--report_every", "500", cwd=folder)
    wait_until(lambda: "samples" in trainer.out, "a report")
    path = folder / "keys/producer/allowed_clients"
    path.write_text(re.sub(r"trainer .*\n", "", path.read_text()))
    assert "this key has lost the right to what it reads here" in trainer.complaint(status=1)
    newest = listed(folder / "runs/default" / CHECKPOINTS)[-1]
    assert load(newest)["samples"] >= 500
    assert "trainer has lost a right: its session was ended" in producer.err


def test_a_run_that_may_not_commit_ends_with_the_right_that_it_needs(
    started: Programs, folder: Path, url: str, producer: Program
) -> None:
    trainer = started.start("trainer", *TRAIN, "--stream", url, "--keys", "keys/viewer", cwd=folder)
    assert "subscribe needs the right to commit" in trainer.complaint(status=1)
    wait_until(lambda: "(denied): 1 more, the last" in producer.err, "the producer to say so")


# --- as a library ------------------------------------------------------------------------------------------------


def test_a_loader_reads_with_keys(folder: Path, url: str, producer: Program) -> None:
    del producer
    loader = StreamLoader(url, batch_size=10, keys=folder / "keys/trainer", idle_timeout_s=60)
    count = 0
    for batch in loader:
        loader.mark_trained(batch)
        count += batch.count
        if count == 100:
            break
    loader.commit(loader.state_dict(), timeout_s=60)
    loader.drop_group(timeout_s=60)
    with pytest.raises(UsageError, match="keygen"):
        StreamLoader(url, batch_size=10, keys="nowhere").connect()


def test_a_publisher_lets_in_whom_it_knows(folder: Path) -> None:
    with Publisher("tcp://127.0.0.1:*", keys=folder / "keys/producer", drain_timeout_s=60) as publisher:
        publisher.send(number=7)
        with pytest.raises(AccessDenied, match="asks for keys"):
            next(iter(StreamDataset(publisher.address)))
        loader = StreamLoader(publisher.address, batch_size=1, keys=folder / "keys/trainer")
        batch = next(iter(loader))
        assert batch["number"].tolist() == [7]
        loader.mark_trained(batch)
        loader.commit(loader.state_dict(), timeout_s=60)
    with pytest.raises(UsageError, match="can be reached from other machines"):
        Publisher("tcp://0.0.0.0:*")


def test_a_dataset_reads_with_the_right_to_read(folder: Path, url: str, producer: Program) -> None:
    del producer
    sample = next(iter(StreamDataset(url, keys=folder / "keys/viewer")))
    assert sample["image"].shape == (1, 4, 4)
