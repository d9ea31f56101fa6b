"""What tests of several rooms share."""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.programs import Parent, Programs
from tests.trainer.lives import Nursery

# Two tests run at once on two cores: with two threads each, torch would wait for itself. Before anything imports it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What is drawn is what may fail, never how long it takes on a machine that is busy.
settings.register_profile("any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure() -> None:
    """Programs that tests start must hear Ctrl-C, also where a shell started the tests in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def seed() -> int:
    """SEED from the environment, which repeats a test that has failed, else a new one; it is printed."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"SEED={seed}")
    return seed


@pytest.fixture(scope="session")
def parent_of_programs() -> Iterator[Parent]:
    """It imports torch, which takes seconds, once."""
    with Parent() as parent:
        yield parent


@pytest.fixture(scope="module")
def started(parent_of_programs: Parent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    """Starts command lines as processes of their own; none outlives its module."""
    with Programs(parent_of_programs, tmp_path_factory.mktemp("programs")) as started:
        yield started


@pytest.fixture(scope="session")
def parent_of_lives() -> Iterator[Nursery]:
    """It imports torch, which takes seconds, once."""
    with Nursery() as nursery:
        yield nursery


@pytest.fixture(scope="module")
def nursery(parent_of_lives: Nursery) -> Iterator[Nursery]:
    """Forks lives of trainers; none outlives its module."""
    yield parent_of_lives
    parent_of_lives.clear()


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that tells four kinds of stripes apart, not always; nobody writes into it."""
    from tests.trainer.trained_run import pictures, train

    options = ("--model.classes", "4", "--batch_size", "32", "--optimizer.lr", "0.1")
    return train(tmp_path_factory.mktemp("trained") / "run", pictures(), *options)


@pytest.fixture
def signals_as_they_were() -> Iterator[None]:
    """For a trainer that runs in the test's own process, where it obeys SIGINT and SIGTERM."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of Kafka's that a package ships, by HOST:PORT."""
    from tests.protocol.kafka.brokers import shipped_broker  # needs what not everybody has installed

    with shipped_broker(tmp_path_factory.mktemp("broker")) as address:
        yield address


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of `make test-faults`: a row for each fault that was caused and survived.

    It is printed here since the process that prints, where tests are run by others, loads no conftest of a subfolder.
    """
    if terminalreporter.config.option.markexpr not in ("faults", "long"):
        return
    passed = terminalreporter.stats.get("passed", [])
    told = (value for report in passed for name, value in report.user_properties if name == "fault")
    rows = sorted(told, key=lambda row: str(row[0]).zfill(2))  # a fault has a number or a name
    if rows:
        terminalreporter.section("faults")
        terminalreporter.write_line("| # | caused | seen |\n| --- | --- | --- |")
        for number, caused, seen in rows:
            terminalreporter.write_line(f"| {number} | {caused} | {seen} |")
