"""What a sweep searches: for each option of the trainer that varies, what its values are drawn from."""

import json
from collections.abc import Mapping
from itertools import product
from math import isfinite, prod
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from protocol.errors import UsageError

Distribution = CategoricalDistribution | IntDistribution | FloatDistribution
Space = Mapping[str, Distribution]
Values = Mapping[str, Any]

FORMS = "give {choice: [a, b]}, or {low: a, high: b} with log: true or step: c where wanted"
MOST_POINTS = 10_000


def space_of(described: Mapping[str, Any]) -> Space:
    """The distributions that a settings file describes, by the option's name. Raises `UsageError`."""
    if not described:
        raise UsageError("there is nothing to search: give --space, such as '{batch_size: {choice: [16, 64]}}'")
    return {str(name): _distribution(f"space: {name}", each) for name, each in described.items()}


def draw(trial: Trial, space: Space) -> Values:
    """The trial's values. What it has drawn before, in a life that was killed, it keeps."""
    for name, each in space.items():
        match each:
            case CategoricalDistribution():
                trial.suggest_categorical(name, each.choices)
            case IntDistribution():
                trial.suggest_int(name, each.low, each.high, step=each.step, log=each.log)
            case FloatDistribution():
                trial.suggest_float(name, each.low, each.high, step=each.step, log=each.log)
    return trial.params


def grid(space: Space) -> list[Values]:
    """All combinations, the last option's values changing first. Raises `UsageError` where there is no end to them."""
    axes = [_points(name, each) for name, each in space.items()]
    if (count := prod(map(len, axes))) > MOST_POINTS:
        raise UsageError(f"the grid has {count:,} points: give fewer, or --sampler tpe")
    return [dict(zip(space, point, strict=True)) for point in product(*axes)]


def typed_bounds(space: Space) -> list[tuple[str, str]]:
    """The values that tell whether an option takes all of them: name and option of each choice, of low and high."""
    found = []
    for name, each in space.items():
        values = each.choices if isinstance(each, CategoricalDistribution) else (each.low, each.high)
        found += [(name, option) for value in values for option in options({name: value})]
    return found


def options(values: Values) -> list[str]:
    """The values as they are typed: `--optimizer.lr=0.01`."""
    return [f"--{name}={each if isinstance(each, str) else json.dumps(each)}" for name, each in values.items()]


def _distribution(name: str, described: Any) -> Distribution:
    match described:
        case {"choice": list(choices)} if len(described) == 1:
            return _choice(name, choices)
        case {"low": _, "high": _} if described.keys() <= {"low", "high", "log", "step"}:
            return _range(name, **described)
    raise UsageError(f"{name}: {described!r} says no values: {FORMS}")


def _choice(name: str, choices: list[Any]) -> Distribution:
    if not choices:
        raise UsageError(f"{name}: there is nothing to choose from: {FORMS}")
    if not all(each is None or isinstance(each, bool | int | float | str) for each in choices):
        raise UsageError(f"{name}: a choice is a number, a word, true, false or null, not a list or a mapping")
    if len({json.dumps(each) for each in choices}) < len(choices):
        raise UsageError(f"{name}: {choices} names a choice twice: give each once")
    return CategoricalDistribution(choices)


def _range(name: str, low: Any, high: Any, log: Any = False, step: Any = None) -> Distribution:  # noqa: FBT002
    numbers = [low, high] if step is None else [low, high, step]
    if not isinstance(log, bool) or not all(map(_is_number, numbers)):
        raise UsageError(f"{name}: low, high and step are numbers, and log is true or false: {FORMS}")
    if not low < high:
        raise UsageError(f"{name}: from {low} to {high} there is nothing: give a low under the high")
    if log and (low <= 0 or step is not None):
        raise UsageError(f"{name}: a logarithmic range begins over 0 and has no step")
    if step is not None and (step <= 0 or abs((high - low) / step - round((high - low) / step)) > 1e-8):
        raise UsageError(f"{name}: it is no whole number of steps of {step} from {low} to {high}")
    if all(isinstance(each, int) for each in numbers):
        return IntDistribution(low, high, log=log, step=1 if step is None else step)
    return FloatDistribution(low, high, log=log, step=step)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _points(name: str, each: Distribution) -> list[Any]:
    match each:
        case CategoricalDistribution():
            return list(each.choices)
        case IntDistribution():
            return list(range(each.low, each.high + 1, each.step))
        case FloatDistribution(step=float(step)):
            return [round(each.low + i * step, 12) for i in range(round((each.high - each.low) / step) + 1)]
    raise UsageError(f"space: {name}: a grid needs a step in it, or choices; or give --sampler tpe")
