import pytest

from protocol.contact_sheet import MARGIN, Sheet
from protocol.lettering import PAPER
from trainer.confusion_sheet import CELL, FULL, NAMES, confusion_sheet

FIRST = NAMES + 2 * MARGIN


def colour(sheet: Sheet, row: int, column: int) -> list[int]:
    """Of a cell, beside its number."""
    found: list[int] = sheet[FIRST + row * CELL + 2, FIRST + column * CELL + 2].tolist()
    return found


def inked(part: Sheet) -> bool:
    return bool((part != part[0, 0]).any())


def test_a_cell_is_the_darker_the_larger_its_share_of_the_row_is() -> None:
    sheet = confusion_sheet([[7, 0, 0], [1, 3, 0], [0, 0, 0]], ["a", "b", "c"])
    assert colour(sheet, 0, 0) == list(FULL)
    assert colour(sheet, 0, 1) == list(PAPER)
    assert sum(FULL) < sum(colour(sheet, 1, 1)) < sum(colour(sheet, 1, 0)) < sum(PAPER)
    assert colour(sheet, 2, 2) == list(PAPER), "of a class without records nothing was told"


def test_a_share_is_written_into_its_cell_unless_it_rounds_to_nothing() -> None:
    sheet = confusion_sheet([[999, 1], [0, 1]], ["a", "b"])
    inner = [sheet[FIRST + 2 : FIRST + CELL - 2, at + 2 : at + CELL - 2] for at in (FIRST, FIRST + CELL)]
    assert [inked(each) for each in inner] == [True, False]


@pytest.mark.parametrize("name", ["", "Bag"])
def test_each_class_is_named_at_its_row_and_at_its_column(name: str) -> None:
    sheet = confusion_sheet([[1, 0], [0, 1]], ["", name])
    row = sheet[FIRST + CELL + 1 : FIRST + 2 * CELL, MARGIN : FIRST - MARGIN]
    column = sheet[MARGIN : FIRST - MARGIN, FIRST + CELL + 1 : FIRST + 2 * CELL]
    assert inked(row) == inked(column) == bool(name)


def test_a_long_name_stays_in_its_place() -> None:
    sheet = confusion_sheet([[1]], ["a class with a name that is far too long for its row"])
    assert (sheet[:, :MARGIN] == PAPER).all()
    assert sheet.shape == (FIRST + CELL + MARGIN, FIRST + CELL + MARGIN, 3)
