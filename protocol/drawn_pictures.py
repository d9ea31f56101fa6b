"""Pictures on a terminal: two pixels a character, the upper one in its colour on the lower one's."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from rich.color import Color
from rich.console import Group, RenderableType
from rich.style import Style
from rich.text import Text

from protocol.contact_sheet import resized
from protocol.wording import plain

UPPER_HALF = "▀"
#: Characters of a picture's wider side: small pictures are shown as they are, larger ones made smaller.
LARGEST_SIDE = 28
GAP = 2


def drawn(pictures: npt.NDArray[np.uint8], labels: Sequence[str] | None, width: int) -> RenderableType:
    """`pictures` uint8 [n, 1 or 3, h, w] with `labels` [n] below them, as many side by side as `width` has room for."""
    side = max(pictures.shape[2:])
    rows, across = (max(1, size * min(side, LARGEST_SIDE) // side) for size in pictures.shape[2:])
    side_by_side = max(1, (width + GAP) // (across + GAP))
    lines: list[Text] = []
    for first in range(0, len(pictures), side_by_side):
        some = [np.asarray(resized(each, rows, across)) for each in pictures[first : first + side_by_side]]
        lines += [Text(" " * GAP, no_wrap=True).join(line) for line in zip(*map(_lines, some), strict=True)]
        if labels is not None:
            lines.append(Text((" " * GAP).join(_cell(each, across) for each in labels[first : first + side_by_side])))
        lines.append(Text(""))
    return Group(*lines[:-1])


def _cell(label: str, width: int) -> str:
    """The label in exactly this width."""
    text = plain(label)
    return (text if len(text) <= width else f"{text[: width - 1]}…").ljust(width)


def _lines(picture: npt.NDArray[np.uint8]) -> Iterator[Text]:
    """The lines of one picture [height, width, 3]; below an odd last row there is nothing."""
    for top in range(0, len(picture), 2):
        line = Text(no_wrap=True)
        for column in range(picture.shape[1]):
            below = Color.from_rgb(*picture[top + 1, column].tolist()) if top + 1 < len(picture) else None
            line.append(UPPER_HALF, Style(color=Color.from_rgb(*picture[top, column].tolist()), bgcolor=below))
        yield line
