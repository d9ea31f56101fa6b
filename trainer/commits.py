"""What the producers of a mix are told of durable checkpoints."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from protocol.errors import PeerError, StreamTimeout
from trainer.loader import StreamLoader

#: A producer that is away hears of a commit when it is back.
AWAY_S: Final = 0.2


def commit_each(loaders: Sequence[StreamLoader], states: Sequence[Mapping[str, Any]], timeout_s: float) -> None:
    """Commit to each stream its own state, if there is one. Those whose producers are away come last.

    All are told; then raises `StreamTimeout` or the `PeerError` that the first has met.
    """
    failed: list[StreamTimeout | PeerError] = []
    known = {state["incarnation"]: state for state in reversed(states)}  # those that are read come first
    for loader in sorted(loaders, key=lambda each: each.away_s or 0.0):
        try:
            if (state := known.get(loader.incarnation)) is not None:
                loader.commit(state, timeout_s=timeout_s if loader.away_s is None else AWAY_S)
        except (StreamTimeout, PeerError) as error:
            failed.append(error)
    if failed:
        raise failed[0]
