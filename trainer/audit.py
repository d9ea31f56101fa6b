"""Whether a run's ledger adds up: the checkpoint by itself, and against the log that its stream is served from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from protocol.dealing import Positions
from protocol.errors import LedgerUnbalanced
from protocol.messages import Description
from trainer.ledger import ClosedLedger, add_up
from trainer.mixed_position import states_in
from trainer.position import check_version


@dataclass(frozen=True, kw_only=True)
class Served:
    """What the producer says of the stream now. `committed` is by the run's group, None where it is not known.

    A log that is `simulated` out of a dataset and was restarted may not have been asked yet for as much as before.
    """

    incarnation: str
    log_start: Positions
    log_end: Positions
    committed: Positions | None
    simulated: bool

    @classmethod
    def of(cls, before: Description, after: Description, group: str) -> "Served":
        """From what was said before and after the checkpoint was read, since the run may go on meanwhile."""
        committed = next((each.committed for each in before.groups if each.name == group), None)
        return cls(
            incarnation=after.info.incarnation,
            log_start=after.log_start,
            log_end=after.log_end,
            committed=committed,
            simulated=after.info.records_per_pass is not None,
        )


class Account:
    """The ledgers of a run as a checkpoint holds them, of each of its streams the newest last. Raises `UsageError` for
    another version's.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        states = states_in(state["stream"])
        for each in states:
            check_version(each)
        self.samples = int(state["samples"])
        self.group = str(state["stream"]["group"])
        #: Samples of shuffled windows that the positions have not passed.
        self.ahead = sum(sum(each["ahead"]["trained"].values()) for each in states)
        #: Those that others have followed among them.
        self.streams = [ClosedLedger.from_state(one) for each in states for one in (*each["earlier"], each)]
        #: Incarnations of those that no other has followed, with the URL of each of several.
        self.read = {str(each["incarnation"]): str(each.get("url", "")) for each in states}

    @property
    def totals(self) -> dict[str, int]:
        """Each fate over all streams."""
        return add_up([each.ledger for each in self.streams])

    def served_one(self, served: Served) -> ClosedLedger:
        """The stream that is read and served. Raises `LedgerUnbalanced` where it is none of the run's."""
        read = {each.incarnation: each for each in self.streams if each.incarnation in self.read}
        if served.incarnation not in read:
            known = " and ".join(f"{each} at {url}" if (url := self.read[each]) else each for each in read)
            raise LedgerUnbalanced(f"incarnation: found stream {served.incarnation}, and the run reads {known}")
        return read[served.incarnation]

    def check(self, served: Served | None = None) -> None:
        """Raise `LedgerUnbalanced` that names the term which is wrong, as far as the others tell."""
        trained = self.totals["trained"] + self.ahead
        if trained != self.samples:
            raise LedgerUnbalanced(f"trained: the ledger has {trained:,} records, the checkpoint {self.samples:,}")
        for each in self.streams:
            for partition in each.positions:
                _check_partition(each, partition)
        if served is not None:
            _check_served(self.served_one(served), served)


def rows(stream: ClosedLedger, served: Served | None = None) -> Iterator[dict[str, int]]:
    """Each partition's terms, by name. What `remain` has not been trained; what is `forgotten` never will be."""
    for partition, position in stream.positions.items():
        row = {"partition": partition, "start": stream.ledger.start[partition], "position": position}
        fates = stream.ledger.fates(partition)
        row |= fates | {"balance": position - row["start"] - sum(fates.values())}
        if served is not None:
            start, end = served.log_start.get(partition, 0), served.log_end.get(partition, 0)
            row |= {"log_start": start, "log_end": end}
            row |= {} if served.committed is None else {"committed": served.committed.get(partition, 0)}
            row |= {"forgotten": max(0, start - position), "remain": max(0, end - max(start, position))}
        yield row


def _check_partition(stream: ClosedLedger, partition: int) -> None:
    """What was trained agrees with the samples already, over all partitions."""
    passed, fates = stream.positions[partition] - stream.ledger.start[partition], stream.ledger.fates(partition)
    counted = sum(fates.values())
    if counted == passed:
        return
    said = {fate.replace("_", " "): count for fate, count in fates.items() if count}
    suspects = " or ".join(["start", "position", *(fate for fate in said if fate != "trained")])
    terms = ", ".join(f"{fate} {count:,}" for fate, count in said.items()) or "none"
    raise LedgerUnbalanced(
        f"{suspects}: {passed:,} records of partition {partition} have passed and {counted:,} are accounted for "
        f"({terms}) in stream {stream.incarnation}"
    )


def _check_served(stream: ClosedLedger, served: Served) -> None:
    for partition, position in stream.positions.items():
        end = served.log_end.get(partition, 0)
        if position > end and not served.simulated:
            raise LedgerUnbalanced(f"position: {position:,} of partition {partition} lies beyond the log end {end:,}")
        committed = (served.committed or {}).get(partition, 0)
        if committed > position:
            raise LedgerUnbalanced(
                f"committed: {committed:,} of partition {partition} lies beyond the position {position:,}"
            )
