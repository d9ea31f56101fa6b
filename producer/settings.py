"""What `python -m producer` is told of the stream and its server; what feeds it has settings of its own."""

from dataclasses import dataclass, field
from typing import Literal

from producer.kafka_values import topic_to_write
from protocol.dealing import Dealing
from protocol.errors import UsageError
from protocol.kafka.url import KAFKA

VALIDATION = "validation"


@dataclass(frozen=True, kw_only=True)
class ProducerSettings:
    """What is served, and how."""

    bind: str = "tcp://127.0.0.1:5555"
    """where to listen: tcp://HOST:PORT (a PORT of * picks a free one) or ipc://PATH"""
    inlet: str = ""
    """in place of a source: where to take in records that other programs push, in any language (protocol/SPEC.md)"""
    inlet_ends: bool = False
    """end the stream once a writer has said that it is done and no other is there; else it has no end"""
    sink: str = ""
    """in place of serving: write the stream into a topic of Kafka's, kafka://HOST:PORT/TOPIC (docs/sources.md)"""
    keys: str = ""
    """folder of the producer's keys (python -m protocol keygen makes it); without one, whoever reaches it is let in"""
    insecure: bool = False
    """listen without keys where other machines can reach it"""
    partitions: int = 8
    """partitions of the stream; readers share them out among themselves"""
    rate: float = 2000.0
    """records a second that a dataset releases; 0: as fast as trainers read"""
    passes: int = 0
    """passes over a dataset; 0: endless"""
    seed: int = 0
    """orders the passes, and says on which records a drift falls"""
    validation: int | float = 0
    """records that a dataset without a validation split of its own holds out for it: a number, or a share below 1"""
    splits: dict[str, int | float] = field(default_factory=dict)
    """further splits by name, drawn one after the other, such as '{dark: 500, test: 0.2}'; shares are of all records
    that would be streamed without any"""
    drift: str = ""
    """a YAML file of changes to the stream by the number of a record, such as pictures that turn or a class that
    appears; docs/sources.md says what there is. Held-out records stay as they are"""
    until: Literal["stopped", "committed"] = "stopped"
    """committed: end once the stream has ended and every group has committed all of it"""
    status_every_s: float = 10.0
    """seconds between two status lines; 0: none"""
    metrics: str = ""
    """serve metrics for Prometheus at http://[HOST]:PORT/metrics, such as :9100; without HOST for this machine alone"""

    def __post_init__(self) -> None:
        if min(self.rate, self.passes, self.validation, self.status_every_s) < 0:
            raise UsageError("--rate, --passes, --validation and --status_every_s are 0 or more")
        if self.validation and VALIDATION in self.splits:
            raise UsageError("--validation and --splits both say how many records validation has: give one of them")
        if self.sink:
            self._check_sink()
        if self.inlet_ends and not self.inlet:
            raise UsageError("--inlet_ends says when the stream of an inlet ends: give --inlet as well")
        try:
            Dealing(self.partitions, 1)
        except ValueError as error:
            raise UsageError(f"--partitions: {error}") from error

    def _check_sink(self) -> None:
        if not self.sink.startswith(KAFKA):
            raise UsageError(f"--sink {self.sink!r} is no topic: give kafka://HOST:PORT/TOPIC")
        topic_to_write(self.sink)
        if self.metrics or self.until == "committed" or (self.keys and not self.inlet):
            mend = "leave out --metrics, --until committed and, where there is no --inlet, --keys"
            raise UsageError(f"--sink serves nobody: {mend}")

    @property
    def sizes(self) -> dict[str, int | float]:
        """How many records each split has, in the order in which they are drawn."""
        return ({VALIDATION: self.validation} if self.validation else {}) | self.splits
