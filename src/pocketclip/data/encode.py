"""A whole source through frozen towers, block by block: what feature caches, evaluation and indexes all do.

The towers come as functions, so nothing here knows a model.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketclip.data.augment import View, fixed_views
from pocketclip.data.source import Source, caption_id
from pocketclip.errors import BrokenItemError
from pocketclip.hardware import available_cores
from pocketclip.preprocess import PreprocessConfig, decode_image
from pocketclip.tokenizer import Tokenizer

EncodeImages = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""(B, H, W, 3) bytes to (B, F)."""
EncodeTokens = Callable[[npt.NDArray[np.int64], npt.NDArray[np.bool_]], npt.NDArray[np.float32]]
"""(B, L) ids and mask to (B, F)."""


@dataclass(frozen=True)
class ImageBlock:
    """The readable images among some consecutive samples."""

    features: npt.NDArray[np.float32]
    """(n, V, F)."""
    indices: npt.NDArray[np.int64]
    """(n,), their numbers in the source."""
    broken: list[str]
    num_done: int
    """Samples of the source behind us."""


@dataclass(frozen=True)
class TextBlock:
    """The captions of some consecutive samples."""

    features: npt.NDArray[np.float32]
    """(q, F)."""
    counts: npt.NDArray[np.int64]
    """(n,), captions of each sample; 0 for a broken one."""
    caption_ids: npt.NDArray[np.int64]
    """(q,), equal for equal texts."""
    num_done: int


def image_blocks(
    source: Source,
    encode: EncodeImages,
    preprocess: PreprocessConfig,
    *,
    views: Sequence[View] = ("centre",),
    crop_scale: tuple[float, float] = (0.5, 1.0),
    seed: int = 0,
    batch_size: int = 32,
    start: int = 0,
    block_size: int = 512,
) -> Iterator[ImageBlock]:
    """Features of every view of every readable image, from sample `start` on.

    Pictures of a batch are decoded by threads before the tower runs, not beside it: on a CPU both want all cores,
    and decoding ahead made the whole 20 % slower.
    """

    def load(index: int) -> list[npt.NDArray[np.uint8]] | str:
        try:
            sample = source[index]
            image = decode_image(sample.image, place=sample.place)
        except BrokenItemError as error:
            return str(error)
        return fixed_views(image, views, preprocess, crop_scale, [seed, index])

    images_per_batch = max(1, batch_size // len(views))
    with ThreadPoolExecutor(available_cores()) as pool:
        for first in range(start, len(source), block_size):
            block = range(first, min(first + block_size, len(source)))
            features, indices, broken = [], [], []
            for place in range(0, len(block), images_per_batch):
                batch = block[place : place + images_per_batch]
                loaded = list(pool.map(load, batch))
                good = [(index, item) for index, item in zip(batch, loaded, strict=True) if not isinstance(item, str)]
                broken += [item for item in loaded if isinstance(item, str)]
                if good:
                    pixels = np.stack([view for _, item in good for view in item])
                    features.append(encode(pixels).reshape(len(good), len(views), -1))
                    indices += [index for index, _ in good]
            joined = np.concatenate(features) if features else np.zeros((0, len(views), 0), np.float32)
            yield ImageBlock(joined, np.array(indices, dtype=np.int64), broken, block.stop)


def text_blocks(
    source: Source,
    encode: EncodeTokens,
    tokenizer: Tokenizer,
    *,
    batch_size: int = 128,
    start: int = 0,
    block_size: int = 2048,
) -> Iterator[TextBlock]:
    """Features of every caption, from sample `start` on; a sample that cannot be read has none here."""
    for first in range(start, len(source), block_size):
        stop = min(first + block_size, len(source))
        captions = [_captions(source, index) for index in range(first, stop)]
        texts = [caption for group in captions for caption in group]
        yield TextBlock(
            encode_texts(texts, encode, tokenizer, batch_size=batch_size),
            np.array([len(group) for group in captions], dtype=np.int64),
            np.array([caption_id(text) for text in texts], dtype=np.int64),
            stop,
        )


def _captions(source: Source, index: int) -> tuple[str, ...]:
    try:
        return source.captions(index)
    except BrokenItemError:
        return ()


def encode_texts(
    texts: Sequence[str], encode: EncodeTokens, tokenizer: Tokenizer, *, batch_size: int = 128
) -> npt.NDArray[np.float32]:
    """Features of texts in their order; equal texts are encoded once, and texts of like length together.

    Sorting saves the towers most of the padding: 1.3 to 2 times the speed on captions.
    """
    unique = list(dict.fromkeys(texts))
    if not unique:
        return np.zeros((0, 0), np.float32)
    place = {text: number for number, text in enumerate(unique)}
    tokens, mask = tokenizer.encode(unique)
    lengths = mask.sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    rows: npt.NDArray[np.float32] | None = None
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        longest = lengths[chosen[-1]]
        features = encode(tokens[chosen, :longest], mask[chosen, :longest])
        if rows is None:
            rows = np.empty((len(unique), features.shape[1]), np.float32)
        rows[chosen] = features
    assert rows is not None
    return rows[[place[text] for text in texts]]


@dataclass(frozen=True)
class Embeddings:
    """A whole source in the shared space."""

    images: npt.NDArray[np.float32]
    """(N, D), unit length per row."""
    texts: npt.NDArray[np.float32]
    """(Q, D), unit length per row."""
    text_images: npt.NDArray[np.int64]
    """(Q,), the row in `images` each text was written for."""
    indices: npt.NDArray[np.int64]
    """(N,), number in the source."""
    broken: list[str]


def embed(
    source: Source,
    encode_images: EncodeImages,
    encode_tokens: EncodeTokens,
    tokenizer: Tokenizer,
    preprocess: PreprocessConfig,
    *,
    on_progress: Callable[[int, list[str]], None] | None = None,
) -> Embeddings:
    """Embed every readable image and its captions.

    Args:
        source: what to embed.
        encode_images: bytes to unit vectors.
        encode_tokens: ids and mask to unit vectors.
        tokenizer: of the model.
        preprocess: of the model.
        on_progress: called with the images done and all broken items so far; may raise to stop.
    """
    images, indices, broken = [], [], []
    for block in image_blocks(source, encode_images, preprocess):
        if len(block.indices):
            images.append(block.features[:, 0])
            indices.append(block.indices)
        broken += block.broken
        if on_progress is not None:
            on_progress(block.num_done, broken)
    found = np.concatenate(indices) if indices else np.zeros(0, np.int64)
    texts, counts = [], []
    for text_block in text_blocks(source, encode_tokens, tokenizer):
        if len(text_block.features):
            texts.append(text_block.features)
        counts.append(text_block.counts)
    row_of = np.full(len(source), -1, np.int64)
    row_of[found] = np.arange(len(found))
    owners = np.repeat(row_of, np.concatenate(counts)) if counts else np.zeros(0, np.int64)
    all_texts = np.concatenate(texts) if texts else np.zeros((0, 0), np.float32)
    kept = owners >= 0  # captions of images that could not be decoded
    all_images = np.concatenate(images) if images else np.zeros((0, 0), np.float32)
    return Embeddings(all_images, all_texts[kept], owners[kept], found, broken)
