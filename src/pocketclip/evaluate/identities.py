"""Who the items of a measurement are, by their content: two files of results are matched by it, wherever data lay."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pocketclip.data.identity import picture_ids
from pocketclip.data.keys import content_id
from pocketclip.data.source import Source
from pocketclip.features.encode import Embeddings

Ids = npt.NDArray[np.int64]


def image_identities(embeddings: Embeddings, source: Source) -> Ids:
    """(N,) of each image: equal where the picture and all of its captions are."""
    own, captions = pictures_of(embeddings, source), embeddings.caption_ids
    if captions is None or not len(captions):
        return own
    order = np.lexsort((captions, embeddings.text_images))
    ends = np.cumsum(np.bincount(embeddings.text_images, minlength=len(own)))
    groups = np.split(captions[order], ends[:-1])
    return joined_ids([[picture, *group.tolist()] for picture, group in zip(own.tolist(), groups, strict=True)])


def pictures_of(embeddings: Embeddings, source: Source) -> Ids:
    """(N,) `picture_id` of each image."""
    return picture_ids(source)[embeddings.indices] if embeddings.pictures is None else embeddings.pictures


def joined_ids(parts: Sequence[Sequence[int]]) -> Ids:
    """(N,) a number for each of N lists of ids, equal for equal lists."""
    return np.array([content_id(np.asarray(own, np.int64).tobytes()) for own in parts], np.int64)
