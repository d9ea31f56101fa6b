"""What Prometheus finds, by a real request and its own parser."""

import sys
import urllib.request
from collections.abc import Iterator

import pytest

from protocol.errors import UsageError
from protocol.exposition import Exposition, Family

parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")


@pytest.fixture
def page() -> Iterator[Exposition]:
    page = Exposition(":0")
    yield page
    page.close()


def scraped(page: Exposition) -> dict[str, dict[tuple[str, ...], float]]:
    """Name → values by label, as Prometheus understands them."""
    with urllib.request.urlopen(f"http://{page.address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples}
        for family in parser.text_string_to_metric_families(text)
    }


def test_the_page_says_what_it_was_told_last_and_what_the_process_uses(page: Exposition) -> None:
    assert page.address.startswith("127.0.0.1:")
    page.show([Family.counter("headrace_x", "Old.", 1)])
    page.show(
        [
            Family.counter("headrace_records_sent", "Sent.", 7),
            Family("gauge", "headrace_lag", "Lag.", {('run "1"\n',): 3.5, ("",): 0.0}, ("group",)),
        ]
    )
    found = scraped(page)
    assert found["headrace_records_sent"] == {(): 7.0}
    assert found["headrace_lag"] == {('run "1"\n',): 3.5, ("",): 0.0}
    assert "headrace_x" not in found
    assert found["process_resident_memory_bytes"][()] > 1e6


def test_a_counter_is_said_with_the_ending_that_prometheus_wants(page: Exposition) -> None:
    page.show([Family.counter("headrace_records_sent", "Sent.", 7)])
    with urllib.request.urlopen(f"http://{page.address}/metrics", timeout=10) as answer:
        assert b"\nheadrace_records_sent_total 7.0\n" in answer.read()


@pytest.mark.parametrize("address", ["", "here", ":", ":many", ":70000", "-1"])
def test_a_place_that_is_none_is_said_with_one_that_is(address: str) -> None:
    with pytest.raises(UsageError, match=r"is no place for metrics: use \[HOST\]:PORT, for example :9100"):
        Exposition(address)


def test_a_port_that_is_taken_is_one_line(page: Exposition) -> None:
    with pytest.raises(UsageError, match=f"cannot be served at {page.address} .Address already in use.: use"):
        Exposition(page.address)


def test_without_the_package_the_mend_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UsageError, match=r"pip install 'headrace\[metrics\]'"):
        Exposition(":0")
