"""IDX, the format of the MNIST family of datasets: a magic number, the sizes of the dimensions, then the values."""

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from protocol.errors import UsageError

#: The third byte of the magic number; of the types that the format knows, these datasets use this one alone.
UNSIGNED_BYTES = 0x08
MAX_VALUES = 1 << 32


class IdxError(UsageError):
    """A file that is not the IDX file that it should be. Its text names the file and what is wrong with it."""


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array of `dimensions` dimensions in `path`, unzipped where its name ends in `.gz`.

    Raises `IdxError` where it cannot be read, or is not as long as its own header says.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise IdxError(f"{path} cannot be read ({error})") from error
    header_bytes = 4 + 4 * dimensions
    if len(content) < header_bytes:
        raise IdxError(f"{path} is cut short: {len(content)} bytes, less than its header has")
    if content[:4] != bytes((0, 0, UNSIGNED_BYTES, dimensions)):
        raise IdxError(f"{path} is no IDX file of bytes in {dimensions} dimensions: it starts with {content[:4].hex()}")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, offset=4))
    if prod(shape) > MAX_VALUES or len(content) - header_bytes != prod(shape):
        raise IdxError(f"{path} has {len(content) - header_bytes} values where its header says {prod(shape)}")
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)
