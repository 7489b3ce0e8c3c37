"""Arms, legs and torso of a drawn pedestrian, in what is worn on them."""

import math

from pocketclip.data.sources.pedestrians.bags import handbag
from pocketclip.data.sources.pedestrians.figure import Colour, Figure, Point, shade
from pocketclip.data.sources.pedestrians.world import COLOURS


def legs(figure: Figure) -> None:
    """Both legs with shoes, under a skirt or in what is worn on them."""
    swing = math.sin(2 * math.pi * figure.pose.phase)
    for side, own in ((1, swing), (-1, -swing)):
        hip: Point = (side * figure.hip * 0.56, 0.5, 0.0)
        knee: Point = (side * figure.hip * 0.56, 0.735 - 0.006 * abs(own), own * 0.07 + 0.015)
        lift = 0.03 * max(0.0, -own)
        ankle: Point = (side * figure.hip * 0.52, 0.955 - lift, own * 0.105 - (0.03 if own < 0 else 0.0))
        figure.add(figure.depth(ankle) - 1, lambda leg=(hip, knee, ankle): _leg(figure, *leg))  # type: ignore[misc]


def _leg(figure: Figure, hip: Point, knee: Point, ankle: Point) -> None:
    skin, lower = figure.person.skin, figure.told.lower
    thigh, calf, leg = 0.05 * figure.wide, 0.037 * figure.wide, (hip, knee, ankle)
    figure.limb(leg, (thigh, calf, 0.022), skin)
    if lower in ("trousers", "jeans"):
        colour = COLOURS[figure.told.lower_colour]
        tight = 0.88 if lower == "jeans" else 1.15
        figure.limb(leg, (thigh * 1.12, calf * 1.15 * tight, 0.034 * tight), colour)
        if lower == "jeans":  # seams and a turned-up hem
            b = figure.spot(ankle)
            figure.draw.line((*figure.spot(hip), *figure.spot(knee), *b), fill=shade(colour, 0.6), width=2)
            figure.draw.line((b[0] - 0.03 * figure.scale, b[1], b[0] + 0.03 * figure.scale, b[1]),
                           fill=shade(colour, 1.5), width=max(2, round(0.009 * figure.scale)))  # fmt: skip
    elif lower == "shorts":
        figure.limb((hip, knee), (thigh * 1.2, calf * 1.4), COLOURS[figure.told.lower_colour])
    _shoe(figure, ankle, knee)


def _shoe(figure: Figure, ankle: Point, knee: Point) -> None:
    colour, kind = COLOURS[figure.told.shoe_colour], figure.told.shoes
    toe: Point = (ankle[0] * 1.15, ankle[1] + 0.028, ankle[2] + 0.085)
    heel: Point = (ankle[0], ankle[1] + 0.026, ankle[2] - 0.018)
    if kind == "boots":
        share = 0.62
        shaft: Point = tuple(a + (k - a) * share for a, k in zip(ankle, knee, strict=True))  # type: ignore[assignment]
        figure.limb((shaft, ankle), (0.044 * figure.wide, 0.034), colour)
    a, b = figure.spot(heel), figure.spot(toe)
    size = 0.026 * figure.scale
    if kind == "sneakers":
        sole = (a[0], a[1] + size * 0.35), (b[0], b[1] + size * 0.35)
        figure.tube(
            *sole, size * 0.95, size * 0.8, COLOURS["white"] if figure.told.shoe_colour != "white" else (190, 190, 190)
        )
    figure.tube(a, b, size, size * 0.72, colour)
    if kind == "shoes":
        figure.tube((a[0], a[1] + size * 0.8), (b[0], b[1] + size * 0.6), 2, 2, shade(colour, 0.5))


def arms(figure: Figure) -> None:
    """Both arms, in sleeves or bare."""
    swing = -math.sin(2 * math.pi * figure.pose.phase)
    for side, own in ((1, swing), (-1, -swing)):
        holds = figure.told.bag == "handbag" and figure.side_sign == side
        own = own * 0.3 if holds else own
        shoulder: Point = (side * (figure.shoulder - 0.016), 0.204, 0.0)
        elbow: Point = (side * (figure.shoulder + 0.018), 0.34, own * 0.04 - 0.008)
        wrist: Point = (side * (figure.shoulder + 0.02), 0.475 - 0.02 * abs(own), own * 0.11 + 0.02)
        figure.add(figure.depth(elbow) + 0.02 * figure.cos, lambda s=shoulder, e=elbow, w=wrist: _arm(figure, s, e, w))  # type: ignore[misc]
        if holds:
            figure.add(figure.depth(wrist) + 0.03, lambda w=wrist: handbag(figure, w))  # type: ignore[misc]


def _arm(figure: Figure, shoulder: Point, elbow: Point, wrist: Point) -> None:
    skin, colour, upper = figure.person.skin, COLOURS[figure.told.upper_colour], figure.told.upper
    arm = (shoulder, elbow, wrist)
    figure.limb(arm, (0.03 * figure.wide, 0.025 * figure.wide, 0.018), skin)
    figure.disc(figure.spot((wrist[0], wrist[1] + 0.02, wrist[2])), 0.02 * figure.scale, 0.026 * figure.scale, skin)
    thick = {"coat": 1.25, "jacket": 1.2, "hoodie": 1.25}.get(upper, 1.05) * figure.wide
    if upper in ("t-shirt", "dress"):
        middle: Point = tuple(s + (e - s) * 0.6 for s, e in zip(shoulder, elbow, strict=True))  # type: ignore[assignment]
        figure.limb((shoulder, middle), (0.035 * figure.wide, 0.037 * figure.wide), colour, figure.told.pattern)
    elif upper != "tank top":
        figure.limb(arm, (0.033 * thick, 0.029 * thick, 0.023 * thick), colour, figure.told.pattern)


