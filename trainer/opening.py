"""The loader that the settings ask for: of one stream, or of several in a mix."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocol.errors import UsageError
from protocol.quarantine import FILE as QUARANTINE
from trainer.loader import StreamLoader
from trainer.loading import Loader
from trainer.mix import MixSettings, keys_of, said, shares, urls_in
from trainer.mixed_loader import MixedLoader
from trainer.settings import TrainSettings

logger = logging.getLogger(__name__)

#: In the run directory: the folder of what is held out, each stream's in one of its own.
HELD_OUT = "held_out"


def check_mix(settings: TrainSettings, mix: MixSettings) -> None:
    """Raise `UsageError` for what no mix can be made of, before anything is waited for."""
    urls = urls_in(settings.stream)
    if settings.order == "arrival" and mix.weights:
        raise UsageError("--weights mixes by proportion, --order arrival batches as they come: leave one of them out")
    if settings.order == "arrival" and mix.on_away == "wait":
        raise UsageError("--on_away wait keeps the mix, and --order arrival has none: leave one of them out")
    if len(urls) == 1 and mix.on_away != "go_on":
        raise UsageError("--on_away is about one of several streams (--stream URL,URL), and one is given: leave it out")
    _batch_sizes(settings, mix, urls)
    keys_of(settings.keys, urls)


def open_loader(
    settings: TrainSettings,
    mix: MixSettings,
    *,
    state: dict[str, Any] | None,
    run_dir: Path,
    group: str,
    on_wait: Callable[[float], None],
    **options: Any,
) -> Loader:
    """What feeds the run, with the `state` that it goes on from; `options` are those of every `StreamLoader`."""
    urls, group = urls_in(settings.stream), group if state is None else str(state["group"])
    keys = keys_of(settings.keys, urls)
    patience: dict[str, Any] = {
        "connect_timeout_s": settings.connect_timeout or None,
        "idle_timeout_s": settings.idle_timeout or None,
        "on_timeout": "end",
        "on_wait": on_wait,
    }
    options |= {
        "num_workers": settings.workers,
        "start": settings.start,
        "on_loss": settings.on_loss,
        "order": settings.order,
        "quarantine": run_dir / QUARANTINE if settings.on_bad_record == "quarantine" else None,
        "held_out": run_dir / HELD_OUT,
        "seed": settings.seed,
    }
    loader: Loader
    if len(urls) == 1 and (state is None or "streams" not in state):
        (url,), (its_keys,) = urls, keys
        loader = StreamLoader(url, batch_size=settings.batch_size, keys=its_keys, group=group, **patience, **options)
    else:
        of_each = _batch_sizes(settings, mix, urls)
        if settings.order == "stream":
            logger.info(said(settings.batch_size, mix.weights_of(len(urls)), urls))
        loader = MixedLoader(
            [
                StreamLoader(url, batch_size=size, keys=its_keys, **options)
                for url, size, its_keys in zip(urls, of_each, keys, strict=True)
            ],
            group=group,
            order=settings.order,
            on_away=mix.on_away,
            without_after_s=mix.without_after,
            **patience,
        )
    if state is not None:
        loader.load_state_dict(state)
    return loader


def _batch_sizes(settings: TrainSettings, mix: MixSettings, urls: list[str]) -> list[int]:
    """What each stream has of a batch: its share, or in order of arrival the whole of some batches."""
    weights = mix.weights_of(len(urls))
    if settings.order == "arrival":
        return [settings.batch_size] * len(urls)
    return shares(settings.batch_size, weights, urls)
