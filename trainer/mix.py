"""How several streams are mixed into the batches of one run: whose records, how many of them, and who is waited for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final, Literal, get_args

from protocol.errors import UsageError

#: What is done while the producer of one of several streams is away.
OnAway = Literal["go_on", "wait", "stop"]
#: A comma in the middle of a URL is a part of it.
BETWEEN_URLS: Final = re.compile(r",(?=[a-z]+://)")


@dataclass(frozen=True, kw_only=True)
class MixSettings:
    """Several streams in one run."""

    weights: str = ""
    """of several streams (--stream URL,URL): what each has of a batch, such as 3,1; the same of each by default"""
    on_away: OnAway = "go_on"
    """what is done while the producer of one of several streams is away. go_on: after --without_after train on without
    it, in smaller batches, until it is back; wait: keep the mix, whatever that takes; stop: the run saves and ends"""
    without_after: float = 10.0
    """seconds for which a producer may be away before the others are trained without it"""

    def __post_init__(self) -> None:
        if self.on_away not in get_args(OnAway):
            raise UsageError(f"--on_away is one of {', '.join(get_args(OnAway))}, not {self.on_away!r}")
        if self.without_after < 0:
            raise UsageError("--without_after is 0 or more seconds")
        self.weights_of(self.weights.count(",") + 1)

    def weights_of(self, streams: int) -> list[Fraction]:
        """One for each of so many streams."""
        if not self.weights:
            return [Fraction(1)] * streams
        try:
            weights = [Fraction(word.strip()) for word in self.weights.split(",")]
        except (ValueError, ZeroDivisionError):
            weights = []
        if not weights or min(weights) <= 0:
            raise UsageError(f"--weights {self.weights}: give numbers above 0 with commas between them, such as 3,1")
        if len(weights) != streams:
            raise UsageError(f"--weights {self.weights}: give one number for each stream, {streams} in all")
        return weights


def urls_in(text: str) -> list[str]:
    """The URLs of `URL,URL`."""
    return BETWEEN_URLS.split(text)


def keys_of(keys: str, urls: Sequence[str]) -> list[str]:
    """The folder of keys for each of these streams: of `DIR,DIR` its own, else the one for all. Raises `UsageError`."""
    folders = keys.split(",") if len(urls) > 1 else [keys]
    if len(folders) not in (1, len(urls)):
        raise UsageError(f"--keys {keys}: give one folder for all streams, or one for each, {len(urls)} in all")
    return folders if len(folders) == len(urls) else folders * len(urls)


def names_of(urls: Sequence[str]) -> list[str]:
    """What streams are called in charts: a URL as far as its options, and a number behind where that is not enough."""
    bare = [url.partition("?")[0] for url in urls]
    return [name if bare.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(bare, start=1)]


def shares(batch_size: int, weights: Sequence[Fraction], urls: Sequence[str]) -> list[int]:
    """The records of each stream in a batch, by largest remainder.

    Raises `UsageError` where a stream would have none.
    """
    exact = [batch_size * weight / sum(weights) for weight in weights]
    whole = [int(each) for each in exact]
    left = batch_size - sum(whole)
    by_remainder = sorted(range(len(exact)), key=lambda stream: (whole[stream] - exact[stream], stream))
    for stream in by_remainder[:left]:
        whole[stream] += 1
    if 0 in whole:
        least = ceil(sum(weights) / min(weights))
        raise UsageError(
            f"of a batch of {batch_size} records the stream at {urls[whole.index(0)]} would have none: "
            f"give --batch_size {least} or more, or other --weights"
        )
    return whole


def said(batch_size: int, weights: Sequence[Fraction], urls: Sequence[str]) -> str:
    """The mix, for people."""
    whole = shares(batch_size, weights, urls)
    rounded = any(batch_size * weight / sum(weights) != share for weight, share in zip(weights, whole, strict=True))
    each = ", ".join(f"{share} of {url}" for share, url in zip(whole, urls, strict=True))
    return f"records in a batch: {each}" + (" (the weights, to whole records)" if rounded else "")
