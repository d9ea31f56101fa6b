import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from protocol.contact_sheet import (
    LARGEST_SIDE,
    MARGIN,
    class_labels,
    contact_sheet,
    picture_field,
    save_png,
    sheet_of,
    to_png,
)
from protocol.errors import UsageError
from protocol.lettering import LINE_HEIGHT, PAPER
from protocol.schema import Field, Schema

SCHEMA = Schema(
    (Field("id", "int64"), Field("image", "uint8", (1, 28, 28)), Field("label", "int64")),
    label="label",
    class_names=("T-shirt/top", "Trouser"),
)
ENLARGED = 84  # 28 pixels, three times


def grey(count: int) -> np.ndarray:
    """Pictures [count, 1, 28, 28]; picture i is wholly of the grey 10 * i."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None] * 10, (count, 1, 28, 28))


def label_area(sheet: np.ndarray, column: int) -> np.ndarray:
    """The pixels below the picture of this column in the first row."""
    left, top = MARGIN + column * (ENLARGED + MARGIN), MARGIN + ENLARGED
    return sheet[top : top + LINE_HEIGHT, left : left + ENLARGED]


def test_every_picture_stands_in_its_place_enlarged_by_a_whole_factor() -> None:
    ramp = np.arange(28 * 28, dtype=np.uint16).reshape(1, 28, 28).astype(np.uint8)
    pictures = np.stack([np.roll(ramp, shift, axis=2) for shift in range(13)])
    sheet = contact_sheet(pictures)
    for index, picture in enumerate(pictures):  # eleven fit side by side
        top, left = (MARGIN + place * (ENLARGED + MARGIN) for place in divmod(index, 11))
        shown = sheet[top : top + ENLARGED, left : left + ENLARGED]
        expected = np.repeat(np.repeat(picture[0], 3, axis=0), 3, axis=1)
        assert (shown == expected[..., None]).all(), index


def test_each_label_stands_below_its_own_picture() -> None:
    sheet = contact_sheet(grey(3), ["Trouser", "", "Bag"])
    inked = [bool((label_area(sheet, column) != PAPER).any()) for column in range(3)]
    assert inked == [True, False, True]


def test_a_label_wider_than_its_picture_stays_below_it() -> None:
    sheet = contact_sheet(grey(3), ["", "a class with a name that is far too long for one picture", ""])
    assert (label_area(sheet, 1) != PAPER).any()
    assert (label_area(sheet, 0) == PAPER).all()
    assert (label_area(sheet, 2) == PAPER).all()


def test_a_label_of_two_lines_makes_room_for_both() -> None:
    one, two = contact_sheet(grey(2), ["Shirt", "Coat"]), contact_sheet(grey(2), ["Shirt\nCoat", "Coat"])
    assert two.shape[0] == one.shape[0] + LINE_HEIGHT
    assert (label_area(two, 0) == label_area(one, 0)).all()
    second = two[MARGIN + ENLARGED + LINE_HEIGHT :][:LINE_HEIGHT]
    assert (second[:, MARGIN : MARGIN + ENLARGED] == label_area(one, 1)).all()
    assert (second[:, 2 * MARGIN + ENLARGED :] == PAPER).all()


def test_letters_outside_ascii_are_drawn_on_any_machine() -> None:
    assert (label_area(contact_sheet(grey(1), ["Ärmel 外套"]), 0) != PAPER).any()


def test_colours_are_kept_and_large_pictures_made_smaller() -> None:
    pictures = np.zeros((1, 3, 500, 1000), np.uint8)
    pictures[:, 1] = 200
    sheet = contact_sheet(pictures)
    assert sheet.shape == (LARGEST_SIDE // 2 + 2 * MARGIN, LARGEST_SIDE + 2 * MARGIN, 3)
    assert (sheet[MARGIN + 5, MARGIN + 5] == (0, 200, 0)).all()


@given(st.integers(1, 30), st.sampled_from([1, 3]), st.integers(1, 90), st.integers(1, 90), st.integers(1, 500))
def test_pictures_of_every_size_fit_the_sheet(count: int, channels: int, height: int, width: int, room: int) -> None:
    sheet = contact_sheet(np.zeros((count, channels, height, width), np.uint8), sheet_width=room)
    assert sheet.dtype == np.uint8
    black = (sheet == 0).all(axis=2).sum()
    enlargement = max(1, -(-84 // max(height, width)))
    assert black == count * height * width * enlargement**2


@pytest.mark.parametrize(
    "pictures",
    [
        np.zeros((2, 1, 4, 4), np.float32),
        np.zeros((2, 2, 4, 4), np.uint8),
        np.zeros((1, 4, 4), np.uint8),
        np.zeros((0, 1, 4, 4), np.uint8),
    ],
)
def test_what_is_not_pictures_is_refused(pictures: np.ndarray) -> None:
    with pytest.raises(ValueError, match="pictures are uint8"):
        contact_sheet(pictures)


def test_labels_must_be_as_many_as_pictures() -> None:
    with pytest.raises(ValueError, match="1 labels for 2 pictures"):
        contact_sheet(grey(2), ["Bag"])


def test_records_are_labelled_with_their_class_names() -> None:
    columns = {"id": np.arange(2), "image": grey(2), "label": np.array([1, 0])}
    assert (sheet_of(SCHEMA, columns) == contact_sheet(grey(2), ["Trouser", "T-shirt/top"])).all()


def test_a_class_without_a_name_is_labelled_by_its_number() -> None:
    assert class_labels(SCHEMA, [0, 7, -1]) == ["T-shirt/top", "7", "-1"]


@pytest.mark.parametrize("label", [Field("label", "float32"), Field("label", "int64", (4,))])
def test_labels_that_are_no_classes_are_left_out(label: Field) -> None:
    schema = Schema((Field("image", "uint8", (1, 28, 28)), label), label="label")
    columns = {"image": grey(2), "label": np.zeros((2, *label.item_shape), label.dtype)}
    assert (sheet_of(schema, columns) == contact_sheet(grey(2))).all()


def test_the_first_field_that_holds_pictures_is_shown() -> None:
    assert picture_field(SCHEMA) == SCHEMA["image"]
    assert picture_field(Schema((Field("x", "uint8", (2, 8, 8)), Field("y", "float32", (3, 8, 8))))) is None
    assert picture_field(Schema((Field("jpeg", "uint8", (None,)), Field("rgb", "uint8", (3, 8, 8))))) is not None


def test_a_stream_without_pictures_is_refused_with_its_fields() -> None:
    schema = Schema((Field("token", "int64", (None,)), Field("speed", "float32")))
    with pytest.raises(UsageError, match=r"the fields are token int64 \[None\], speed float32 \[\]"):
        sheet_of(schema, {})


def test_a_png_holds_the_sheet_pixel_by_pixel(tmp_path: Path) -> None:
    sheet = contact_sheet(grey(5), ["a", "b", "c", "d", "e"])
    assert (np.asarray(Image.open(BytesIO(to_png(sheet)))) == sheet).all()
    save_png(sheet, tmp_path / "sheet.png")
    assert (np.asarray(Image.open(tmp_path / "sheet.png")) == sheet).all()


def test_a_file_that_cannot_be_written_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give another file"):
        save_png(contact_sheet(grey(1)), tmp_path / "no such folder" / "sheet.png")


def test_without_pillow_one_line_names_the_mend() -> None:
    program = (
        "import sys; sys.modules['PIL'] = None\n"
        "import numpy as np; from protocol.contact_sheet import contact_sheet\n"
        "from protocol.errors import UsageError\n"
        "try: contact_sheet(np.zeros((1, 1, 8, 8), np.uint8))\n"
        "except UsageError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "pictures need Pillow: pip install 'headrace[train]'\n"
