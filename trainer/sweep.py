"""`python -m trainer sweep`: trials of one training with other settings, side by side on one stream, or on one mix."""

import os
import signal
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from protocol.command_line import STOPPING, settings_of
from protocol.errors import AccessDenied, StreamTimeout, UsageError
from protocol.folder_lock import FolderLock
from protocol.messages import Description
from protocol.open_reader import open_reader, silent_mend
from trainer.mix import MixSettings, keys_of, urls_in
from trainer.opening import check_mix
from trainer.sampling import MAX_SEED
from trainer.sealed import make_folder
from trainer.settings import TrainSettings
from trainer.template import Parse, Template
from trainer.terminal import Display

if TYPE_CHECKING:
    from trainer.trials import Trials


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """The search."""

    sweep_dir: str = "runs/sweep"
    """folder of the sweep: the study, a run directory for each trial, results.csv, plots, best.yaml"""
    trials: int = 0
    """trials in all, over all lives of the sweep; 0: every point of the grid"""
    parallel: int = 2
    """trials that run side by side"""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """how values are drawn. tpe: near those that did well (Optuna's tree-structured Parzen estimator); random; grid:
    every combination once"""
    pruner: Literal["median", "halving", "none"] = "median"
    """which trials end early, by their validation losses. median: those that were never better than the median of the
    others at the same validation; halving: all but the best quarter, again and again (successive halving)"""
    startup_trials: int = 5
    """trials that are drawn at random before tpe learns from them, and that end by themselves before median prunes"""
    seed: int = 0
    """of what is drawn; that of the models is a setting of --train"""
    display: Display = "auto"
    """live: a table that is redrawn; plain: a line for each event; auto: live on a terminal, else plain"""

    def __post_init__(self) -> None:
        if self.trials < 0 or self.startup_trials < 0:
            raise UsageError("--trials and --startup_trials are 0 or more")
        if not self.trials and self.sampler != "grid":
            raise UsageError(f"the sampler {self.sampler} never comes to an end: give --trials N, or --sampler grid")
        if self.parallel < 1:
            raise UsageError("--parallel is at least 1")
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"--seed is from 0 to {MAX_SEED}")


def sweep(config: Any, parse: Parse) -> int:
    """Search as the settings say. What can be refused is refused before anything is made or waited for."""
    settings = settings_of(SweepSettings, config)
    if find_spec("optuna") is None or find_spec("matplotlib") is None:
        raise UsageError("a sweep needs Optuna and matplotlib, which are not installed: pip install '.[train,sweep]'")
    from trainer.space import grid, space_of, typed_bounds
    from trainer.study import Study
    from trainer.sweep_results import Results
    from trainer.sweep_view import open_view
    from trainer.trial import prepare_trials
    from trainer.trials import Trials

    space = space_of(config.space)
    if settings.sampler == "grid":
        grid(space)
    template = Template(config.train, parse)
    check_mix(settings_of(TrainSettings, template.shared), settings_of(MixSettings, template.shared))
    for name, option in typed_bounds(space):
        template.check(name, option)
    folder = Path(settings.sweep_dir).expanduser()
    lock = _alone_in(folder)
    try:
        prepare_trials()
        study = Study(folder, space, template.meaning, settings)
        urls = urls_in(template.shared.stream)
        keys = keys_of(template.shared["keys"], urls)
        described = [_connect(url, its_keys, template.shared) for url, its_keys in zip(urls, keys, strict=True)]
        template.check_judged(next((each.info.splits for each in described if each.info.splits), {}))
        results = Results(folder, study, template)
        with closing(open_view(settings.display, folder, study.size)) as view:
            trials = Trials(study, folder, template, settings.parallel, view, results)
            _obey_signals(trials)
            trials.run()
        results.show(trials.stopped_by)
    finally:
        lock.release()
    return 0


def _alone_in(folder: Path) -> FolderLock:
    try:
        make_folder(folder)
        return FolderLock(folder, "sweep", mend="stop it, or give another --sweep_dir")
    except OSError as error:
        raise UsageError(f"{folder} cannot be used ({error.strerror}): give another --sweep_dir") from error


def _connect(url: str, keys: str, shared: Any) -> Description:
    """What the stream is, or one of several, once there is a producer."""
    print(f"waiting for a producer at {url}", flush=True)
    try:
        with open_reader(url, keys=keys) as reader:
            return reader.describe(timeout_s=shared.connect_timeout or None)
    except AccessDenied as error:
        raise UsageError(str(error)) from error
    except StreamTimeout as error:
        text = f"{error}: {silent_mend(url)}, or wait longer (connect_timeout in --train)"
        raise UsageError(text) from error


def _obey_signals(trials: "Trials") -> None:
    """The first SIGINT or SIGTERM lets the trials save; the second ends at once, and they with it."""

    def obey(number: int, frame: FrameType | None) -> None:
        del frame
        if trials.stopped_by:
            os._exit(128 + number)
        trials.stop(signal.Signals(number).name)

    for number in STOPPING:
        signal.signal(number, obey)
