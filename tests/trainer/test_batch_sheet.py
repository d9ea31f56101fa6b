"""The pictures of a batch, as augmentation has left them."""

from typing import Any

import numpy as np
import pytest
import torch

from protocol.contact_sheet import contact_sheet
from protocol.schema import Field, Schema
from trainer.batch_sheet import batch_sheet

SCHEMA = Schema(
    (Field("image", "uint8", (1, 8, 8)), Field("label", "int64")), label="label", class_names=("Bag", "Coat")
)
COLUMNS = {"image": torch.arange(192, dtype=torch.uint8).view(3, 1, 8, 8), "label": torch.tensor([0, 1, 0])}


def test_it_has_the_first_pictures_with_the_names_of_their_classes() -> None:
    sheet = batch_sheet(SCHEMA, COLUMNS, 2, 370)
    assert sheet is not None
    assert (sheet == contact_sheet(COLUMNS["image"][:2].numpy(), ["Bag", "Coat"], 370)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_floats_are_shown_from_the_least_to_the_greatest(dtype: torch.dtype) -> None:
    image = torch.tensor([[-2.0, 0.0], [0.0, 2.0]]).view(1, 1, 2, 2).to(dtype)
    sheet = batch_sheet(SCHEMA, {"image": image, "label": torch.tensor([1])}, 1)
    assert sheet is not None
    expected = np.array([[0, 127], [127, 255]], np.uint8).reshape(1, 1, 2, 2)
    assert (sheet == contact_sheet(expected, ["Coat"])).all()


@pytest.mark.parametrize(
    ("schema", "columns"),
    [
        (Schema((Field("x", "float32", (8,)),)), {"x": torch.zeros(3, 8)}),
        (SCHEMA, {**COLUMNS, "image": torch.zeros(3, 64)}),
        (SCHEMA, {**COLUMNS, "image": torch.zeros(3, 2, 8, 8)}),
    ],
)
def test_what_holds_no_pictures_has_no_sheet(schema: Schema, columns: dict[str, Any]) -> None:
    assert batch_sheet(schema, columns, 3) is None
