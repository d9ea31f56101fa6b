"""What all trials of a sweep have in common: the settings of `trainer train` that they vary a little."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import yaml

from protocol.errors import UsageError
from trainer.splits import VALIDATION

#: Parses options of `trainer train`: the settings, and the same as a settings file holds them.
Parse = Callable[[Sequence[str]], tuple[Any, str]]

#: What the sweep says to each trial, ...
ITS_OWN: Final = ("run_dir", "resume", "start", "config", "print_config", "help")
#: ... and what another life of the sweep may say differently: it changes no trial.
BY_LIFE: Final = ("stream", "keys", "workers", "connect_timeout", "idle_timeout", "display")


class Template:
    """Makes settings files out of `train`, the settings as a file holds them, and some options.

    `shared` are the settings themselves. Raises `UsageError` where `trainer train` does not take them.
    """

    def __init__(self, train: Mapping[str, Any], parse: Parse) -> None:
        for name in ITS_OWN:
            if name in train:
                raise UsageError(f"train: {name}: the sweep gives each trial its own: leave it out")
        self._train, self._parse = dict(train), parse
        try:
            self.shared = self._parsed(())[0]
        except UsageError as error:
            raise UsageError(f"train: {error}") from error

    @property
    def meaning(self) -> dict[str, Any]:
        """What makes the trials of two lives comparable."""
        return {name: each for name, each in self._train.items() if name not in BY_LIFE}

    def file(self, options: Sequence[str]) -> str:
        """A settings file (YAML) with these options."""
        return self._parsed(options)[1]

    def check(self, name: str, option: str) -> None:
        """Raise `UsageError` where trials cannot differ in this option, or `trainer train` does not take its value."""
        if name in (*ITS_OWN, *BY_LIFE):
            raise UsageError(f"space: {name} is the same for all trials: leave it out")
        try:
            self._parsed((option,))
        except UsageError as error:
            raise UsageError(f"space: {option.removeprefix('--')}: {error}") from error

    def check_judged(self, splits: Mapping[str, int]) -> None:
        """Raise `UsageError` where nothing is held out that trials could be compared by."""
        if VALIDATION not in splits and self.shared.validation is None:
            mend = "serve one (python -m producer --validation N), or give validation in --train"
            raise UsageError(f"trials are compared by their validation loss, and no stream has such a split: {mend}")

    def _parsed(self, options: Sequence[str]) -> tuple[Any, str]:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(self._train, file)
            file.flush()
            return self._parse(("--config", file.name, *options))
