"""Settings of a second look at each picture, without torch."""

from pocketclip.config import Config
from pocketclip.image_size import ImageSize, written


class SecondLookConfig(Config):
    """How a tower that is asked sees each picture a second time; its feature is the mean of both looks.

    Up to a point of recall for twice the time a picture (docs/ladder.md). Known as test-time augmentation.
    """

    image_size: ImageSize | None = None
    """Pixels a side, made of those of the first look; None for its size. A larger first look and a smaller second one
    lose less than the other way round, which stretches what was made small."""
    flip: bool = True
    """Mirrored; not where captions tell left from right."""

    def written(self) -> str:
        """In a few words, such as `a second look at 224 px, mirrored`."""
        size = "" if self.image_size is None else f" at {written(self.image_size)} px"
        return f"a second look{size}{', mirrored' if self.flip else ''}"