def torso(figure: Figure) -> None:
    """What is worn above, with skirt or coat, and the neck."""
    figure.add(0.0, lambda: _torso(figure))


def _torso(figure: Figure) -> None:
    told, colour = figure.told, COLOURS[figure.told.upper_colour]
    waist, deep = figure.hip * (0.98 if told.sex == "man" else 0.8), 0.07 * figure.person.build
    neck = (0, 0.13, 0.0), (0, 0.175, -0.005)
    figure.limb(neck, (0.03 * figure.wide, 0.036 * figure.wide), figure.person.skin)
    if told.lower != "none":
        end, flare, depth = {"skirt": (0.7, 1.45, 1.9), "long skirt": (0.9, 1.5, 1.9)}.get(
            told.lower, (0.535, 1.08, 1.15)
        )
        below = [(0.53, figure.hip * 1.12, deep * 1.3)] if "skirt" in told.lower else []
        rows = [(0.44, waist, deep), *below, (end, figure.hip * flare, deep * depth)]
        figure.column(rows, COLOURS[told.lower_colour])
    rows = _upper_rows(figure, waist, deep)
    figure.column(rows, colour, told.pattern)
    _trim(figure, rows[-1][0], colour)


def _upper_rows(figure: Figure, waist: float, deep: float) -> list[tuple[float, float, float]]:
    """Height, half width and half depth of the upper garment, from the neck down."""
    upper, shoulder, hip = figure.told.upper, figure.shoulder, figure.hip
    loose = {"coat": 1.12, "hoodie": 1.12, "jacket": 1.1}.get(upper, 1.0)
    if upper == "tank top":
        rows = [(0.16, 0.04, 0.04), (0.19, shoulder * 0.62, deep * 0.8), (0.26, shoulder * 0.8, deep)]
    else:
        chest = (
            (0.186, shoulder * 0.8 * loose, deep * 0.8 * loose),
            (0.25, shoulder * 0.97 * loose, deep * 1.08 * loose),
        )
        rows = [(0.16, 0.05, 0.04), *chest]
    rows.append((0.4, waist * 1.06 * loose, deep * loose))
    if upper == "dress":
        return [*rows, (0.53, hip * 1.15, deep * 1.3), (0.74, hip * 1.6, deep * 2.0)]
    end, flare, depth = {"coat": (0.68, 1.4, 1.6), "hoodie": (0.51, 1.23, 1.15), "jacket": (0.49, 1.21, 1.15)}.get(
        upper, (0.48, 1.1, 1.15)
    )
    return [*rows, (end, hip * flare, deep * depth)]


def _trim(figure: Figure, bottom: float, colour: Colour) -> None:
    """Openings, collars, hoods and pockets, which tell garments from each other."""
    front, upper, s = figure.cos > 0.25, figure.told.upper, figure.scale
    x = figure.middle + figure.sin * 0.06 * s
    end = figure.top + bottom * s
    if upper == "jacket" and front:
        inner = (236, 236, 232) if figure.told.upper_colour != "white" else (60, 62, 70)
        figure.draw.polygon([(x - 0.035 * s, figure.top + 0.172 * s), (x + 0.035 * s, figure.top + 0.172 * s),
                           (x + 0.03 * s, end), (x - 0.022 * s, end)], fill=inner)  # fmt: skip
        figure.draw.line((x - 0.024 * s, figure.top + 0.2 * s, x - 0.022 * s, end), fill=(200, 200, 204), width=2)
    elif upper == "coat" and front:
        dark = shade(colour, 0.5)
        figure.draw.line((x, figure.top + 0.2 * s, x, end), fill=dark, width=max(2, round(0.008 * s)))
        for number in range(4):
            figure.disc((x + 0.022 * s, figure.top + (0.27 + 0.07 * number) * s), 0.008 * s, 0.008 * s, dark)
        for aside in (-1, 1):
            figure.draw.polygon([(x, figure.top + 0.25 * s), (x + aside * 0.045 * s, figure.top + 0.17 * s),
                               (x + aside * 0.06 * s, figure.top + 0.21 * s)], fill=shade(colour, 0.85))  # fmt: skip
    elif upper == "hoodie":
        hood = shade(colour, 0.82)
        figure.disc(
            (figure.middle - figure.sin * 0.045 * s, figure.top + 0.168 * s),
            0.066 * s,
            (0.05 if figure.cos < 0 else 0.028) * s,
            hood,
        )
        if front:
            y, end = figure.top + 0.4 * s, figure.top + 0.47 * s
            pocket = [(x - 0.05 * s, y), (x + 0.05 * s, y), (x + 0.07 * s, end), (x - 0.07 * s, end)]
            figure.draw.polygon(pocket, fill=hood)
            for aside in (-1, 1):
                at = x + aside * 0.018 * s
                figure.draw.line((at, figure.top + 0.18 * s, at, figure.top + 0.26 * s), fill=(225, 225, 225), width=2)
    elif front:
        deep = 0.03 if upper != "tank top" else 0.055
        figure.disc((x, figure.top + 0.165 * s), 0.036 * s * max(0.5, figure.cos), deep * s, figure.person.skin)
    if upper == "dress":
        y = figure.top + 0.405 * s
        half = figure.half_width(figure.hip * 0.86, 0.072)
        figure.draw.line(
            (figure.middle - half, y, figure.middle + half, y), fill=shade(colour, 0.5), width=max(3, round(0.012 * s))
        )
