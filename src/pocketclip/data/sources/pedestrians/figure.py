"""A pedestrian as a figure of limbs in space, seen from where the camera stands: what of it covers what."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from PIL import Image, ImageDraw

from pocketclip.data.sources.pedestrians.world import Person

Colour = tuple[int, int, int]
Point = tuple[float, float, float]
"""Towards the person's left, down from the top of the head, and forward, in heights of the person."""
Spot = tuple[float, float]
"""On the canvas, in pixels."""
FACINGS = {"front": 0, "right": 90, "back": 180, "left": 270}
"""Degrees by which the person has turned from the camera towards the right of the picture."""


@dataclass(frozen=True)
class Pose:
    """How somebody stands before the camera."""

    facing: str
    turn: float
    """Degrees beyond the facing."""
    phase: float
    """Of walking, 0 to 1."""
    lit_from: float
    """-1 from the left of the picture to 1 from the right."""


def shade(colour: Colour, factor: float) -> Colour:
    """A colour in more or less light."""
    return tuple(min(255, max(0, round(value * factor))) for value in colour)  # type: ignore[return-value]


def ink_on(colour: Colour) -> Colour:
    """Of a pattern on a colour."""
    return (228, 228, 224) if sum(colour) < 420 else (30, 30, 34)


@dataclass
class Figure:
    """Draws one person on a transparent canvas; `scale` is the height in pixels."""

    canvas: Image.Image
    person: Person
    pose: Pose
    middle: float
    top: float
    scale: float
    draw: ImageDraw.ImageDraw = field(init=False)
    _layers: list[tuple[float, Callable[[], None]]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.draw = ImageDraw.Draw(self.canvas)
        angle = math.radians(FACINGS[self.pose.facing] + self.pose.turn)
        self.cos, self.sin = math.cos(angle), math.sin(angle)
        self.told = self.person.description
        self.wide = self.person.build * (1.0 if self.told.sex == "man" else 0.9)
        self.shoulder = (0.118 if self.told.sex == "man" else 0.1) * self.person.build
        self.hip = (0.082 if self.told.sex == "man" else 0.09) * self.person.build

    @property
    def side_sign(self) -> int:
        """1 where a bag hangs on the left of the body."""
        return 1 if self.person.side == "left" else -1

    # Where things are

    def spot(self, point: Point) -> Spot:
        """Of a point in space."""
        x, y, z = point
        return self.middle + (x * self.cos + z * self.sin) * self.scale, self.top + y * self.scale

    def depth(self, point: Point) -> float:
        """Larger is nearer to the camera."""
        return point[2] * self.cos - point[0] * self.sin

    def add(self, depth: float, layer: Callable[[], None]) -> None:
        """Something to draw, over what is farther away."""
        self._layers.append((depth, layer))

    def finish(self) -> None:
        """Draw all that was added, the farthest first."""
        for _, layer in sorted(self._layers, key=lambda each: each[0]):
            layer()

    # Shapes

    def limb(self, points: Sequence[Point], widths: Sequence[float], colour: Colour, pattern: str = "plain") -> None:
        """A tapering tube through some points, lit from a side."""
        spots, radii = [self.spot(point) for point in points], [width * self.scale for width in widths]
        parts = list(zip(spots, spots[1:], radii, radii[1:], strict=False))
        for a, b, first, last in parts:
            self.tube(a, b, first, last, shade(colour, 0.72))
        aside = self.pose.lit_from * 0.2
        for a, b, first, last in parts:
            lit_a, lit_b = (a[0] + aside * first, a[1]), (b[0] + aside * last, b[1])
            self.tube(lit_a, lit_b, first * 0.78, last * 0.78, colour)
        if pattern in ("striped", "checked"):
            ink, thick = ink_on(colour), max(2, round(self.scale * 0.009))
            for a, b, first, last in parts:
                for share in (0.2, 0.5, 0.8):
                    x, y = (a[axis] + (b[axis] - a[axis]) * share for axis in (0, 1))
                    half = (first + (last - first) * share) * 0.92
                    self.draw.line((x - half, y, x + half, y), fill=ink, width=thick)

    def tube(self, a: Spot, b: Spot, first: float, last: float, colour: Colour) -> None:
        """The same on the canvas, of one colour; widths are radii."""
        length = math.hypot(b[0] - a[0], b[1] - a[1]) or 1.0
        across = ((b[1] - a[1]) / length, -(b[0] - a[0]) / length)
        corners = [
            (a[0] + across[0] * first, a[1] + across[1] * first),
            (b[0] + across[0] * last, b[1] + across[1] * last),
            (b[0] - across[0] * last, b[1] - across[1] * last),
            (a[0] - across[0] * first, a[1] - across[1] * first),
        ]
        self.draw.polygon(corners, fill=colour)
        self.disc(a, first, first, colour)
        self.disc(b, last, last, colour)

    def disc(self, at: Spot, across: float, down: float, colour: Colour) -> None:
        """An ellipse by its radii."""
        self.draw.ellipse((at[0] - across, at[1] - down, at[0] + across, at[1] + down), fill=colour)

    def half_width(self, lateral: float, depth: float) -> float:
        """Of a body part with an oval section, as it is seen, in pixels."""
        return math.hypot(lateral * self.cos, depth * self.sin) * self.scale

    def column(self, rows: Sequence[tuple[float, float, float]], colour: Colour, pattern: str = "plain") -> None:
        """A part around the middle: its height, half width and half depth, from above to below, with a pattern."""
        edges = [(self.top + y * self.scale, self.half_width(lateral, depth)) for y, lateral, depth in rows]
        self.draw.polygon(_outline(edges, self.middle), fill=shade(colour, 0.72))
        lit = [(y, half * 0.8) for y, half in edges]
        self.draw.polygon(_outline(lit, self.middle + self.pose.lit_from * edges[0][1] * 0.16), fill=colour)
        if pattern != "plain":
            self._pattern(edges, colour, pattern)

    def _pattern(self, edges: Sequence[tuple[float, float]], colour: Colour, pattern: str) -> None:
        """Stripes, checks or dots inside of an outline."""
        ink = ink_on(colour)
        step, thick = self.scale * 0.032, max(2, round(self.scale * 0.009))
        y, row = edges[0][0] + step * 0.8, 0
        while y < edges[-1][0]:
            half = _width_at(edges, y) * 0.97
            if pattern == "dotted":
                count = int(half / step)
                for number in range(-count, count + 1):
                    x = self.middle + (number + 0.5 * (row % 2)) * step
                    if abs(x - self.middle) < half - thick:
                        self.disc((x, y), thick * 0.8, thick * 0.8, ink)
            else:
                self.draw.line((self.middle - half, y, self.middle + half, y), fill=ink, width=thick)
            y, row = y + (step if pattern != "checked" else step * 1.2), row + 1
        if pattern == "checked":
            for number in range(-4, 5):
                share = (number + 0.5) / 4.5
                points = [(self.middle + share * half, y) for y, half in edges]
                self.draw.line(points, fill=ink, width=max(1, thick - 1))


def _outline(edges: Sequence[tuple[float, float]], middle: float) -> list[Spot]:
    return [(middle - half, y) for y, half in edges] + [(middle + half, y) for y, half in reversed(edges)]


def _width_at(edges: Sequence[tuple[float, float]], y: float) -> float:
    for (above, first), (below, last) in pairwise(edges):
        if above <= y <= below:
            return first + (last - first) * (y - above) / max(1e-6, below - above)
    return edges[-1][1]


def random_pose(chance: random.Random, facing: str) -> Pose:
    """A pose of a view."""
    return Pose(facing, chance.uniform(-24, 24), chance.random(), chance.uniform(-1, 1))
