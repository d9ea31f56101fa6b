"""What comes of a sweep: a table, plots, and the best trial's settings as a file that can be trained again."""

import csv
import io
import logging
import shlex
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import optuna

from trainer.space import options
from trainer.study import Outcome, Study, best_first, run_dir
from trainer.sweep_view import console_of, table_of
from trainer.template import Template
from trainer.wording import metric_names

TABLE: Final = "results.csv"
BEST: Final = "best.yaml"
PLOTS: Final = "plots"
DPI: Final = 120
LOSS: Final = "lowest validation loss"


class Results:
    """Keeps and shows what came of the trials in `folder`."""

    def __init__(self, folder: Path, study: Study, template: Template) -> None:
        self._folder, self._study, self._template = folder, study, template

    def keep(self) -> None:
        """Write `results.csv` and `best.yaml` anew: after each trial, so that they are there whatever happens."""
        outcomes = best_first(self._study.outcomes())
        self._write(TABLE, _csv(outcomes, self._folder))
        if outcomes[0].state == "complete":
            values = {**outcomes[0].values, "run_dir": str(self._folder / "best")}
            self._write(BEST, self._template.file(options(values)))

    def show(self, stopped_by: str) -> None:
        """Print the table and what can be done next, and draw the plots."""
        outcomes = best_first(self._study.outcomes())
        if outcomes:
            console_of().print(table_of(outcomes))
            print(f"see all trials with: tensorboard --logdir {shlex.quote(str(self._folder))}")
        if outcomes and outcomes[0].state == "complete":
            self._draw()
            best = shlex.quote(str(run_dir(self._folder, outcomes[0].number)))
            print(f"table and plots: {self._folder / TABLE}, {self._folder / PLOTS}")
            print(f"test the best with: python -m trainer evaluate --run_dir {best}")
            print(f"train it anew with: python -m trainer train --config {shlex.quote(str(self._folder / BEST))}")
        if stopped_by:
            ended = sum(each.state != "running" for each in outcomes)
            print(f"stopped by {stopped_by}: {ended} of {self._study.size} trials have ended; the same command goes on")

    def _write(self, name: str, text: str) -> None:
        """As a whole, so that nobody reads half of it."""
        beside = self._folder / f"{name}.new"
        beside.write_text(text)
        beside.replace(self._folder / name)

    def _draw(self) -> None:
        import matplotlib as mpl

        mpl.use("Agg")
        logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it would explain its axes
        from matplotlib import pyplot as plt
        from optuna.visualization import matplotlib as plots

        pictures: dict[str, Callable[[optuna.Study], object]] = {
            "history": partial(plots.plot_optimization_history, target_name=LOSS),
            "losses": plots.plot_intermediate_values,
            "parallel": partial(plots.plot_parallel_coordinate, target_name=LOSS),
            "slices": partial(plots.plot_slice, target_name=LOSS),
        }
        (self._folder / PLOTS).mkdir(exist_ok=True)
        with mpl.rc_context(), warnings.catch_warnings():
            # That how they are called may change is Optuna's word to us.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            for name, plot in pictures.items():
                plot(self._study.optuna)
                plt.gcf().savefig(self._folder / PLOTS / f"{name}.png", dpi=DPI, bbox_inches="tight")
                plt.close()


def _csv(outcomes: Sequence[Outcome], folder: Path) -> str:
    """One line a trial, the best first."""
    values = list(dict.fromkeys(name for each in outcomes for name in each.values))
    metrics = metric_names(*(each.metrics for each in outcomes))
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["trial", "state", *values, *metrics, "best_samples", "samples", "run_dir"])
    for each in outcomes:
        found = [each.metrics.get(name, "") for name in metrics]
        drawn = [each.values.get(name, "") for name in values]
        counts = [each.best_samples, each.samples]
        lines.writerow([each.number, each.state, *drawn, *found, *counts, run_dir(folder, each.number)])
    return text.getvalue()
