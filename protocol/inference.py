"""What a record's values are as arrays, and the schema that a first record shows."""

import sys
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.errors import UsageError
from protocol.schema import DTYPES, Field, Schema

#: Values of these kinds differ in length from record to record by nature.
TEXT_AND_BYTES = (str, bytes, bytearray, memoryview)

#: What to give in place of what cannot travel: by its type, the name of its dtype, or numpy's letter for such dtypes.
MENDS = {
    "NoneType": "a value in every record, such as 0 beside a field that says whether there is one",
    "dict": "its entries as fields of their own",
    "set": "a list",
    "bfloat16": ".view('uint16') or .astype('float32')",
    "M": "a number, such as .astype('datetime64[ns]').astype('int64')",
    "m": "a number, such as .astype('timedelta64[ns]').astype('int64')",
    "U": "one text, or numbers",
    "S": "bytes, or numbers",
    "O": "numbers of one dtype, in rows of one length",
    "V": "its parts as fields of their own",
}
#: torch says so of a dtype that numpy does not have.
NO_DTYPE, NO_DTYPE_MEND = "unsupported ScalarType", ": give .float(), or the bits, such as .view(torch.uint16)"

#: A field of this name that holds one integer is taken as the class.
LABEL_FIELD = "label"


def as_array(value: Any) -> npt.NDArray[Any]:
    """The value as the array that travels; raises `TypeError` with a text for people where there is none.

    Arrays and tensors keep their dtype; Python's int becomes int64 (uint64 from 2^63 on) and float float64, as in
    torch's DataLoader; text becomes its UTF-8 bytes; a PIL picture becomes [channels, height, width].
    """
    if isinstance(value, np.ndarray):
        array = value
    elif isinstance(value, str):
        array = np.frombuffer(_utf8(value), np.uint8)
    elif isinstance(value, bytes | bytearray | memoryview):
        array = np.frombuffer(bytes(value), np.uint8)
    elif isinstance(value, int) and not isinstance(value, bool):
        array = _integer(value)
    elif _is_picture(value):
        array = _picture(value)
    elif isinstance(value, bool | float | complex | np.generic | list | tuple) or hasattr(value, "__array__"):
        try:
            array = _whole(value, np.asarray(value))
        except (TypeError, ValueError, RuntimeError) as error:
            mend = NO_DTYPE_MEND if NO_DTYPE in str(error) else ""
            raise TypeError(f"a {type(value).__name__} that numpy cannot read ({error}){mend}") from error
    else:
        mend = MENDS.get(type(value).__name__, "a number, an array, a tensor, a picture, text or bytes")
        raise TypeError(f"a {type(value).__name__}: give {mend}")
    if array.dtype.name not in DTYPES:
        mend = MENDS.get(array.dtype.name) or MENDS.get(array.dtype.kind) or f"one of {', '.join(DTYPES)}"
        raise TypeError(f"a {type(value).__name__} of dtype {array.dtype}, which cannot travel: give {mend}")
    return array


def infer_schema(
    record: Mapping[str, Any],
    *,
    ragged: Collection[str] = (),
    label: str | None = None,
    class_names: tuple[str, ...] = (),
    label_range: tuple[int, int] | None = None,
) -> Schema:
    """The schema of a stream whose first record is `record`.

    Text and bytes are ragged; the fields named in `ragged` are too. The label is the field that is named, else a
    field `label` that holds one integer. Raises `UsageError`, naming the field.
    """
    if unknown := sorted(set(ragged) - set(record)):
        raise UsageError(f"ragged field {unknown[0]!r} is not in the first record: it has {', '.join(record)}")
    try:
        fields = tuple(_infer_field(name, value, ragged=name in ragged) for name, value in record.items())
        if label is None and any(f.name == LABEL_FIELD and is_integer(f) for f in fields):
            label = LABEL_FIELD
        return Schema(fields=fields, label=label, class_names=class_names, label_range=label_range)
    except ValueError as error:
        raise UsageError(f"the first record cannot be a stream's: {error}") from error


def is_integer(field: Field) -> bool:
    """Whether the field holds one integer a record."""
    return field.shape == () and field.numpy_dtype.kind in "iu"


def _infer_field(name: Any, value: Any, *, ragged: bool) -> Field:
    if not isinstance(name, str):
        raise UsageError(f"field {name!r} of the first record has a name that is no text: give it one")
    try:
        array = as_array(value)
    except TypeError as error:
        raise UsageError(f"field {name!r} of the first record is {error}") from error
    shape: tuple[int | None, ...] = array.shape
    if ragged or isinstance(value, TEXT_AND_BYTES):
        if not shape:
            raise UsageError(f"field {name!r} of the first record is a single number: it cannot be ragged")
        shape = (None, *shape[1:])
    elif array.size == 0:
        raise UsageError(f"field {name!r} of the first record is empty: declare the schema, or name it as ragged")
    return Field(name, array.dtype.name, shape)


def _utf8(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:  # a lone surrogate, which JSON can say
        raise TypeError(f"a text that is no UTF-8 ({error.reason})") from error


def _integer(value: int) -> npt.NDArray[Any]:
    try:
        return np.asarray(value, np.int64 if value < 1 << 63 else np.uint64)
    except OverflowError as error:
        raise TypeError(f"an int of {value.bit_length()} bits, over the 64 that can travel") from error


def _whole(value: Any, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numpy makes floats of integers on both sides of 2^63, which differ by up to a thousand."""
    if array.dtype == np.float64 and isinstance(value, list | tuple) and (array >= 1 << 63).any():
        numbers = np.asarray(value, object)
        if all(type(each) is int and 0 <= each < 1 << 64 for each in numbers.flat):
            return numbers.astype(np.uint64)
    return array


def _is_picture(value: Any) -> bool:
    # Nobody can hold a picture of PIL unless PIL is imported, and this package must not need it.
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def _picture(picture: Any) -> npt.NDArray[Any]:
    # The numbers of a palette mean nothing without it, and numpy shows single bits as bool.
    mode = {"P": "RGB", "PA": "RGBA", "1": "L"}.get(picture.mode, picture.mode)
    pixels = np.asarray(picture if mode == picture.mode else picture.convert(mode))
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
