"""Scenes become pictures."""

import io
import math

from PIL import Image, ImageDraw

from pocketclip.data.sources.scene_world import COLOURS, FIRST_PLACES, PLACES, SIZES, Group, LoneGroup, Scene


def draw_scene(scene: Scene | LoneGroup, image_size: int) -> bytes:
    """The scene as a PNG of `image_size` pixels a side on white, drawn at twice the size for smooth edges."""
    side = 2 * image_size
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    for group, place in scene.placed:
        across = 0.27 if place in FIRST_PLACES else 0.73
        for number in range(group.count):
            along = (number + 1) / (group.count + 1)
            x, y = (along, across) if place in PLACES["above"] else (across, along)
            _draw_shape(draw, group, x * side, y * side, SIZES[group.size] * side)
    output = io.BytesIO()
    image.resize((image_size, image_size), Image.Resampling.BOX).save(output, "PNG", compress_level=1)
    return output.getvalue()


def _draw_shape(draw: ImageDraw.ImageDraw, group: Group, x: float, y: float, radius: float) -> None:
    colour = COLOURS[group.colour]
    if group.shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    elif group.shape == "square":
        half = radius * 0.9
        draw.rectangle((x - half, y - half, x + half, y + half), fill=colour)
    elif group.shape == "cross":
        third = radius / 3
        draw.rectangle((x - radius, y - third, x + radius, y + third), fill=colour)
        draw.rectangle((x - third, y - radius, x + third, y + radius), fill=colour)
    else:
        points, inner = (3, 1.0) if group.shape == "triangle" else (5, 0.42)
        draw.polygon(_polygon(x, y, radius, points, inner), fill=colour)


def _polygon(x: float, y: float, radius: float, points: int, inner: float) -> list[tuple[float, float]]:
    """Corners of a regular polygon (inner = 1) or star with one corner up."""
    lengths = (radius,) if inner == 1.0 else (radius, radius * inner)
    count = points * len(lengths)
    corners = [(math.pi * 2 * number / count - math.pi / 2, lengths[number % len(lengths)]) for number in range(count)]
    return [(x + length * math.cos(angle), y + length * math.sin(angle)) for angle, length in corners]
