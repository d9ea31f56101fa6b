"""What a producer tells Prometheus is what it tells everybody else."""

from producer.exposed import families
from protocol.dealing import distance
from tests.producer.bench import A, Bench, stream


def test_a_producer_tells_of_its_log_its_readers_and_its_groups() -> None:
    bench = Bench(stream())
    bench.subscribe(A, group="run")
    bench.subscribe(A, split="sound", session=2)
    bench.wait(5.0)
    told = {family.name: family for family in families(bench.service, bench.now_s)}
    end = bench.service.stream.log_end()
    assert told["headrace_readers"].values == {(): 1}
    assert told["headrace_records_sent"].kind == "counter"
    assert told["headrace_messages_refused"].values == {("unknown",): 1}
    assert told["headrace_log_end_offset"].values == {(str(p),): offset for p, offset in end.items()}
    assert told["headrace_group_lag_records"].values == {("run",): distance(dict.fromkeys(end, 0), end)}
    assert told["headrace_group_silent_seconds"].values == {("run",): 5.0}
    assert told["headrace_stream_ended"].values == {(): True}


def test_names_follow_prometheus_conventions() -> None:
    """prometheus.io/docs/practices/naming: one prefix, base units in plural, `_total` only where it is a counter."""
    bench = Bench(stream())
    for family in families(bench.service, bench.now_s):
        assert family.name.startswith("headrace_")
        assert not family.name.endswith(("_total", "_ms", "_count"))
        assert family.text.endswith(".")
        assert all(len(labels) == len(family.labels) for labels in family.values)
