"""Example queries with their top results as small pictures, drawn at random when a run ends.

Queries are drawn, not chosen: a gallery that shows only successes says nothing about a model.
"""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketclip.data.encode import Embeddings
from pocketclip.data.source import Source
from pocketclip.errors import UserError
from pocketclip.files import write_atomically
from pocketclip.preprocess import decode_image

THUMBNAIL = 112
NUM_TEXT_QUERIES, NUM_IMAGE_QUERIES = 10, 6
NUM_RESULTS = 5


@dataclass(frozen=True)
class Result:
    """One retrieved item."""

    score: float
    is_match: bool
    image: str = ""
    """JPEG in base64, for an image."""
    text: str = ""


@dataclass(frozen=True)
class Example:
    """One query with the nearest items of the other kind."""

    query_text: str
    query_image: str
    rank: int
    """Of the right answer, 1 for first."""
    results: list[Result]


@dataclass(frozen=True)
class Gallery:
    """Examples of both directions on one split."""

    split: str
    num_images: int
    text_to_image: list[Example]
    image_to_text: list[Example]


def make_gallery(split: str, source: Source, embeddings: Embeddings, *, seed: int = 0) -> Gallery:
    """Draw queries and look up their nearest items.

    Args:
        split: named in the report.
        source: gives the pictures.
        embeddings: of that source.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    thumbnails: dict[int, str] = {}

    def thumbnail(row: int) -> str:
        if row not in thumbnails:
            thumbnails[row] = _thumbnail(source, int(embeddings.indices[row]))
        return thumbnails[row]

    first_text = np.searchsorted(embeddings.text_images, np.arange(len(embeddings.images)))

    def caption(text: int) -> str:
        owner = int(embeddings.text_images[text])
        return source[int(embeddings.indices[owner])].captions[text - int(first_text[owner])]

    text_examples = []
    for text in random.permutation(len(embeddings.texts))[:NUM_TEXT_QUERIES]:
        scores = embeddings.images @ embeddings.texts[text]
        order, answer = np.argsort(-scores, kind="stable"), embeddings.text_images[text]
        results = [Result(float(scores[row]), bool(row == answer), thumbnail(int(row))) for row in order[:NUM_RESULTS]]
        text_examples.append(Example(caption(int(text)), "", int((scores >= scores[answer]).sum()), results))
    image_examples = []
    for image in random.permutation(len(embeddings.images))[:NUM_IMAGE_QUERIES]:
        scores = embeddings.texts @ embeddings.images[image]
        order, right = np.argsort(-scores, kind="stable"), embeddings.text_images == image
        rank = 1 + int((scores[~right] >= scores[right].max()).sum())
        results = [Result(float(scores[j]), bool(right[j]), text=caption(int(j))) for j in order[:NUM_RESULTS]]
        image_examples.append(Example("", thumbnail(int(image)), rank, results))
    return Gallery(split, len(embeddings.images), text_examples, image_examples)


def _thumbnail(source: Source, index: int) -> str:
    sample = source[index]
    image = decode_image(sample.image, place=sample.place)
    image.thumbnail((THUMBNAIL * 2, THUMBNAIL * 2))  # twice the shown size, for dense screens
    output = io.BytesIO()
    image.save(output, "JPEG", quality=82)
    return base64.b64encode(output.getvalue()).decode()


def write_gallery(gallery: Gallery, folder: Path) -> None:
    """Write `folder/gallery.json`."""
    write_atomically(folder / "gallery.json", json.dumps(asdict(gallery), ensure_ascii=False))


def read_gallery(folder: Path) -> Gallery | None:
    """A run's gallery, or None where it has none.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / "gallery.json"
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Gallery(
            values["split"],
            values["num_images"],
            _examples(values["text_to_image"]),
            _examples(values["image_to_text"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: the gallery is damaged ({error!r}); delete it.") from error


def _examples(rows: Sequence[dict[str, Any]]) -> list[Example]:
    return [Example(**{**row, "results": [Result(**result) for result in row["results"]]}) for row in rows]
