"""What a run says about itself: facts, and the interface of whatever shows or keeps them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from protocol.stream import StreamInfo


@dataclass(frozen=True, kw_only=True)
class Start:
    """The first fact of each life of a run, once the stream is known and a checkpoint, if any, is loaded."""

    samples: int
    """Samples trained before this life: those of the checkpoint that was resumed, else 0."""
    resumed: bool
    """Whether a checkpoint was resumed; if not, what earlier lives wrote counts for nothing."""
    run_dir: str
    stream: str
    """URL of the stream."""
    info: StreamInfo
    """What the stream is."""
    model: str
    """The model's name, for people."""
    device: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Everything that the run was told, nested as it was told."""
    environment: Mapping[str, str | int] = field(default_factory=dict)
    """Versions, device and processors of this life."""
    expected_samples: int | None = None
    """Samples at which the run will end, where that is known."""
    tensorboard: str = ""
    """The command line that shows this run in TensorBoard."""


@dataclass(frozen=True, kw_only=True)
class StreamStanding:
    """How one of several streams stands, over all partitions."""

    name: str
    """Its URL as far as the `?`."""
    state: str
    """`streaming`, `away 12 s` or `ended`; `not there` or `left out` where this life does not read it."""
    away: bool
    """Whether its producer is waited for."""
    samples: int
    """Samples trained of it, and of streams that it has followed, over all lives."""
    lag: int | None
    """Records in the log that are not trained yet; None while it has not been heard of in this life."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How the stream stands, over all partitions; where there are several, over all of them."""

    state: str
    """`streaming`, `away 12 s` or `ended`."""
    lag: int | None
    """Records in the log that are not trained yet; None while the log end is unknown."""
    log_end: int | None
    """Records that the log has ever held; None while unknown."""
    ledger: Mapping[str, int]
    """Where the records went: received; trained and the other fates (trainer/ledger.py); buffered, unmarked."""
    balanced: bool
    """Whether the ledger's two sides agree."""
    streams: Sequence[StreamStanding] = ()
    """Each of several streams; empty where there is one."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """How training goes; one per `report_every` samples."""

    samples: int
    """Samples trained over all lives: the axis of every chart."""
    batches: int
    """Batches over all lives, those that were skipped among them."""
    train: Mapping[str, float]
    """Loss, accuracy and so on over the samples since the last report; `count` is how many those were."""
    learning_rate: float
    norms: Mapping[str, float] = field(default_factory=dict)
    """Of the `gradient` of the last step, before it was clipped, and of the `weight`s that are learnt."""
    samples_per_s: float | None
    """Samples trained per second of wall time since the last report; None in a life's first moment."""
    sample_age_ms_p50: float | None
    """Milliseconds from a record's event to its training, of each batch's newest record: the median, ..."""
    sample_age_ms_p99: float | None
    """... and what 99 of 100 stay under. Of a record from the future (two clocks differ) the age is 0."""
    stream: Standing
    stages: Mapping[str, float]
    """Where the time since the last report went: shares by stage (trainer/stages.py), 1 in all."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Whose the samples since the last report were, as far as they are this life's: shares by stream, 1 in all; empty
    where there is one stream."""
    prequential: Mapping[str, float] = field(default_factory=dict)
    """What was tested before it was trained on (trainer/prequential.py): `accuracy_window`, `loss_fading` and so on;
    `count` is the records of all tests. Empty where there was none since the last report."""


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """The model on held-out records."""

    samples: int
    metrics: Mapping[str, float]
    """Loss, accuracy and so on; `count` is the number of records."""
    best: bool
    """Whether the loss is the lowest of all validations so far."""
    per_class: Mapping[str, float] = field(default_factory=dict)
    """The share of each class's records that was told right, by name; empty where there are no or too many classes."""
    confusion: Sequence[Sequence[int]] = ()
    """[class][told class]: how many records; empty in the same cases."""
    others: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Metrics on other sets of held-out records, by their names; they decide nothing."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something that happened, in one line: resumed, over-fitting, the producer went away or came back."""

    samples: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Changed(Notice):
    """Training has come to a change of the stream, as its producer has announced it."""

    record: int
    """Its number in the stream, and where that lies."""
    partition: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Something to look at."""

    samples: int
    name: str
    """`loader` (what left it), `validation/most_wrong` or `validation/confusion`."""
    sheet: npt.NDArray[np.uint8]
    """[height, width, 3]."""


@dataclass(frozen=True, kw_only=True)
class Histograms:
    """How weights and gradients are distributed."""

    samples: int
    values: Mapping[str, npt.NDArray[np.float32]]
    """[n] by name, `weights/conv1.bias`; all of them finite."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What the model computes; once in a run."""

    samples: int
    graph: Any
    """As `trainer.graph.graph_of` gives it."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A sign of life between two reports, for displays only."""

    samples: int
    samples_per_s: float | None
    """Over the last few seconds."""
    streams: Sequence[StreamStanding] = ()
    """Each of several streams."""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Nothing to train on. Said again each second or so until it is over; for displays only."""

    text: str
    """What for: `the producer at tcp://127.0.0.1:5555`."""
    waited_s: float
    """Seconds since this was first said."""
    streams: Sequence[StreamStanding] = ()
    """Each of several streams; empty before `Start`."""


Fact = Start | Report | ValidationReport | Notice | Pictures | Histograms | Graph | Progress | Waiting


class Sink(ABC):
    """Something that shows or keeps facts. It may raise `OSError`: the run goes on, and says so.

    `write` runs between two training steps, so it is quick and synchronises with no device.
    """

    name: ClassVar[str]
    """What it is called where it fails."""

    before_start: ClassVar[bool] = False
    """Whether it takes facts from before `Start`; they reach the others right after it."""

    details: ClassVar[bool] = False
    """Whether it shows pictures, histograms and the graph; where no sink does, none are made."""

    @abstractmethod
    def write(self, fact: Fact) -> None:
        """Take one fact; facts of no interest are passed over."""

    @abstractmethod
    def flush(self) -> None:
        """Return once a `SIGKILL` can no longer undo what was written."""

    @abstractmethod
    def close(self) -> None:
        """Flush and release; nothing is written afterwards."""
