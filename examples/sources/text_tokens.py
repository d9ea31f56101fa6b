"""A text file for a small language model by characters: windows of tokens, each overlapping the next by one.

    python -m producer --source examples.sources.text_tokens.Windows --source.path book.txt --validation 0.1
    python -m protocol peek tcp://127.0.0.1:5555

A dataset: `tokens` int64 [length + 1], so tokens[:-1] predict tokens[1:]. The vocabulary are the file's characters in
the order of their code points; it travels as the stream's class names.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from protocol.errors import UsageError
from protocol.schema import Field, Schema


class Windows:
    """Every window of a text.

    Args:
        path: a file of UTF-8 text
        length: characters that a window predicts
    """

    def __init__(self, path: str, length: int = 64) -> None:
        text = Path(path).read_text(encoding="utf-8")
        if len(text) <= length:
            raise UsageError(f"{path} has {len(text)} characters: give more, or a smaller --source.length")
        points = np.frombuffer(text.encode("utf-32-le"), "<u4")
        vocabulary, codes = np.unique(points, return_inverse=True)
        self.codes, self.length = codes.astype(np.int64), length
        self.schema = Schema((Field("tokens", "int64", (length + 1,)),), class_names=tuple(map(chr, vocabulary)))

    def __len__(self) -> int:
        return (len(self.codes) - 1) // self.length

    def __getitem__(self, index: int) -> dict[str, npt.NDArray[np.int64]]:
        first = index * self.length
        return {"tokens": self.codes[first : first + self.length + 1]}
