"""What a producer tells Prometheus: its log, its readers and how far each group is."""

from collections.abc import Sequence

from producer.service import Service
from protocol.dealing import Positions, distance
from protocol.exposition import Family, Values


def families(service: Service, now_s: float) -> Sequence[Family]:
    """Everything, as it stands now; called in the server's thread. At most 256 groups and 4096 partitions."""
    start, end, groups = service.stream.log_start(), service.stream.log_end(), service.group_states(now_s)

    def of_groups(name: str, text: str, values: Sequence[float]) -> Family:
        by_name: Values = {(group.name,): value for group, value in zip(groups, values, strict=True)}
        return Family("gauge", f"headrace_group_{name}", text, by_name, ("group",))

    def of_partitions(which: str, text: str, positions: Positions) -> Family:
        by_number: Values = {(str(partition),): float(offset) for partition, offset in positions.items()}
        return Family("gauge", f"headrace_log_{which}_offset", text, by_number, ("partition",))

    return (
        Family.counter("headrace_records_sent", "Records sent, to all readers together.", service.sent),
        Family.counter(
            "headrace_records_rejected", "Records that the log did not let in.", service.bad_records.rejected
        ),
        Family(
            "counter",
            "headrace_messages_refused",
            "Messages of peers that were refused.",
            {(code,): count for code, count in service.refused.items()},
            ("code",),
        ),
        Family.gauge("headrace_readers", "Subscriptions of readers.", len(service.sessions)),
        Family.gauge("headrace_log_filled_ratio", "Share of the log's room that is taken.", service.stream.filled),
        Family.gauge("headrace_stream_ended", "Whether no record will follow: 0 or 1.", service.stream.ended),
        of_partitions("start", "The first offset that can still be read.", start),
        of_partitions("end", "The offset after the last record.", end),
        of_groups("lag_records", "From what was trained to the log end.", [distance(g.trained, end) for g in groups]),
        of_groups("trained_records", "Offsets that were trained, summed.", [sum(g.trained.values()) for g in groups]),
        of_groups("committed_records", "Those committed, summed.", [sum(g.committed.values()) for g in groups]),
        of_groups("readers", "Readers that are subscribed.", [g.readers for g in groups]),
        of_groups("silent_seconds", "Since the group was last heard of.", [g.silent_s for g in groups]),
    )
