"""The training loop, and what it does at its intervals."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from typing import Any

import torch

from protocol.errors import DataFault, LedgerUnbalanced, NotSaved, PeerError, StreamError, StreamTimeout
from trainer.augmentation import Augmentation
from trainer.batch import AnyBatch, Batch
from trainer.changes import Changes
from trainer.checkpoint import Checkpointer
from trainer.checkpoint_files import verify
from trainer.confusion import Confusion
from trainer.dump import Dump
from trainer.every import Every
from trainer.graph import graph_of
from trainer.loader import StreamLoader
from trainer.loading import Loader
from trainer.metrics import Window, all_finite
from trainer.mistakes import Mistakes
from trainer.parts import Parts
from trainer.prequential import Prequential, is_test
from trainer.room import Room
from trainer.run_state import restore, state_of
from trainer.skipping import Skipping
from trainer.stages import Stages
from trainer.standing import Shares, standing
from trainer.step import StepNotTaken, micro_batches, train_step
from trainer.stopping import Stopping
from trainer.task import Outcome, Prepared
from trainer.telemetry import Telemetry
from trainer.trace import Trace
from trainer.transfer import Columns, Transfer
from trainer.validation import Observer, validate
from trainer.validation_metrics import ValidationMetrics
from trainer.validation_sets import ValidationSets
from trainer.weights import norms
from trainer.wording import time_went

logger = logging.getLogger(__name__)

FINAL_COMMIT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """When the loop reports, validates and saves, in samples; and when it has had enough (0: never)."""

    report: Every
    validate: Every
    checkpoint: Every
    max_samples: int


@dataclass(kw_only=True)
class Training:
    """One life of a run: the loop and the state that a checkpoint holds."""

    parts: Parts
    loader: Loader
    device: torch.device
    transfer: Transfer
    augmentation: Augmentation
    dump: Dump
    accumulate: int
    skip_nan: bool = False
    clip_norm: float = 0.0
    telemetry: Telemetry
    checkpointer: Checkpointer
    stopping: Stopping
    prequential: Prequential
    intervals: Intervals
    validation: ValidationSets
    metrics: ValidationMetrics
    meaning: dict[str, Any]
    stages: Stages = field(default_factory=Stages)
    trace: Trace | None = None
    samples: int = 0
    reported: Window = field(default_factory=Window)
    since_validation: Window = field(default_factory=Window)
    validated_at: int = -1
    stop_asked: str = ""
    #: Of the last step's gradients, where they were clipped: their norm before that.
    _gradient_norm: torch.Tensor | None = None
    changes: Changes = field(init=False)
    _room: Room = field(init=False)
    _shares: Shares = field(init=False)
    _skipping: Skipping = field(init=False)

    def __post_init__(self) -> None:
        self.changes = Changes((each.info, each.position.trained) for each in self.loader.present)
        self._shares = Shares([each.name for each in self.loader.position.streams])
        self._skipping = Skipping(self.loader, self.telemetry)
        self._room = Room(self.loader, self._save_for_room, self.telemetry.notice)

    # --- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train until the stream ends, the limit is reached, or somebody asks to stop; then save."""
        self.stages.begin()
        try:
            with self.trace or nullcontext():
                self._train()
            self._finish()
        except DataFault as fault:
            self._flush()  # one that waits to be written is good as well
            raise DataFault(f"{fault}; the last good checkpoint is {self.checkpointer.newest() or 'none'}") from fault
        except (StreamError, PeerError):
            self._save()  # the stream cannot go on, but what it gave is in the weights
            self._flush()
            raise

    def save_first(self) -> None:
        """A new run's checkpoint before its first step: from here on the producer keeps what it has not trained."""
        self._save()
        self._flush()

    def _train(self) -> None:
        parts, intervals, enter, accumulate = self.parts, self.intervals, self.stages.enter, self.accumulate
        self.parts.model.train()
        if self._enough():
            return
        enter("loader")
        for batch in self.loader:
            before = self.samples
            enter("step")
            columns = self.augmentation(self.transfer(batch), batch.number)  # where the device is waited for
            self.dump(batch, columns)
            enter("copy")
            micro = [parts.task.prepare(each, self.device) for each in micro_batches(columns, batch.count, accumulate)]
            enter("step")
            outcome = self._step(micro, batch.count)
            enter("other")
            if outcome is None:
                self._skipping.skip(batch, parts.model.parameters(), self.samples)
            else:
                self.loader.mark_trained(batch)
                self._count(batch, columns, outcome)
                parts.schedule.batch_trained(before, self.samples)
            if intervals.report.due(before, self.samples):
                self._report()
            if intervals.validate.due(before, self.samples):
                self._validate()
            if intervals.checkpoint.due(before, self.samples):
                self._save()
            if self.loader.position.save_soon:
                self._room.make()
            if self._enough():
                return
            if self.trace is not None:
                self.trace.step()
            enter("loader")
        enter("other")

    def _step(self, micro: Sequence[Prepared], count: int) -> Outcome | None:
        parts, skip_nan = self.parts, self.skip_nan
        try:
            outcome = train_step(
                parts.model,
                parts.optimizer,
                parts.task,
                *micro,
                count=count,
                scaler=parts.scaler,
                skip_nan=skip_nan,
                clip_norm=self.clip_norm,
            )
        except StepNotTaken:
            return None
        if parts.average is not None:
            parts.average.update()
        return outcome

    def _count(self, batch: AnyBatch, columns: Columns, outcome: Outcome) -> None:
        self.samples += batch.count
        self._skipping.trained()
        if outcome.count != batch.count:
            raise LedgerUnbalanced(f"batch {batch.number} has {batch.count} records, but {outcome.count} were trained")
        self.reported.add(outcome)
        self.since_validation.add(outcome)
        self._gradient_norm = outcome.gradient_norm
        self._shares.count(batch)
        parts = [(self.loader.streams[part.stream], part.batch) for part in batch.parts]
        if all(is_test(part, stream.info) for stream, part in parts):
            self.prequential.add(outcome)
        self.telemetry.record(batch, columns)
        for stream, part in parts:
            if stream.info.changes:
                self._tell_changes(stream, part)
        if self.samples == batch.count:  # the first of the run
            (first, *_) = micro_batches(batch, batch.count, self.accumulate)
            self.telemetry.graph(partial(graph_of, self.parts.model, self.parts.task, first, self.device))

    def _tell_changes(self, stream: StreamLoader, part: Batch) -> None:
        info = stream.info
        where = f", {stream.url}" if len(self.loader.streams) > 1 else ""
        for record, words in self.changes.passed(info, part.last_record(info.dealing)):
            self.telemetry.changed(record, words + where, info.dealing.locate(record))

    def _enough(self) -> bool:
        return bool(self.stop_asked) or 0 < self.intervals.max_samples <= self.samples

    def stop(self, why: str) -> None:
        """End after the step that is running, with a checkpoint. May be called by a signal."""
        self.stop_asked = self.stop_asked or why
        self.loader.stop()

    def idle(self) -> None:
        """Called at least once a second while no batch comes."""
        if self.stop_asked:
            self.loader.stop()  # asked before the loader had begun to listen
        if self.loader.position.save_soon:
            self._room.make(idle=True)
        self.telemetry.waiting(self.loader.awaited)

    # --- at intervals --------------------------------------------------------------------------------------------

    def _report(self) -> None:
        train = self.reported.read()
        self._check_finite(self.reported)
        fault = self._ledger_fault()
        self.telemetry.report(
            samples=self.samples,
            batches=self.loader.position.batches,
            train=train,
            prequential=self.prequential.read(),
            learning_rate=float(self.parts.optimizer.param_groups[0]["lr"]),
            norms=norms(self.parts.model, self._gradient_norm),
            stream=standing(self.loader, balanced=fault is None),
            stages=self.stages.since_last(),
            shares=self._shares.since_last(),
        )
        self.reported.reset()
        if fault is not None:
            raise fault

    def _ledger_fault(self) -> LedgerUnbalanced | None:
        try:
            self.loader.check_ledger()
        except LedgerUnbalanced as fault:
            return fault  # shown first, then raised
        return None

    def _validate(self) -> None:
        parts, confusion, mistakes = self.parts, Confusion(), Mistakes()
        with self.stages.of("validation"):
            found = self._found([confusion.observe, mistakes.observe])
        if not found:
            return
        name, *beside = found
        metrics = found[name]
        if not isfinite(metrics["loss"]):
            raise DataFault(f"the validation loss is not a number at {self.samples} samples")
        parts.schedule.validated(metrics["loss"])
        train_loss = self.since_validation.read().get("loss", float("inf"))
        self.since_validation.reset()
        self.validated_at = self.samples
        verdict = self.stopping.observe(self.samples, train_loss, metrics["loss"])
        others = {other: found[other] for other in beside}
        self.telemetry.validation(self.samples, metrics, best=verdict.best, confusion=confusion, others=others)
        self.telemetry.details(parts.model, confusion, mistakes)
        if verdict.best:
            with self.stages.of("checkpoint"):
                self.checkpointer.save(self.samples, self.state_dict(), best=True)
        if verdict.overfitting:
            self.telemetry.notice(self.stopping.explanation())
        if verdict.stop:
            self.telemetry.notice(f"stopped early: {self.stopping.explanation()}")
            self.stop("early stop")

    def _found(self, observers: Sequence[Observer]) -> dict[str, dict[str, float]]:
        """The figures of each set that has records, by name, then those of parts of sets; the first set is looked at by
        the observers, too.
        """
        found: dict[str, dict[str, float]] = {}
        of_parts: dict[str, dict[str, float]] = {}
        for name, judging in self.validation.now().items():
            looked_at_by = [judging.observe, *(() if found else observers)]
            found[name] = validate(self.parts.judged, self.parts.task, judging, self.device, looked_at_by, self.metrics)
            of_parts |= judging.of_parts(name)
        return found | of_parts

    def _save(self, *, alone: bool = False) -> None:
        with self.stages.of("checkpoint"):
            self._check_finite(self.reported)
            self._check_finite(self.since_validation)
            if not all_finite(self.parts.model.parameters()):
                raise DataFault(f"the weights are not numbers any more at {self.samples} samples")
            self.telemetry.flush()
            self.checkpointer.save(self.samples, self.state_dict(), alone=alone)

    def _flush(self) -> None:
        with self.stages.of("checkpoint"):
            self.checkpointer.flush()

    def _save_for_room(self, alone: bool) -> None:  # noqa: FBT001  (what `Room` calls)
        self._save(alone=alone)

    def _check_finite(self, window: Window) -> None:
        if not window.finite():
            raise DataFault(f"the loss is not a number any more at {self.samples} samples")

    def _finish(self) -> None:
        if self.loader.position.ended or (not self.stop_asked and self._enough()):
            if self.reported.count:
                self._report()
            if self.validated_at != self.samples:
                self._validate()
        if self.validated_at == self.samples:
            self.telemetry.last_details()
        self._save()
        self._flush()
        if self.checkpointer.durable != self.samples:
            raise NotSaved(
                f"what was trained up to {self.samples:,} samples could not be saved; the last good checkpoint is "
                f"{self.checkpointer.newest() or 'none'}: make room, then run the same command to train the rest again"
            )
        if self.loader.position.ended:
            self._commit_end()
        self.telemetry.notice(time_went(self.stages.of_all()))
        self.telemetry.notice(self._why_it_ended())

    def _commit_end(self) -> None:
        """The stream is over, so its last positions may be forgotten once the checkpoint was read back."""
        newest = self.checkpointer.newest()
        assert newest is not None
        verify(newest)
        try:
            self.loader.commit(self.loader.state_dict(), timeout_s=FINAL_COMMIT_S)
        except (StreamTimeout, PeerError):
            self.telemetry.notice("the producer left before it heard that everything was trained")

    def _why_it_ended(self) -> str:
        if self.stop_asked:
            return f"{self.stop_asked}: saved at {self.samples:,} samples"
        if self.loader.position.ended:
            return f"the stream has ended: all of it was trained, {self.samples:,} samples"
        why = "the limit is reached" if self._enough() else "no record came within the idle time-out"
        return f"{why}: saved at {self.samples:,} samples"

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next life needs (trainer/run_state.py)."""
        return state_of(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; the loader's state was loaded before it was connected."""
        restore(self, state)
