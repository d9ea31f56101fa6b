"""Words in pictures, drawn with Pillow."""

from typing import TYPE_CHECKING, Any

from protocol.errors import UsageError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

FONT_SIZE = 12
LINE_HEIGHT = 18
PAPER, INK = (255, 255, 255), (33, 37, 41)


def pillow() -> Any:
    """The modules Image, ImageDraw and ImageFont; raises `UsageError` where Pillow is missing."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise UsageError("pictures need Pillow: pip install 'headrace[train]'") from error
    return Image, ImageDraw, ImageFont


def font_for(text: str) -> "FreeTypeFont | ImageFont":
    """Pillow's own font, which knows ASCII; one of the machine's, if it has it, for other letters."""
    _, _, font_module = pillow()
    if not text.isascii():
        try:
            return font_module.truetype("DejaVuSans.ttf", FONT_SIZE - 1)  # type: ignore[no-any-return]
        except OSError:  # not there: boxes in the place of some letters are still a picture
            return font_module.load_default(FONT_SIZE)  # type: ignore[no-any-return]
    return font_module.load_default(FONT_SIZE)  # type: ignore[no-any-return]


def fitted(words: str, width: int, font: "FreeTypeFont | ImageFont") -> str:
    """The words on one line, their end cut off where they are wider than `width` pixels."""
    text = " ".join(words.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
