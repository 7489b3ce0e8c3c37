"""Sources in memory, for what reads whole ones."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from conftest import encode_picture
from pocketclip.data.source import Sample, Source


@dataclass
class Held(Source):
    """Samples in memory, one a row of captions; pictures differ unless `pictures` says otherwise."""

    texts: Sequence[tuple[str, ...]]
    pictures: Sequence[bytes] = ()
    labels: dict[int, int] = field(default_factory=dict)
    name: str = "held"

    def __len__(self) -> int:
        return len(self.texts)

    def sample(self, index: int) -> Sample:
        picture = self.pictures[index] if self.pictures else encode_picture(index)
        return Sample(f"key-{index}", picture, self.texts[index], f"item {index}", self.labels.get(index))

    def captions(self, index: int) -> tuple[str, ...]:
        return self.texts[index]

    def place(self, index: int) -> str:
        return f"item {index}"

    def stamp(self) -> object:
        return "held"


def flat_picture(colour: str, size: tuple[int, int] = (40, 40)) -> bytes:
    output = io.BytesIO()
    Image.new("RGB", size, colour).save(output, "PNG")
    return output.getvalue()
