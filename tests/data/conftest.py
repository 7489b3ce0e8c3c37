"""What the tests of the data folder share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import encode_picture
from pocketclip.data.image_files import ImageFiles
from pocketclip.tokenizer import Tokenizer, train_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Knows the words of `make_folder`'s captions."""
    texts = [f"picture {number} caption {line}" for number in range(20) for line in range(5)]
    return train_tokenizer(texts, vocabulary_size=200, context_length=16)


@pytest.fixture
def image_files() -> Callable[..., ImageFiles]:
    """A function that writes a picture for each of some captions into a folder."""

    def write(folder: Path, captions: list[tuple[str, ...]]) -> ImageFiles:
        paths = [folder / f"{number}.jpg" for number in range(len(captions))]
        for number, path in enumerate(paths):
            path.write_bytes(encode_picture(number))
        return ImageFiles("test", paths, captions, [path.stem for path in paths])

    return write
