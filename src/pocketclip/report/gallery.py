"""Example queries with their top results as small pictures, drawn at random when a run ends.

Queries are drawn, not chosen: a gallery that shows only successes says nothing about a model.
"""

import base64
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.data.identities import NO_IDENTITY, Identities, find_identities
from pocketclip.data.source import Source, broken_item
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.evaluate.ranked import TIE
from pocketclip.features.encode import Embeddings
from pocketclip.files import write_atomically
from pocketclip.preprocess import decode_image

NUM_TEXT_QUERIES, NUM_IMAGE_QUERIES = 10, 6
NUM_RESULTS = 5
MAX_CAPTION = 300
"""Letters of a caption that are shown."""
MAX_PICTURES = 3 << 20
"""Bytes that all pictures of a gallery take in a page, in base64."""
_THUMBNAILS = ((224, 82), (160, 75), (112, 65), (72, 50))
"""Longer side in pixels and JPEG quality, the best first; shown at 112 points, two pixels each on dense screens."""


@dataclass(frozen=True)
class Result:
    """One retrieved item."""

    score: float
    is_match: bool
    image: str = ""
    """JPEG in base64; empty for a sentence, and for an image that could not be read."""
    text: str = ""
    """The sentence, or the first caption of an image."""
    same_caption: bool = False
    """Whether it is another picture's, and the caption the same: right in all but the protocol."""
    identity: str = ""
    """Who is shown or described, where the data say so; right is then whatever has the query's."""


@dataclass(frozen=True)
class Example:
    """One query with the nearest items of the other kind."""

    query_text: str
    """The sentence, or the first caption of an image."""
    query_image: str
    rank: int | None
    """Of the right answer, 1 for first, as the metric counts it; None where no answer is known to be right."""
    results: list[Result]
    answer: Result | None = None
    """The right answer where it is not among the results."""
    identity: str = ""
    """Who the query is, where the data say so."""

    @property
    def shown(self) -> list[Result]:
        """Everything with a similarity on the page."""
        return [*self.results, *([] if self.answer is None else [self.answer])]


@dataclass(frozen=True)
class Gallery:
    """Examples of both directions on one split."""

    split: str
    num_images: int
    text_to_image: list[Example]
    image_to_text: list[Example]


