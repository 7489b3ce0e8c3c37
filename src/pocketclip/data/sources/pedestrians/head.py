"""The head of a drawn pedestrian: face, hair, and what is worn on it or around the neck."""

from pocketclip.data.sources.pedestrians.figure import Figure, shade
from pocketclip.data.sources.pedestrians.world import COLOURS, HAIR_COLOURS


def draw_head(figure: Figure) -> None:
    """Add the head to a figure, over its torso."""
    is_behind = figure.cos < -0.25
    if figure.told.hair in ("long", "shoulder-length", "ponytail"):
        figure.add(0.045 if is_behind else -0.045, lambda: _long_hair(figure))
    figure.add(0.04, lambda: _head(figure))
    if figure.told.extra in ("cap", "hat"):
        figure.add(0.047, lambda: _headgear(figure))
    if figure.told.extra == "scarf":
        figure.add(0.046, lambda: _scarf(figure))


def _long_hair(figure: Figure) -> None:
    """What of the hair hangs down."""
    s, told = figure.scale, figure.told
    colour, x = HAIR_COLOURS[told.hair_colour], figure.middle - figure.sin * 0.03 * s
    dark, top = shade(colour, 0.8), figure.top
    if told.hair == "ponytail":
        at = x - figure.sin * 0.045 * s
        figure.disc((at, top + 0.06 * s), 0.022 * s, 0.02 * s, dark)
        wide = 0.024 * s if figure.cos < 0.5 else 0.016 * s
        figure.tube((at, top + 0.07 * s), (at - figure.sin * 0.02 * s, top + 0.2 * s), wide, wide * 0.6, colour)
        return
    end = 0.3 if told.hair == "long" else 0.165
    half = figure.half_width(0.058, 0.055)
    box = (x - half, top + 0.03 * s, x + half, top + end * s)
    figure.draw.rounded_rectangle(box, 0.03 * s, fill=dark)
    aside = figure.pose.lit_from * 0.01 * s
    figure.draw.rounded_rectangle(
        (box[0] + 0.008 * s + aside, box[1], box[2] - 0.008 * s + aside, box[3] - 0.01 * s), 0.03 * s, fill=colour
    )


def _head(figure: Figure) -> None:
    s, told = figure.scale, figure.told
    x, y = figure.middle, figure.top + 0.068 * s
    across, down = figure.half_width(0.047, 0.055), 0.064 * s
    if told.hair != "bald":
        colour = HAIR_COLOURS[told.hair_colour]
        back = x - figure.sin * 0.014 * s
        figure.disc((back, y - 0.008 * s), across * 1.14, down * 1.05, shade(colour, 0.8))
        figure.disc((back + figure.pose.lit_from * 0.008 * s, y - 0.012 * s), across, down * 0.95, colour)
    if told.hair == "bald" and figure.cos <= -0.35:
        figure.disc((x, y), across, down, shade(figure.person.skin, 0.84))
        figure.disc((x + figure.pose.lit_from * 0.008 * s, y), across * 0.85, down * 0.94, figure.person.skin)
    elif figure.cos > -0.35:
        _face(figure, x, y, across, down)
    if told.hair != "bald" and figure.cos > -0.35:
        colour = HAIR_COLOURS[told.hair_colour]
        shift = figure.sin * 0.02 * s
        box = (x - across * 1.05 - shift * 0.4, y - down * 1.08, x + across * 1.05 - shift * 0.4, y + down * 0.55)
        figure.draw.chord(box, 196, 344, fill=colour)
        if abs(figure.sin) > 0.5:  # seen from the side, hair covers the ear
            figure.disc((x - shift * 1.6, y - 0.005 * s), across * 0.55, down * 0.8, colour)
    if told.extra == "glasses" and figure.cos > -0.3:
        _glasses(figure, x, y)


