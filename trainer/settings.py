"""What `python -m trainer train` is told, besides the parts that it is made of."""

from dataclasses import dataclass
from typing import Literal, get_args

from protocol.beginning import Beginning
from protocol.errors import UsageError
from protocol.open_reader import check_url
from trainer.arrivals import Asked
from trainer.mix import urls_in
from trainer.position import OnLoss
from trainer.sampling import MAX_SEED


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The run."""

    stream: str = "tcp://127.0.0.1:5555"
    """URL of the stream: tcp://HOST:PORT, ipc://PATH, or file://DIR for a recording; URL,URL for several, which are
    mixed by --weights"""
    keys: str = ""
    """folder of this client's keys, where the producer has some (python -m protocol keygen makes both); DIR,DIR where
    those of several streams have different ones"""
    run_dir: str = "runs/default"
    """folder of the run: checkpoints, held-out records, metrics, TensorBoard"""
    resume: str = "auto"
    """auto: go on from the newest checkpoint if there is one; never: begin anew; PATH: from that checkpoint"""
    start: str = "earliest"
    """where a new run begins to read: earliest, latest, a time (2026-11-26T07:30) or a time ago (10m, 2h, 1d)"""
    batch_size: int = 64
    """records of one optimizer step"""
    workers: int = 0
    """processes that read the stream; 0 reads in a thread"""
    max_samples: int = 0
    """stop after this many samples, over all lives; 0: when the stream ends"""
    report_every: int = 10_000
    """samples between two reports"""
    validate_every: int = 10_000
    """samples between two validations; 0: only at the stream's end"""
    checkpoint_every: int = 10_000
    """samples between two checkpoints; 0: only at the end"""
    validation_batch_size: int = 1000
    """records of one step of a validation"""
    on_bad_record: Literal["stop", "quarantine"] = "stop"
    """what a record whose label is outside the schema's range does: stop the run, or be kept aside in the run
    directory's quarantine.jsonl, in no batch, and counted as rejected"""
    seed: int = 0
    """of the model's first weights and of whatever it draws while training"""
    connect_timeout: float = 0.0
    """seconds to wait for a producer; 0: for ever"""
    idle_timeout: float = 0.0
    """seconds without a record after which the run saves and ends; 0: never"""
    on_loss: OnLoss = "stop"
    """what is done about records that the stream has lost, because its log forgot them or its producer died with them.
    stop: the run saves and ends, and says which; continue: they are counted in the ledger and said, and the run goes
    on with what there is, also on the stream of the next producer"""

    order: Asked = "stream"
    """stream: in the stream's own order, so that a run can be repeated; arrival: as records come, those of each
    partition one after the other, so that no partition waits for another"""

    def __post_init__(self) -> None:
        urls = urls_in(self.stream)
        for url in urls:
            check_url(url)
        if len(set(urls)) < len(urls):
            raise UsageError(f"--stream {self.stream} names a stream twice: give each once")
        if self.batch_size < 1 or self.validation_batch_size < 1:
            raise UsageError("--batch_size and --validation_batch_size are at least 1")
        if self.workers < 0 or self.max_samples < 0 or self.connect_timeout < 0 or self.idle_timeout < 0:
            raise UsageError("--workers, --max_samples, --connect_timeout and --idle_timeout are 0 or more")
        if self.report_every < 1:
            raise UsageError("--report_every is at least 1")
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"--seed is from 0 to {MAX_SEED}")
        Beginning.of(self.start)
        if self.on_loss not in get_args(OnLoss):
            raise UsageError(f"--on_loss is one of {', '.join(get_args(OnLoss))}, not {self.on_loss!r}")
        if self.order not in get_args(Asked):
            raise UsageError(f"--order is one of {', '.join(get_args(Asked))}, not {self.order!r}")
