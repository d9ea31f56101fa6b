"""Pictures as the records of a stream."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protocol.errors import UsageError
from protocol.schema import Field
from trainer.columns import column_of, read_picture

GREY, COLOUR = Field("image", "uint8", (1, 6, 4)), Field("image", "uint8", (3, 6, 4))
PIXELS = np.random.RandomState(2).randint(0, 256, (6, 4, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture = Image.fromarray(PIXELS)
    for name, changed in {
        "colour.png": picture,
        "grey.png": picture.convert("L"),
        "palette.png": picture.quantize(8),
        "two.png": picture.convert("1"),
        "clear.png": picture.convert("RGBA"),
        "sixteen.png": Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 256),
        "wide.png": picture.resize((8, 6)),
    }.items():
        changed.save(tmp_path / name)
    picture.quantize(8).save(tmp_path / "hole.png", transparency=3)
    (tmp_path / "broken.png").write_bytes((tmp_path / "colour.png").read_bytes()[:60])
    (tmp_path / "text.png").write_text("no picture")
    return tmp_path


def test_pictures_of_the_fields_own_kind_keep_each_pixel(folder: Path) -> None:
    assert np.array_equal(read_picture(folder / "colour.png", COLOUR), PIXELS.transpose(2, 0, 1))
    assert np.array_equal(read_picture(folder / "grey.png", GREY)[0], np.asarray(Image.open(folder / "grey.png")))


@pytest.mark.parametrize("name", ["colour.png", "grey.png", "palette.png", "two.png"])
def test_others_become_grey_or_colour_as_the_field_has_it(folder: Path, name: str) -> None:
    picture = Image.open(folder / name)
    assert np.array_equal(read_picture(folder / name, GREY), [np.asarray(picture.convert("L"))])
    found = read_picture(folder / name, COLOUR)
    assert np.array_equal(found.transpose(1, 2, 0), np.asarray(picture.convert("RGB")))
    assert found.flags.c_contiguous


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("clear.png", "clear.png is of Pillow's mode RGBA: save it in grey or RGB, without transparency"),
        ("hole.png", "hole.png is of Pillow's mode P: save it in grey or RGB, without transparency"),
        ("sixteen.png", "sixteen.png is of Pillow's mode I;16: save it in grey or RGB"),
        ("wide.png", "wide.png has 8 × 6 pixels, the model takes 4 × 6: give pictures of that size"),
        ("broken.png", "broken.png cannot be read as a picture .*: give a JPEG or PNG file"),
        ("text.png", "text.png is no picture that Pillow knows: give a JPEG or PNG file"),
        ("none.png", "none.png cannot be read as a picture .*: give a JPEG or PNG file"),
        (".", "cannot be read as a picture .*: give a JPEG or PNG file"),
    ],
)
def test_what_would_lose_something_in_silence_is_refused(folder: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_picture(folder / name, COLOUR)


def test_another_size_is_made_to_fit_where_that_was_asked_for(folder: Path) -> None:
    found = read_picture(folder / "wide.png", COLOUR, resize=True)
    assert np.array_equal(found.transpose(1, 2, 0), np.asarray(Image.open(folder / "wide.png").resize((4, 6))))


@pytest.mark.parametrize("field", [Field("x", "float32", (1, 6, 4)), Field("x", "uint8", (6, 4)), Field("x", "int64")])
def test_a_model_of_something_else_takes_no_pictures(folder: Path, field: Field) -> None:
    with pytest.raises(UsageError, match=r"the model takes x .*, which is no picture: give an .npy file or a stream"):
        read_picture(folder / "grey.png", field)


def test_arrays_are_not_copied() -> None:
    records = np.zeros((5, 1, 6, 4), np.uint8)
    assert np.shares_memory(np.asarray(column_of(records, GREY)), records)
    assert np.asarray(column_of(records[0], GREY)).shape == (1, 1, 6, 4)
    assert np.array_equal(np.asarray(column_of(np.arange(3), Field("n", "int64"))), [0, 1, 2])
