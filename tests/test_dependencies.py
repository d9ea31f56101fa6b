"""What pyproject.toml says of dependencies, and the two files of pins."""

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
REQUIREMENT = re.compile(r"(?P<name>[\w-]+)(\[\w+\])?>=(?P<bound>[\d.]+)")


def bounds(*requirements: str) -> dict[str, tuple[int, ...]]:
    """Lower bound by name. A requirement of any other form fails the test that asks."""
    found = {}
    for requirement in requirements:
        match = REQUIREMENT.fullmatch(requirement)
        assert match, f"{requirement} is not of the form name>=version"
        found[match["name"].lower()] = version(match["bound"])
    return found


def pins(file: str) -> dict[str, tuple[int, ...]]:
    lines = (REPOSITORY / file).read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), f"{file} has a line that is no plain pin"
    return {name.lower().replace("_", "-"): version(pinned) for name, pinned in pairs}


def version(text: str) -> tuple[int, ...]:
    """The numbers without closing zeros, since 13.7 and 13.7.0 are one version."""
    numbers = [int(part) for part in text.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def test_the_lowest_versions_are_the_lower_bounds_themselves() -> None:
    extras = PROJECT["optional-dependencies"]
    assert pins("constraints-lowest.txt") == bounds(*PROJECT["dependencies"], *extras["train"])


def test_every_dependency_is_pinned_at_its_bound_or_over_it() -> None:
    extras = PROJECT["optional-dependencies"]
    of_others = [name for extra in extras.values() for name in extra if not name.startswith("headrace[")]
    pinned = pins("constraints.txt")
    for name, bound in bounds(*PROJECT["dependencies"], *of_others).items():
        assert pinned[name] >= bound, name
