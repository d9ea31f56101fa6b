"""What a run asks of the loader that feeds it, whether that reads one stream or mixes several."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from protocol.stream import StreamInfo
from trainer.batch import AnyBatch
from trainer.holdout import Holdout
from trainer.reading import Reading
from trainer.report import StreamStanding

if TYPE_CHECKING:
    from trainer.loader import StreamLoader


class Place(Protocol):
    """Where a run stands on all of its streams; counts are records, over all partitions."""

    #: A producer's log is nearly full and waits for a commit; whoever saves sets it back.
    save_soon: bool

    @property
    def batches(self) -> int:
        """Batches over all lives, those that were skipped among them."""

    @property
    def passed(self) -> int:
        """All that the positions have passed."""

    @property
    def log_records(self) -> int:
        """All that the logs have ever held, as far as was heard."""

    @property
    def lag(self) -> int:
        """Those between what was trained and the log ends last heard."""

    @property
    def received(self) -> int:
        """Those that came in from readers in this life."""

    @property
    def ended(self) -> bool:
        """Whether everything has ended and all of it was trained."""

    @property
    def state(self) -> str:
        """`streaming`, `away 12 s` or `ended`; of several streams, which of them."""

    @property
    def streams(self) -> Sequence[StreamStanding]:
        """How each of several stands, by the number that a part of a batch has; nothing where there is one."""

    def totals(self) -> dict[str, int]:
        """What became of all records, those of earlier streams among them."""


class Loader(Protocol):
    """Batches, and the positions that have been trained. `StreamLoader` says what each of these does."""

    url: str
    group: str
    on_idle: Callable[[], None] | None

    @property
    def streams(self) -> Sequence["StreamLoader"]:
        """One for each stream, by the number that a part of a batch has."""

    @property
    def present(self) -> Sequence["StreamLoader"]:
        """Those that have been heard of in this life."""

    @property
    def reading(self) -> Reading:
        """How the stream is read that `info` has the splits of."""

    @property
    def info(self) -> StreamInfo:
        """What the records are, and the splits."""

    @property
    def position(self) -> Place: ...

    @property
    def awaited(self) -> str:
        """What is waited for while no batch comes."""

    @property
    def holds_out(self) -> bool:
        """Whether records are held out to validate on."""

    @property
    def held_out_by_stream(self) -> Mapping[str, Holdout]:
        """Those that are held out by now, the newest of each stream, by its name."""

    def connect(self) -> object: ...
    def __iter__(self) -> Iterator[AnyBatch]: ...
    def stop(self) -> None: ...
    def mark_trained(self, batch: AnyBatch) -> None: ...
    def mark_skipped(self, batch: AnyBatch) -> None: ...
    def in_hand(self) -> dict[str, int]: ...
    def check_ledger(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
    def commit(self, state: Mapping[str, Any], *, timeout_s: float = ...) -> None: ...
    def drop_group(self, *, timeout_s: float = ...) -> None: ...
