"""How large a tower's pictures are: one number for the side of a square, or a height and a width."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

MAX_IMAGE_SIZE = 4096
"""Largest side of a tower's picture; published towers take 1,024 pixels at most, and a side more costs its square."""
_Side = Annotated[int, Field(gt=0, le=MAX_IMAGE_SIZE)]
_SIDE, _SIDES = TypeAdapter(_Side), TypeAdapter(tuple[_Side, _Side])


def _read(value: Any) -> int | tuple[int, int]:
    """A square given as two numbers becomes the one that it is, so that nothing hangs on how it was written."""
    is_pair = isinstance(value, list | tuple)
    if is_pair and len(value) != 2:
        raise ValueError("should be one number of pixels, or height and width as [384, 128]")
    try:
        size: int | tuple[int, int] = _SIDES.validate_python(value) if is_pair else _SIDE.validate_python(value)
    except ValidationError as error:
        hint = "; height and width are written as [384, 128]" if isinstance(value, str) else ""
        raise ValueError(error.errors()[0]["msg"] + hint) from None
    return size[0] if isinstance(size, tuple) and size[0] == size[1] else size


ImageSize = Annotated[int | tuple[int, int], BeforeValidator(_read)]
"""Pixels of a side of a square, or height and width, which files write as a list."""


def height_and_width(size: ImageSize) -> tuple[int, int]:
    """The two sides of an image size."""
    return size if isinstance(size, tuple) else (size, size)


def written(size: ImageSize) -> str:
    """As people read it: `160`, or `384 x 128`, height first."""
    return f"{size[0]} x {size[1]}" if isinstance(size, tuple) else str(size)