def _face(figure: Figure, x: float, y: float, across: float, down: float) -> None:
    """Skin with what little of a face shows at this size."""
    s, skin = figure.scale, figure.person.skin
    front = x + figure.sin * 0.012 * s
    figure.disc((front, y + 0.006 * s), across * 0.92, down * 0.95, shade(skin, 0.84))
    figure.disc((front + figure.pose.lit_from * 0.006 * s, y + 0.004 * s), across * 0.8, down * 0.9, skin)
    dark = shade(skin, 0.35)
    for side in (-1, 1):
        at = x + (side * 0.018 * figure.cos + 0.04 * figure.sin) * s
        if side * figure.sin > -0.75:
            figure.disc((at, y + 0.0 * s), max(1.5, 0.0055 * s), max(1.5, 0.0045 * s), dark)
            figure.draw.line((at - 0.009 * s, y - 0.012 * s, at + 0.009 * s, y - 0.013 * s), fill=dark, width=2)
    nose = x + 0.052 * figure.sin * s
    figure.disc((nose, y + 0.016 * s), 0.006 * s, 0.009 * s, shade(skin, 0.78))
    mouth = x + 0.038 * figure.sin * s
    figure.draw.line(
        (mouth - 0.011 * s, y + 0.036 * s, mouth + 0.011 * s, y + 0.036 * s),
        fill=shade((170, 70, 70), 0.9),
        width=max(2, round(0.006 * s)),
    )


def _glasses(figure: Figure, x: float, y: float) -> None:
    s, ink = figure.scale, (20, 20, 24)
    spots = []
    for side in (-1, 1):
        at = x + (side * 0.02 * figure.cos + 0.036 * figure.sin) * s
        wide = max(0.4, abs(figure.cos)) * 0.017 * s
        figure.draw.ellipse(
            (at - wide, y - 0.015 * s, at + wide, y + 0.015 * s),
            outline=ink,
            fill=(60, 70, 84),
            width=max(2, round(0.006 * s)),
        )
        spots.append(at)
    back = x - figure.sin * 0.02 * s if abs(figure.sin) > 0.4 else None
    figure.draw.line((spots[0], y, spots[1], y), fill=ink, width=3)
    if back is not None:
        figure.draw.line((spots[0], y, back, y - 0.004 * s), fill=ink, width=3)


def _headgear(figure: Figure) -> None:
    """A cap with its peak to the front, or a hat with a brim all around."""
    s, colour = figure.scale, COLOURS[figure.told.extra_colour]
    x, y = figure.middle, figure.top + 0.068 * s
    across, down = figure.half_width(0.047, 0.055), 0.064 * s
    top, wide = y - down * 1.2, across * 1.2
    line = y - down * 0.28
    figure.draw.pieslice((x - wide, top, x + wide, 2 * line - top), 180, 360, fill=shade(colour, 0.75))
    aside = figure.pose.lit_from * 0.008 * s
    figure.draw.pieslice(
        (x - wide * 0.84 + aside, top + 0.006 * s, x + wide * 0.84 + aside, 2 * line - top), 180, 360, fill=colour
    )
    if figure.told.extra == "hat":
        figure.disc((x, line), across * 1.9, 0.017 * s, shade(colour, 0.7))
        figure.disc((x, line - 0.005 * s), across * 1.85, 0.013 * s, colour)
        figure.draw.line(
            (x - wide * 0.95, line - 0.02 * s, x + wide * 0.95, line - 0.02 * s),
            fill=shade(colour, 0.5),
            width=max(3, round(0.012 * s)),
        )
    elif figure.cos > -0.35:
        peak = x + figure.sin * 0.06 * s
        figure.disc((peak, line), across * (0.9 if abs(figure.sin) < 0.5 else 0.75), 0.013 * s, shade(colour, 0.66))


def _scarf(figure: Figure) -> None:
    s, colour = figure.scale, COLOURS[figure.told.extra_colour]
    half = figure.half_width(0.06, 0.055)
    x, y = figure.middle, figure.top + 0.158 * s
    figure.disc((x, y + 0.006 * s), half * 1.08, 0.034 * s, shade(colour, 0.68))
    figure.disc((x + figure.pose.lit_from * 0.008 * s, y), half, 0.027 * s, colour)
    end = x + (figure.sin * 0.05 + 0.03 * (1 if figure.cos > 0 else -1)) * s
    figure.draw.polygon(
        [
            (end - 0.022 * s, y + 0.015 * s),
            (end + 0.022 * s, y + 0.015 * s),
            (end + 0.03 * s, y + 0.17 * s),
            (end - 0.018 * s, y + 0.175 * s),
        ],
        fill=shade(colour, 0.86),
    )
    figure.draw.line((end - 0.016 * s, y + 0.15 * s, end + 0.028 * s, y + 0.148 * s), fill=shade(colour, 0.6), width=3)
