"""Where the pictures and the texts of an identity stand among all that is ranked, as person search is measured.

Any gallery picture of the person is right, and any text about the person is right for a picture. Right answers are no
rivals of each other, and ties count against the model, as in `evaluate/ranks.py`. References: CMC and mAP, Zheng et
al., https://www.cv-foundation.org/openaccess/content_iccv_2015/papers/Zheng_Scalable_Person_Re-Identification_ICCV_2015_paper.pdf;
mINP, Ye et al., https://arxiv.org/abs/2001.04193.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from pocketclip.errors import UserError
from pocketclip.evaluate.ranked import Counts, IdentityRanks, Shares
from pocketclip.evaluate.ranks import count_rivals, least, precision_shares


def identity_ranks(
    image_embeddings: Float[ndarray, "N D"],
    text_embeddings: Float[ndarray, "Q D"],
    image_people: Int[ndarray, " N"],
    text_people: Int[ndarray, " Q"],
) -> IdentityRanks:
    """Rank every query in both directions, block by block; a picture of whom nothing is said is in the gallery alone.

    The embeddings are of length 1 a row, and of every text's person there is a picture.

    Raises:
        UserError: the embeddings are not finite.
    """
    if not (np.isfinite(image_embeddings).all() and np.isfinite(text_embeddings).all()):
        raise UserError("Person retrieval: the model gave embeddings that are not finite.")
    pairs = _right_pairs(text_people, image_people)
    images, texts = (torch.from_numpy(part).float() for part in (image_embeddings, text_embeddings))
    once = torch.ones(len(texts), dtype=torch.int64)
    text_counts, image_counts = count_rivals(images, texts, torch.from_numpy(pairs), once)
    asked, image_queries = np.unique(pairs[1], return_inverse=True)
    sides = (("text_to_image", pairs[0], text_counts), ("image_to_text", image_queries, image_counts))
    sizes = {"text_to_image": len(texts), "image_to_text": len(asked)}
    ranks = {way: least(queries, counts, sizes[way]) for way, queries, counts in sides}
    shares = {
        f"{way}_{name}": values
        for way, queries, counts in sides
        for name, values in _shares(queries, counts, sizes[way]).items()
    }
    return IdentityRanks(ranks["text_to_image"], ranks["image_to_text"], text_people, image_people[asked], shares)


def _right_pairs(text_people: Counts, image_people: Counts) -> Counts:
    """(2, P), each text with each picture of its person."""
    order = np.argsort(image_people, kind="stable")
    ordered = image_people[order]
    first, end = (np.searchsorted(ordered, text_people, side=side) for side in ("left", "right"))
    sizes = end - first
    within = np.arange(sizes.sum()) - np.repeat(sizes.cumsum() - sizes, sizes)
    return np.stack([np.repeat(np.arange(len(text_people)), sizes), order[np.repeat(first, sizes) + within]])


def _shares(queries: Counts, rivals: Counts, num_queries: int) -> dict[str, Shares]:
    """Of R right answers, of which r rivals stand before the last: average precision, and R / (r + R)."""
    average = precision_shares(queries, rivals, np.ones_like(queries), num_queries)["average_precision"]
    num_right, most = np.bincount(queries, minlength=num_queries), np.zeros(num_queries, np.int64)
    np.maximum.at(most, queries, rivals)
    return {"average_precision": average, "inverse_negative_penalty": num_right / (num_right + most)}
