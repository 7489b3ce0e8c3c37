"""Bags of a drawn pedestrian: on the back, from a shoulder or in a hand."""

from pocketclip.data.sources.pedestrians.figure import Figure, Point, shade
from pocketclip.data.sources.pedestrians.world import COLOURS


def bags(figure: Figure) -> None:
    """A backpack, or a bag that hangs from a shoulder."""
    if figure.told.bag == "backpack":
        figure.add(figure.depth((0, 0, -0.12)), lambda: _backpack(figure))
        figure.add(0.001 if figure.cos > -0.2 else -1.0, lambda: _straps(figure))
    elif figure.told.bag == "shoulder bag":
        hip: Point = (figure.side_sign * (figure.hip + 0.05), 0.5, 0.01)
        figure.add(
            max(0.001, figure.depth(hip)) if figure.depth(hip) > -0.03 else -0.06, lambda: _shoulder_bag(figure, hip)
        )


def _backpack(figure: Figure) -> None:
    colour, s = COLOURS[figure.told.bag_colour], figure.scale
    x = figure.middle - figure.sin * 0.105 * s
    half = figure.half_width(figure.shoulder * 0.82, 0.06)
    box = (x - half, figure.top + 0.185 * s, x + half, figure.top + 0.425 * s)
    figure.draw.rounded_rectangle(box, 0.04 * s, fill=shade(colour, 0.7))
    inset, aside = 0.012 * s, figure.pose.lit_from * 0.006 * s
    figure.draw.rounded_rectangle(
        (box[0] + inset + aside, box[1] + inset, box[2] - inset + aside, box[3] - inset), 0.035 * s, fill=colour
    )
    if figure.cos < 0.3:
        figure.draw.rounded_rectangle(
            (x - half * 0.62, figure.top + 0.315 * s, x + half * 0.62, figure.top + 0.4 * s),
            0.02 * s,
            fill=shade(colour, 0.82),
            outline=shade(colour, 0.55),
        )
        figure.draw.line(
            (x - half * 0.8, figure.top + 0.25 * s, x + half * 0.8, figure.top + 0.25 * s),
            fill=shade(colour, 0.5),
            width=2,
        )


def _straps(figure: Figure) -> None:
    colour, s = shade(COLOURS[figure.told.bag_colour], 0.85), figure.scale
    for side in (-1, 1):
        points = [
            figure.spot((side * figure.shoulder * 0.62, y, z))
            for y, z in ((0.178, -0.02), (0.24, 0.07), (0.37, 0.05), (0.4, 0.0))
        ]
        figure.draw.line(points, fill=colour, width=max(4, round(0.024 * s)), joint="curve")


def _shoulder_bag(figure: Figure, hip: Point) -> None:
    colour, s = COLOURS[figure.told.bag_colour], figure.scale
    top = figure.spot((figure.side_sign * figure.shoulder * 0.75, 0.178, 0.0))
    x, y = figure.spot(hip)
    figure.draw.line((*top, x, y - 0.03 * s), fill=shade(colour, 0.7), width=max(4, round(0.016 * s)))
    wide = figure.half_width(0.03, 0.085) + 0.02 * s
    figure.draw.rounded_rectangle((x - wide, y - 0.045 * s, x + wide, y + 0.07 * s), 0.02 * s, fill=shade(colour, 0.72))
    figure.draw.rounded_rectangle(
        (x - wide * 0.84, y - 0.036 * s, x + wide * 0.88, y + 0.058 * s), 0.015 * s, fill=colour
    )
    figure.draw.line((x - wide, y, x + wide, y), fill=shade(colour, 0.55), width=2)


def handbag(figure: Figure, wrist: Point) -> None:
    """A bag that hangs from a hand."""
    colour, s = COLOURS[figure.told.bag_colour], figure.scale
    x, y = figure.spot((wrist[0], wrist[1] + 0.045, wrist[2]))
    wide = 0.066 * s
    figure.draw.arc(
        (x - 0.04 * s, y - 0.04 * s, x + 0.04 * s, y + 0.06 * s),
        180,
        360,
        fill=shade(colour, 0.6),
        width=max(3, round(0.01 * s)),
    )
    corners = [
        (x - wide * 0.8, y + 0.01 * s),
        (x + wide * 0.8, y + 0.01 * s),
        (x + wide, y + 0.105 * s),
        (x - wide, y + 0.105 * s),
    ]
    figure.draw.polygon(corners, fill=shade(colour, 0.75))
    figure.draw.rectangle((x - wide * 0.72, y + 0.018 * s, x + wide * 0.74, y + 0.096 * s), fill=colour)
    figure.draw.line((x - wide * 0.78, y + 0.04 * s, x + wide * 0.78, y + 0.04 * s), fill=shade(colour, 0.6), width=2)
