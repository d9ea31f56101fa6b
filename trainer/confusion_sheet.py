"""A confusion matrix as a picture: a row for each class, and how its records were told."""

from collections.abc import Sequence

import numpy as np

from protocol.contact_sheet import MARGIN, Sheet
from protocol.lettering import INK, PAPER, fitted, font_for, pillow

CELL = 24  # pixels: room for three digits
NAMES = 90  # pixels of the longest name
FULL, GRID = (31, 94, 168), (222, 226, 230)  # a cell that holds its whole row, and what is drawn around it
LEGEND = "row: class\ncolumn: told\nin % of row"


def confusion_sheet(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Sheet:
    """One picture [height, width, 3] of `matrix` [class][told class], with the names of the classes.

    A cell shows how many per cent of its row's records it holds, by its colour and, from one per cent, as a number.
    """
    image, draw, _ = pillow()
    font = font_for("".join(names))
    first, side = NAMES + 2 * MARGIN, CELL * len(matrix)
    sheet = image.new("RGB", (first + side + MARGIN, first + side + MARGIN), PAPER)
    pen = draw.Draw(sheet)
    pen.multiline_text((MARGIN, MARGIN), LEGEND, fill=INK, font=font)
    for number, name in enumerate(names):
        at = first + number * CELL
        pen.text((NAMES + MARGIN, at + CELL / 2), fitted(name, NAMES, font), fill=INK, font=font, anchor="rm")
        upright = image.new("RGB", (NAMES, CELL), PAPER)
        draw.Draw(upright).text((0, CELL / 2), fitted(name, NAMES, font), fill=INK, font=font, anchor="lm")
        sheet.paste(upright.rotate(90, expand=True), (at, MARGIN))
    for row, counts in enumerate(matrix):
        for column, share in enumerate(np.asarray(counts) / max(1, sum(counts))):
            x, y = first + column * CELL, first + row * CELL
            colour = tuple(round(paper + (full - paper) * share) for paper, full in zip(PAPER, FULL, strict=True))
            pen.rectangle((x, y, x + CELL, y + CELL), fill=colour, outline=GRID)
            if share >= 0.005:
                ink = PAPER if share > 0.5 else INK
                pen.text((x + CELL / 2, y + CELL / 2), f"{100 * share:.0f}", fill=ink, font=font, anchor="mm")
    return np.asarray(sheet)
