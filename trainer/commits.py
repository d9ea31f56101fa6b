"""What the producers of a mix are told of durable checkpoints."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from protocol.errors import PeerError, StreamTimeout
from trainer.loader import StreamLoader

#: A producer that is away hears of a commit when it is back.
AWAY_S: Final = 0.2


class Commits:
    """Remembers by URL the incarnation and the positions that were last said, so that nothing is said twice: the
    producer of a stream that has ended may have left since.
    """

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, Any]] = {}

    def tell(self, loaders: Sequence[StreamLoader], states: Sequence[Mapping[str, Any]], timeout_s: float) -> None:
        """Commit the states of these loaders, known by their URLs. Those whose producers are away come last.

        All are told; then raises `StreamTimeout` or the `PeerError` that the first has met.
        """
        there = {each.url: each for each in loaders}
        failed: list[StreamTimeout | PeerError] = []
        known = [state for state in states if state["url"] in there]
        for state in sorted(known, key=lambda each: there[each["url"]].away_s or 0.0):
            loader, said = there[state["url"]], (state["incarnation"], state["positions"])
            if self._said.get(loader.url) == said:
                continue
            try:
                loader.commit(state, timeout_s=timeout_s if loader.away_s is None else AWAY_S)
                self._said[loader.url] = said
            except (StreamTimeout, PeerError) as error:
                failed.append(error)
        if failed:
            raise failed[0]
