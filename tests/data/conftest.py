"""What the tests of the data folder share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import encode_picture
from pocketclip.data.sources.image_files import ImageFiles


@pytest.fixture
def image_files() -> Callable[..., ImageFiles]:
    """A function that writes a picture for each of some captions into a folder."""

    def write(folder: Path, captions: list[tuple[str, ...]]) -> ImageFiles:
        paths = [folder / f"{number}.jpg" for number in range(len(captions))]
        for number, path in enumerate(paths):
            path.write_bytes(encode_picture(number))
        return ImageFiles("test", paths, captions, [path.stem for path in paths])

    return write
