"""Which images and texts of a batch match, as a mask and as a list."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def positive_pairs(
    image_ids: Int[Tensor, " B"], text_image_ids: Int[Tensor, " M"], caption_ids: Int[Tensor, " M"]
) -> Bool[Tensor, "B M"]:
    """Which images and texts of a batch match.

    Image i matches text j where text j was written for that image, or says the same as a text that was. Ids are equal
    where the image is the same, of which `text_image_ids` is the one that each text was written for, or the caption is.
    """
    own = image_ids[:, None] == text_image_ids[None, :]  # (B, M)
    same_text = caption_ids[:, None] == caption_ids[None, :]  # (M, M)
    return (own.float() @ same_text.float()) > 0


def matching_pairs(
    image_ids: Int[Tensor, " B"], text_image_ids: Int[Tensor, " M"], caption_ids: Int[Tensor, " M"]
) -> Int[Tensor, "P 2"]:
    """`positive_pairs` as a list, in memory that grows with the matches."""
    image_to_text = _equal_pairs(image_ids, text_image_ids)
    text_to_text = _equal_pairs(caption_ids, caption_ids)
    # Join the two lists on the text in the middle
    first, second = _equal_pairs(image_to_text[:, 1].contiguous(), text_to_text[:, 0]).unbind(1)
    codes = torch.unique(image_to_text[first, 0] * len(caption_ids) + text_to_text[second, 1])
    return torch.stack([codes // len(caption_ids), codes % len(caption_ids)], dim=1)


def _equal_pairs(left: Int[Tensor, " A"], right: Int[Tensor, " C"]) -> Int[Tensor, "P 2"]:
    """Places (a, c) with left[a] = right[c]."""
    ordered, order = right.sort(stable=True)
    starts = torch.searchsorted(ordered, left)
    counts = torch.searchsorted(ordered, left, right=True) - starts
    rows = torch.arange(len(left), device=left.device).repeat_interleave(counts)
    within = torch.arange(len(rows), device=left.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return torch.stack([rows, order[starts.repeat_interleave(counts) + within]], dim=1)
