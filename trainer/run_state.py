"""What a checkpoint holds of a run, and how a life goes on from it."""

from typing import TYPE_CHECKING, Any

from trainer.rng import capture_generators, restore_generators

if TYPE_CHECKING:
    from trainer.loop import Training

STATE_VERSION = 1


def state_of(run: "Training") -> dict[str, Any]:
    """Everything that the next life needs; plain values and tensors."""
    parts = run.parts
    return {
        "version": STATE_VERSION,
        "samples": run.samples,
        "batches": run.loader.position.batches,
        "model": parts.model.state_dict(),
        "average": None if parts.average is None else parts.average.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "scaler": None if parts.scaler is None else parts.scaler.state_dict(),
        "scheduler": None if parts.schedule.scheduler is None else parts.schedule.scheduler.state_dict(),
        "stream": run.loader.state_dict(),
        "info": run.loader.info.to_wire(),  # what the records are, for whoever asks the model without a stream
        "windows": {"reported": run.reported.state_dict(), "since_validation": run.since_validation.state_dict()},
        "prequential": run.prequential.state_dict(),
        "changes": run.changes.state_dict(),
        "validated_at": run.validated_at,
        "stopping": run.stopping.state_dict(),
        "telemetry": run.telemetry.state_dict(),
        "rng": capture_generators(run.device),
        "meaning": run.meaning,
    }


def restore(run: "Training", state: dict[str, Any]) -> None:
    """Go on from a checkpoint; the loader's state was loaded before it was connected."""
    parts = run.parts
    parts.model.load_state_dict(state["model"])
    if parts.average is not None:
        parts.average.load_state_dict(state["average"])
    parts.optimizer.load_state_dict(state["optimizer"])
    if parts.schedule.scheduler is not None:
        parts.schedule.scheduler.load_state_dict(state["scheduler"])
    if parts.scaler is not None and (scaler := state.get("scaler")) is not None:  # the last life may have had none
        parts.scaler.load_state_dict(scaler)
    run.samples = state["samples"]
    run.reported.load_state_dict(state["windows"]["reported"], run.device)
    run.since_validation.load_state_dict(state["windows"]["since_validation"], run.device)
    run.prequential.load_state_dict(state["prequential"], run.device)
    if (changes := state.get("changes")) is not None:  # the last life may not have known of any
        run.changes.load_state_dict(changes)
    run.validated_at = state["validated_at"]
    run.stopping.load_state_dict(state["stopping"])
    restore_generators(state["rng"], run.device)
