"""The pictures of a batch with their labels, whatever augmentation has made of them."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from protocol.contact_sheet import SHEET_WIDTH, Sheet, picture_field, sheet_of
from protocol.schema import Schema


def batch_sheet(
    schema: Schema, columns: Mapping[str, torch.Tensor], most: int, sheet_width: int = SHEET_WIDTH
) -> Sheet | None:
    """The contact sheet of the first `most` records; None where these columns hold no pictures.

    Floats are shown from the least of them, black, to the greatest, white.
    """
    field = picture_field(schema)
    if field is None:
        return None
    pictures = columns[field.name][:most]
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3):
        return None
    shown = {field.name: _bytes(pictures)}
    if schema.label is not None:
        shown[schema.label] = columns[schema.label][:most].cpu().numpy()
    return sheet_of(schema, shown, sheet_width)


def _bytes(pictures: torch.Tensor) -> npt.NDArray[np.uint8]:
    if pictures.dtype != torch.uint8:
        pictures = pictures.float()
        least, greatest = pictures.aminmax()
        span = (greatest - least).clamp_min(torch.finfo(torch.float32).tiny)
        pictures = ((pictures - least) / span * 255).nan_to_num(0).to(torch.uint8)
    return np.asarray(pictures.cpu().numpy())
