"""Pictures that are drawn on a terminal are those that were given."""

import numpy as np
import pytest
from rich.console import Console

from protocol.drawn_pictures import drawn


@pytest.mark.parametrize(("width", "side_by_side"), [(80, 2), (120, 4), (10, 1)])
def test_as_many_stand_side_by_side_as_fit_each_with_its_label(width: int, side_by_side: int) -> None:
    pictures = np.zeros((5, 1, 28, 28), np.uint8)
    console = Console(width=width, color_system=None)
    lines = [
        "".join(segment.text for segment in line).rstrip()
        for line in console.render_lines(drawn(pictures, [f"class {n}" for n in range(5)], width), pad=False)
    ]
    across = [line.count("class") for line in lines if "class" in line]
    assert (across[0], sum(across)) == (side_by_side, 5)
    assert lines.index(next(line for line in lines if "class" in line)) == 14


def test_each_character_has_the_colours_of_two_pixels_above_each_other() -> None:
    picture = np.arange(18, dtype=np.uint8).reshape(1, 3, 3, 2)
    console = Console(width=20, color_system="truecolor", force_terminal=True)
    first, second = console.render_lines(drawn(picture, None, 20), pad=False)
    seen = [segment for segment in first if segment.text == "▀"]
    assert [tuple(s.style.color.triplet) for s in seen if s.style and s.style.color and s.style.color.triplet] == [
        (0, 6, 12),
        (1, 7, 13),
    ]
    assert [
        tuple(s.style.bgcolor.triplet) for s in seen if s.style and s.style.bgcolor and s.style.bgcolor.triplet
    ] == [
        (2, 8, 14),
        (3, 9, 15),
    ]
    assert all(s.style is not None and s.style.bgcolor is None for s in second if s.text == "▀")
