"""What stands in a gallery: pictures with captions, each once, and what is worth knowing of them before any score."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from pocketclip.data.identity import first_equal
from pocketclip.features.encode import Embeddings
from pocketclip.records import Interval

SMALL = 100
"""Pictures below which the score of a retrieval is mostly chance: its interval is wider than 15 points."""


def gallery(
    embeddings: Embeddings, galleries: Int[ndarray, " N"], *, same_captions_are_right: bool = False
) -> tuple[Embeddings, list[str]]:
    """What is ranked of N images in `galleries`: each picture once with a caption; and notes on what that changed."""
    distinct = distinct_pictures(embeddings, galleries)
    kept, num_without = with_captions(distinct)
    notes = [f"{num_without} images without a caption left out"] if num_without else []
    if num_copies := len(embeddings.images) - len(distinct.images):
        notes.append(
            f"{len(embeddings.images):,} images are {len(distinct.images):,} different pictures: each stands in the "
            f"gallery once, and finding any of its copies ({num_copies:,} in all) counts as right"
        )
    return kept, [*notes, *_repeated_captions(kept, same_captions_are_right)]


def distinct_pictures(embeddings: Embeddings, galleries: Int[ndarray, " N"]) -> Embeddings:
    """Each picture of a gallery once, with the captions of all of its copies."""
    if embeddings.pictures is None:
        return embeddings
    _, number = np.unique(np.stack([embeddings.pictures, galleries]), axis=1, return_inverse=True)
    first = first_equal(number.reshape(-1))
    kept = np.unique(first)
    if len(kept) == len(first):
        return embeddings
    owners = np.searchsorted(kept, first)[embeddings.text_images]
    return _only(replace(embeddings, text_images=owners), kept)


def with_captions(embeddings: Embeddings) -> tuple[Embeddings, int]:
    """Only the images that have a caption, and how many had none."""
    captioned, owners = np.unique(embeddings.text_images, return_inverse=True)
    if len(captioned) == len(embeddings.images):
        return embeddings, 0
    kept = _only(replace(embeddings, text_images=owners), captioned)
    return kept, len(embeddings.images) - len(captioned)


def _only(embeddings: Embeddings, rows: Int[ndarray, " n"]) -> Embeddings:
    """Some of the images; texts stay."""
    pictures = None if embeddings.pictures is None else embeddings.pictures[rows]
    return replace(embeddings, images=embeddings.images[rows], indices=embeddings.indices[rows], pictures=pictures)


def _repeated_captions(embeddings: Embeddings, same_captions_are_right: bool) -> list[str]:
    """How many captions several pictures have, and what that leaves to reach."""
    if embeddings.caption_ids is None:
        return []
    num_shared, best = shared_captions(embeddings.caption_ids, embeddings.text_images)
    if not num_shared:
        return []
    shared = f"{num_shared:,} of {len(embeddings.texts):,} captions are the caption of several pictures, too"
    if same_captions_are_right:
        return [f"{shared}: each of these pictures counts as right (same_captions: right)"]
    return [f"{shared}: text to image R@1 can reach {100 * best:.1f} % at most"]


def shared_captions(caption_ids: Int[ndarray, " Q"], pictures: Int[ndarray, " Q"]) -> tuple[int, float]:
    """How many captions several pictures have, and the R@1 from text to image that this leaves to reach.

    Equal ids are equal captions, and equal `pictures` the one that they are of.
    """
    pairs = np.unique(np.stack([caption_ids, pictures]), axis=1)
    unique, num_pictures = np.unique(pairs[0], return_counts=True)
    of_each = num_pictures[np.searchsorted(unique, caption_ids)]
    return int((of_each > 1).sum()), float((1 / of_each).mean())


def small_gallery(num_pictures: int, metrics: Mapping[str, Interval | float]) -> list[str]:
    """A warning where the interval says more than the score."""
    recall = metrics.get("text_to_image_recall@1")
    if num_pictures >= SMALL or not isinstance(recall, Interval):
        return []
    return [
        f"a gallery of {num_pictures} pictures is small: text to image R@1 lies between {100 * recall.low:.1f} and "
        f"{100 * recall.high:.1f} %, and the score itself says little more"
    ]