def make_gallery(
    split: str, source: Source, embeddings: Embeddings, *, seed: int = 0, num_image_queries: int = NUM_IMAGE_QUERIES
) -> Gallery:
    """Draw `NUM_TEXT_QUERIES` sentences and some images of a source and look up what is nearest to each.

    Images without a caption are left out, and each picture stands in it once, as in the metric. Where the data say who
    is who, all of them stand in it, and whatever shows or describes the query's identity is right. `split` is named in
    the report.
    """
    from pocketclip.evaluate.gallery import gallery

    has_people = bool(find_identities(source).names)
    ranked = embeddings if has_people else gallery(embeddings, _one_gallery(embeddings))[0]
    num_pictures = NUM_TEXT_QUERIES * (NUM_RESULTS + 1) + num_image_queries
    finder = _Finder(source, embeddings, ranked, max_bytes=MAX_PICTURES // num_pictures)
    random = np.random.default_rng(seed)
    texts = random.permutation(len(ranked.texts))[:NUM_TEXT_QUERIES]
    asked = np.unique(ranked.text_images) if has_people else np.arange(len(ranked.images))
    images = asked[random.permutation(len(asked))[:num_image_queries]]
    return Gallery(
        split,
        len(ranked.images),
        [finder.images_of(int(text)) for text in texts],
        [finder.texts_of(int(image)) for image in images],
    )


def find_images(
    source: Source, embeddings: Embeddings, sentences: Sequence[str], vectors: npt.NDArray[np.float32]
) -> list[Example]:
    """The nearest images of sentences that are not the source's own, so that none is known to be right.

    `vectors` are the (len(sentences), D) embeddings of the sentences, of unit length per row.
    """
    from pocketclip.evaluate.gallery import distinct_pictures

    ranked = distinct_pictures(embeddings, _one_gallery(embeddings))
    finder = _Finder(source, embeddings, ranked, max_bytes=MAX_PICTURES // max(1, len(sentences) * NUM_RESULTS))
    return [finder.images_near(text, vector) for text, vector in zip(sentences, vectors, strict=True)]


def _one_gallery(embeddings: Embeddings) -> npt.NDArray[np.int64]:
    return np.zeros(len(embeddings.images), np.int64)


class _Finder:
    """Nearest items of those `ranked`, with what a page shows of them."""

    def __init__(self, source: Source, embeddings: Embeddings, ranked: Embeddings, *, max_bytes: int) -> None:
        self.source, self.embeddings, self.max_bytes = source, ranked, max_bytes
        owners = embeddings.text_images  # before a picture got the captions of its copies, which are other items
        self.text_items = embeddings.indices[owners]
        self.text_places = np.arange(len(owners)) - np.searchsorted(owners, owners)
        self.pictures: dict[int, str] = {}
        self.people: Identities = find_identities(source)
        self.shown = self.people.values[ranked.indices]  # by the rows of images

    def _name(self, row: int) -> str:
        """Who is on an image."""
        return "" if self.shown[row] == NO_IDENTITY else self.people.names[self.shown[row]]

    def _is_right(self, owners: npt.NDArray[np.int64], image: int) -> npt.NDArray[np.bool_]:
        """Whether items that belong to images belong to this one, or show the same identity."""
        shown = self.shown[image]
        right: npt.NDArray[np.bool_] = owners == image if shown == NO_IDENTITY else self.shown[owners] == shown
        return right

    def images_of(self, text: int) -> Example:
        """The images nearest to a caption of the source."""
        scores = self.embeddings.images @ self.embeddings.texts[text]
        image = int(self.embeddings.text_images[text])
        right = self._is_right(np.arange(len(scores)), image)
        same = self._images_with(text)

        def show(row: int, score: float, is_match: bool) -> Result:
            return replace(self._image(row, score, is_match), same_caption=not is_match and row in same)

        return Example(self._caption(text), "", *_ranked(scores, right, show), identity=self._name(image))

    def texts_of(self, image: int) -> Example:
        """The captions nearest to an image of the source."""
        scores = self.embeddings.texts @ self.embeddings.images[image]
        owners = self.embeddings.text_images
        shown, right = self._image(image, 0.0, True), self._is_right(owners, image)

        def show(text: int, score: float, is_match: bool) -> Result:
            same = not is_match and image in self._images_with(text)
            name = self._name(int(owners[text]))
            return Result(score, is_match, text=self._caption(text), same_caption=same, identity=name)

        return Example(shown.text, shown.image, *_ranked(scores, right, show), identity=shown.identity)

    def images_near(self, text: str, vector: npt.NDArray[np.float32]) -> Example:
        """The images nearest to any sentence."""
        scores = self.embeddings.images @ vector
        _, results, _ = _ranked(scores, np.zeros(len(scores), bool), self._image)
        return Example(_cut(text), "", None, results)

    def _images_with(self, text: int) -> frozenset[int]:
        """The images that have this caption, word for word."""
        ids = self.embeddings.caption_ids
        same = [text] if ids is None else ids == ids[text]
        return frozenset(self.embeddings.text_images[same].tolist())

    def _image(self, row: int, score: float, is_match: bool) -> Result:
        index = int(self.embeddings.indices[row])
        if row not in self.pictures:
            self.pictures[row] = _thumbnail(self.source, index, self.max_bytes)
        captions = _captions(self.source, index)
        text = _cut(captions[0]) if captions else ""
        return Result(score, is_match, self.pictures[row], text, identity=self._name(row))

    def _caption(self, text: int) -> str:
        captions, place = _captions(self.source, int(self.text_items[text])), int(self.text_places[text])
        return _cut(captions[place]) if place < len(captions) else ""


def _ranked(
    scores: npt.NDArray[np.float32], right: npt.NDArray[np.bool_], show: Callable[[int, float, bool], Result]
) -> tuple[int, list[Result], Result | None]:
    """The rank of the best right item, the first items, and the right one where it is not among them.

    Ties count against the model, so that an item's place on the page is the rank that the metric gives it.
    """
    order = np.lexsort((right, -np.where(right, scores - np.float32(TIE), scores)))
    place = int(np.argmax(right[order]))
    results = [show(int(item), float(scores[item]), bool(right[item])) for item in order[:NUM_RESULTS]]
    best = int(order[place])
    return place + 1, results, None if place < NUM_RESULTS else show(best, float(scores[best]), True)


def _captions(source: Source, index: int) -> tuple[str, ...]:
    try:
        with broken_item(lambda: source.place(index)):
            return source.captions(index)
    except BrokenItemError:  # readable when it was embedded
        return ()


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CAPTION else f"{text[: MAX_CAPTION - 1]}…"


def _thumbnail(source: Source, index: int, max_bytes: int) -> str:
    """The best small picture within the limit; empty where it cannot be read any more."""
    try:
        with broken_item(lambda: source.place(index)):
            sample = source[index]
            image = decode_image(sample.image, place=sample.place)
    except BrokenItemError:
        return ""
    for side, quality in _THUMBNAILS:
        image.thumbnail((side, side))
        output = io.BytesIO()
        image.save(output, "JPEG", quality=quality)
        text = base64.b64encode(output.getvalue()).decode()
        if len(text) <= max_bytes:
            break
    return text


def write_gallery(gallery: Gallery, folder: Path) -> None:
    """Write `folder/gallery.json`."""
    write_atomically(folder / "gallery.json", json.dumps(asdict(gallery), ensure_ascii=False))


def read_gallery(folder: Path) -> Gallery | None:
    """A run's gallery, or None where it has none; a UserError where its file is damaged."""
    path = folder / "gallery.json"
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        examples = ([_example(row) for row in values[direction]] for direction in ("text_to_image", "image_to_text"))
        return Gallery(values["split"], values["num_images"], *examples)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: the gallery is damaged ({error!r}); delete it.") from error


def _example(row: dict[str, Any]) -> Example:
    answer = row.get("answer")
    results = [Result(**result) for result in row["results"]]
    return Example(**{**row, "results": results, "answer": None if answer is None else Result(**answer)})
