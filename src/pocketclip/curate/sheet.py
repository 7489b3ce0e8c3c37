"""A sheet of examples: pictures with their names and captions, as one picture."""

import itertools
import math
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from pocketclip.curate.curation import measure_each
from pocketclip.curate.fonts import Fonts, letters
from pocketclip.data.source import Sample, Source
from pocketclip.errors import printable
from pocketclip.preprocess import decode_image

MOST, WIDTH, LARGEST = 24, 1016, 320
"""Pictures, and pixels of the sheet and of a picture's longer side."""
GAP, LINE, LINES = 8, 14, 3
"""Pixels between places, pixels of a line of text, and lines: the name, then the caption."""
TEXT = LINE * LINES + 2
FONT_SIZE, MOST_LETTERS = 11, 400


@dataclass(frozen=True)
class _Place:
    """A picture on the sheet."""

    sample: Sample
    picture: Image.Image
    x: int
    y: int


def contact_sheet(
    source: Source,
    *,
    columns: int | None = None,
    rows: int | None = None,
    side: int | None = None,
    seed: int = 0,
    fonts: Fonts | None = None,
) -> Image.Image:
    """Randomly drawn images, each with its file's name and its first caption below.

    Columns, rows and the side of a picture follow from how many pictures there are, unless they are given; `fonts`
    know afterwards which letters they lack.
    """
    fonts = fonts or Fonts(FONT_SIZE)
    order = np.random.default_rng(seed).permutation(len(source)).tolist()
    wanted = MOST if columns is None or rows is None else columns * rows
    readable = measure_each(source, order, decode_image, [])
    shown = [(sample, image) for _, sample, image in itertools.islice(readable, wanted)]
    across = columns or _columns(len(shown))
    edge = side or min(LARGEST, (WIDTH - GAP) // across - GAP)
    fitted = [(sample, ImageOps.contain(image, (edge, edge))) for sample, image in shown]
    places, y = list[_Place](), GAP
    for start in range(0, len(fitted), across):
        row = fitted[start : start + across]
        height = edge if rows is not None else max(image.height for _, image in row)
        for number, (sample, image) in enumerate(row):
            places.append(_Place(sample, image, GAP + number * (edge + GAP), y + (height - image.height) // 2))
        y += height + TEXT + GAP
    height = y if rows is None else rows * (edge + TEXT + GAP) + GAP
    sheet = Image.new("RGB", (across * (edge + GAP) + GAP, height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, place in enumerate(places):
        row_end = max(one.y + one.picture.height for one in places[number - number % across :][:across])
        below = row_end if rows is None else GAP + number // across * (edge + TEXT + GAP) + edge
        sheet.paste(place.picture, (place.x + (edge - place.picture.width) // 2, place.y))
        _write(draw, fonts, place, below, edge)
    return sheet


def _columns(count: int) -> int:
    """So that little room stays empty and the sheet is about as wide as a screen."""

    def waste(columns: int) -> float:
        rows = math.ceil(count / columns)
        side = min(LARGEST, (WIDTH - GAP) // columns - GAP)
        shape = columns * side / (rows * (0.75 * side + TEXT))
        return (rows * columns - count) / max(count, 1) + 0.5 * abs(math.log(shape / 1.4))

    return min(range(1, min(6, max(count, 1)) + 1), key=waste)


def _write(draw: ImageDraw.ImageDraw, fonts: Fonts, place: _Place, below: int, room: int) -> None:
    sample = place.sample
    label = "" if sample.label is None else f"class {sample.label}"
    caption = fonts.drawable(printable((sample.captions[0] if sample.captions else label)[:MOST_LETTERS]))
    name = cut_to_fit(fonts.drawable(printable(_name(sample.place))), fonts, room)
    lines = [(name, "#666666"), *((line, "black") for line in wrap(caption, fonts, room, LINES - 1))]
    for number, (line, colour) in enumerate(lines):
        fonts.draw(draw, place.x, below + 12 + LINE * number, line, room=room, fill=colour)


def _name(place: str) -> str:
    """A picture's file, or its key in an archive."""
    return re.sub(r"^.*\.tar: ", "", place.rpartition("/")[2])


def cut_to_fit(name: str, fonts: Fonts, room: float) -> str:
    """A name with `…` for what of its middle there is no room for; its ending says what it is."""
    if fonts.width(name) <= room:
        return name
    signs = letters(name)
    for kept in range(len(signs) - 1, 0, -1):
        end = kept // 2
        cut = f"{''.join(signs[: kept - end])}…{''.join(signs[len(signs) - end :])}"
        if fonts.width(cut) <= room:
            return cut
    return "…"


def wrap(text: str, fonts: Fonts, room: float, num_lines: int) -> list[str]:
    """The first lines of a text; a word wider than a line is broken, as are scripts without blanks."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if fonts.width(longer) <= room:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in letters(word):
            if lines[-1] and fonts.width(lines[-1] + letter) > room:
                lines.append("")
            lines[-1] += letter
        if len(lines) > num_lines:
            break
    if len(lines) > num_lines:
        lines[num_lines - 1] = _with_dots(lines[num_lines - 1], fonts, room)
    return lines[:num_lines]


def _with_dots(line: str, fonts: Fonts, room: float) -> str:
    """A line that goes on, and says so."""
    signs = letters(line)
    while signs and fonts.width(f"{''.join(signs)}…") > room:
        signs.pop()
    return f"{''.join(signs).rstrip()}…"
