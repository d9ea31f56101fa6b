"""Numbers for Prometheus: a page over HTTP, from a thread that only reads what it was told last.

Text format and naming are Prometheus's own (prometheus.io/docs/practices/naming), by the package `prometheus-client`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from protocol.errors import UsageError

HOST = "127.0.0.1"
MAX_PORT = 65535
EXAMPLE = "use [HOST]:PORT, for example :9100 (of this machine alone) or 0.0.0.0:9100"


#: By label, `{(): 3.0}` where there is none.
Values = Mapping[tuple[str, ...], float]


@dataclass(frozen=True)
class Family:
    """One metric: its name without `_total`, what it is, and its values."""

    kind: Literal["counter", "gauge"]
    name: str
    text: str
    values: Values
    labels: tuple[str, ...] = ()

    @classmethod
    def counter(cls, name: str, text: str, value: float) -> Self:
        """One number that only grows."""
        return cls("counter", name, text, {(): value})

    @classmethod
    def gauge(cls, name: str, text: str, value: float) -> Self:
        """One number that goes up and down."""
        return cls("gauge", name, text, {(): value})


class Exposition:
    """The page at http://HOST:PORT/metrics, with what `show` was given last and what the process uses.

    `address` is [HOST]:PORT; without a host it is reached from this machine alone, and port 0 picks a free one. Raises
    `UsageError` where the package is missing, or where it cannot listen there.
    """

    def __init__(self, address: str) -> None:
        host, port = place(address)
        try:
            import prometheus_client
            from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
        except ImportError as error:
            raise UsageError("metrics need prometheus-client: pip install 'headrace[metrics]'") from error
        self._families: Sequence[Family] = ()
        self._kinds: Mapping[str, Any] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
        registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)
        # Whatever has `collect` is a collector; its class can be imported only where the package is.
        registry.register(self)
        try:
            self._server, self._thread = prometheus_client.start_http_server(port, host, registry)
        except OSError as error:
            raise UsageError(f"metrics cannot be served at {address} ({error.strerror}): {EXAMPLE}") from error
        self.address = "{}:{}".format(*self._server.server_address[:2])

    def show(self, families: Sequence[Family]) -> None:
        """From now on the page says this."""
        self._families = families

    def collect(self) -> Iterator[Any]:
        """In the page's thread, each time that somebody looks."""
        for family in self._families:
            metric = self._kinds[family.kind](family.name, family.text, labels=family.labels)
            for labels, value in family.values.items():
                metric.add_metric(labels, value)
            yield metric

    def describe(self) -> Iterable[Any]:
        """Nothing: which metrics there are is known once something was shown."""
        return ()

    def close(self) -> None:
        """End the thread and release the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def place(address: str) -> tuple[str, int]:
    """Host and port of [HOST]:PORT; raises `UsageError`."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > MAX_PORT:
        raise UsageError(f"{address!r} is no place for metrics: {EXAMPLE}")
    return host.strip("[]") or HOST, int(port)
