"""What ranking gives: where the right answers of every query stand, and what is a tie."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

TIE = 1e-6
"""Cosines closer than this are a tie: float32 products of equal vectors differ by about 1e-7 with their place."""
DIRECTIONS = ("text_to_image", "image_to_text")
PRECISIONS = {"average_precision": "mean_average_precision", "r_precision": "r_precision"}
"""What is told of every query beside its rank, and what the mean over queries is called."""
PERSON_PRECISIONS = {
    "average_precision": "mean_average_precision",
    "inverse_negative_penalty": "mean_inverse_negative_penalty",
}
"""The same in person search."""
FOLD = 1000
"""Images of a fold, in the 1K protocol of COCO."""
Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]
Taken = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""What corrects scores: (N,) of images and (Q,) of texts, whatever asks for them."""


@dataclass(frozen=True)
class Ranks:
    """Where each query's right answers stand."""

    text_to_image: Counts
    """(Q,), rank of a caption's first right image, 0 for first: how many that are wrong stand before it."""
    image_to_text: Counts
    """(N,), rank of an image's first right caption."""
    text_images: Counts
    """(Q,), the image each caption was written for."""
    precisions: Mapping[str, Shares] = field(default_factory=dict)
    """By direction and name of `PRECISIONS`, such as `text_to_image_average_precision`: of each query."""


@dataclass(frozen=True)
class IdentityRanks:
    """Where each query's right answers stand in person search."""

    text_to_image: Counts
    """(Q,), how many pictures of others stand before the first one of the person."""
    image_to_text: Counts
    """(N',), likewise, of pictures of whom there is a text."""
    text_people: Counts
    """(Q,), whom each text is about."""
    image_people: Counts
    """(N',), who is on each of those pictures."""
    shares: Mapping[str, Shares]
    """By direction and name of `PERSON_PRECISIONS`, such as `text_to_image_average_precision`: of each query."""
