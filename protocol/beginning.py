"""Where reading begins: at the log's start, at its end, or at a moment."""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from protocol.dealing import Positions
from protocol.errors import OutOfRange, StreamError, UsageError
from protocol.messages import Description
from protocol.values import moment_ns

AGO: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
UNITS_NS: Final = {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
WAYS: Final = "a time (2026-11-26T07:30, of this machine's zone unless it names one) or a time ago (10m, 1.5h, 2d)"


@dataclass(frozen=True)
class Beginning:
    """The log's end if `latest`; the first records from `time_ns` on (nanoseconds since 1970); else the log's start."""

    latest: bool = False
    time_ns: int | None = None

    @classmethod
    def of(cls, text: str) -> Self:
        """What somebody has typed: earliest, latest, or as `moment` takes it. Raises `UsageError`."""
        if text in ("earliest", "latest"):
            return cls(latest=text == "latest")
        try:
            return cls(time_ns=moment(text))
        except ValueError as error:
            raise UsageError(f"{text!r} is no start: give earliest, latest, {WAYS}") from error

    def positions(self, said: Description) -> Positions:
        """Where that is, in the description that was asked for with `time_ns`."""
        if self.time_ns is not None:
            if said.at is None:
                raise StreamError(
                    "the producer is of an earlier release and cannot find a time: start earliest or latest"
                )
            return said.at
        return said.log_end if self.latest else said.log_start


EARLIEST: Final = Beginning()


def moment(text: str) -> int:
    """Nanoseconds since 1970 of an ISO 8601 time, or of a time ago: `10m`. Raises `ValueError`."""
    try:
        if match := AGO.fullmatch(text):
            return moment_ns(time.time_ns() - round(float(match[1]) * UNITS_NS[match[2]]))
        return moment_ns((datetime.fromisoformat(text).astimezone() - EPOCH) // timedelta(microseconds=1) * 1000)
    except (OverflowError, OutOfRange) as error:
        raise ValueError(f"{text} does not fit into 64 bits of nanoseconds") from error
