"""How a run reads its stream: where it is, how records are decoded, and how those of any length become tensors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from protocol.command_line import ArgumentParser
from protocol.reader import Reader
from trainer.collation import Collate, Pad
from trainer.decoding import Decoder, identity, open_decoded


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Of one stream."""

    url: str
    """Where it is served, or lies."""
    keys: str | Path = ""
    """Folder of this client's keys."""
    decoders: Sequence[Decoder] = ()
    """What is done with each chunk where it arrives, one after the other."""
    collate: Collate = field(default_factory=Pad)
    """What becomes of a batch's ragged fields."""

    @property
    def identity(self) -> str:
        """What what is kept of its records depends on besides the stream; "" where nothing is decoded."""
        return identity(self.decoders) if self.decoders else ""

    @property
    def open(self) -> Callable[[], Reader]:
        """Opens a reader; what the workers get, which collate nothing."""
        return partial(open_decoded, self.url, self.decoders, keys=self.keys)


def add_reading(parser: ArgumentParser) -> None:
    """`--decode`, a list of class paths with typed arguments or of functions' paths, and `--collate`, one of these."""
    parser.add_argument(
        "--decode",
        metavar="CLASSES",
        type=list[Decoder],
        default=[],
        help="what is done with each chunk where it arrives, one after the other: classes of trainer.decoders, your "
        "own class or function from columns to columns; a list in YAML, and here --decode+ trainer.decoders.Pictures "
        "--decode.height 64 adds one",
    )
    parser.add_argument(
        "--collate",
        metavar="CLASS",
        type=Collate,
        default={"class_path": "trainer.collation.Pad"},
        help="how fields whose length differs from record to record become tensors of a batch: trainer.collation.Pad, "
        "trainer.collation.Nested, your own class or function",
    )
