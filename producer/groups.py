"""The groups: one training run each, as the producer knows it, and what they allow the log to forget.

A group is *durable* once it has a checkpoint to come back to: it pins the log at what it has committed until it is
dropped. Any other releases what it has marked as trained, and expires when it is silent for its time to live.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from protocol.codec import MAX_GROUPS
from protocol.dealing import Positions
from protocol.errors import OutOfRange
from protocol.log import KeptGroup
from protocol.messages import GroupState
from protocol.schema import MAX_NAME_LENGTH

#: Groups × partitions: a description names the positions of all groups and must fit into one frame 0.
MAX_GROUP_POSITIONS = 1 << 16


@dataclass(kw_only=True)
class Group:
    """What is known of one training run."""

    durable: bool
    committed: Positions
    trained: Positions
    heard_s: float

    @property
    def released(self) -> Positions:
        """What the log may forget as far as this group is concerned."""
        return self.committed if self.durable else self.trained


class Groups:
    """All groups of one log. Times are seconds of the producer's own uptime.

    `keep` hears of each group that joins, commits or is forgotten, for a log that survives its program; `kept` are
    those of its former lives, which are known from the start as if they had just been heard.
    """

    def __init__(
        self,
        partitions: int,
        time_to_live_s: float,
        *,
        keep: Callable[[str, KeptGroup | None], None] = lambda _name, _group: None,
        kept: Mapping[str, KeptGroup] | None = None,
        now_s: float = 0.0,
    ) -> None:
        self._partitions = partitions
        self._time_to_live_s = time_to_live_s
        self._most = min(MAX_GROUPS, MAX_GROUP_POSITIONS // partitions)
        self._keep = keep
        self._groups = {
            name: Group(
                durable=group.durable, committed=dict(group.committed), trained=dict(group.trained), heard_s=now_s
            )
            for name, group in (kept or {}).items()
        }

    def __len__(self) -> int:
        return len(self._groups)

    def join(self, name: str, *, durable: bool, trained: Positions, committed: Positions | None, now_s: float) -> None:
        """A reader of the group subscribes, having trained its own partitions so far. Raises `OutOfRange`.

        The log may have been asked anew from an earlier position, so `trained` counts as it is said. Where a group that
        has checkpoints is not known any more and has not said what it committed, it holds everything.
        """
        group = self._groups.get(name) or self._add(name, now_s)
        group.durable = group.durable or durable
        group.heard_s = now_s
        group.trained.update(trained)
        for partition, offset in trained.items():
            group.committed.setdefault(partition, 0 if durable else offset)
        _raise(group.committed, committed or {})
        self._say(name, group)

    def heard(self, name: str, trained: Mapping[int, int], *, durable: bool, now_s: float) -> None:
        """A sign of life with what has been trained."""
        if (group := self._groups.get(name)) is not None:
            group.heard_s = now_s
            _raise(group.trained, trained)
            if durable and not group.durable:
                group.durable = True
                self._say(name, group)

    def commit(self, name: str, positions: Mapping[int, int], now_s: float) -> None:
        """A checkpoint is durable. A group that is not known (the producer was restarted) is known from here on."""
        group = self._groups.get(name) or self._add(name, now_s)
        group.durable = True
        group.heard_s = now_s
        _raise(group.committed, positions)
        _raise(group.trained, positions)
        self._say(name, group)

    def drop(self, name: str) -> bool:
        """Forget a group; false where there is none of that name."""
        self._keep(name, None)
        return self._groups.pop(name, None) is not None

    def expire(self, now_s: float) -> list[str]:
        """Forget the groups that are not durable and have been silent for too long; their names."""
        silent = [
            name
            for name, group in self._groups.items()
            if not group.durable and now_s - group.heard_s > self._time_to_live_s
        ]
        for name in silent:
            self.drop(name)
        return silent

    def floor(self) -> Positions | None:
        """What every group has released, partition by partition; None without groups."""
        if not self._groups:
            return None
        return {
            partition: min(group.released.get(partition, 0) for group in self._groups.values())
            for partition in range(self._partitions)
        }

    def states(self, readers: Mapping[str, int], now_s: float) -> tuple[GroupState, ...]:
        """All groups for people; `readers` counts the sessions of each."""
        return tuple(
            GroupState(
                name=name,
                durable=group.durable,
                readers=readers.get(name, 0),
                silent_s=max(0.0, now_s - group.heard_s),
                committed=group.committed,
                trained=group.trained,
            )
            for name, group in self._groups.items()
        )

    def _say(self, name: str, group: Group) -> None:
        committed, trained = dict(group.committed), dict(group.trained)
        self._keep(name, KeptGroup(durable=group.durable, committed=committed, trained=trained))

    def _add(self, name: str, now_s: float) -> Group:
        if not 0 < len(name) <= MAX_NAME_LENGTH:
            raise OutOfRange(f"a group's name has 1 to {MAX_NAME_LENGTH} characters, not {len(name)}")
        if len(self._groups) >= self._most:
            raise OutOfRange(f"{self._most} groups are known already: drop those that nobody needs")
        group = self._groups[name] = Group(durable=False, committed={}, trained={}, heard_s=now_s)
        return group


def _raise(known: Positions, said: Mapping[int, int]) -> None:
    for partition, offset in said.items():
        known[partition] = max(offset, known.get(partition, 0))
