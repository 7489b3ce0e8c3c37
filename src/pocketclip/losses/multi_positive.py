"""Softmax loss in which captions of one image, and equal captions, are not each other's negatives."""

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def positive_pairs(
    image_ids: Int[Tensor, " B"], text_image_ids: Int[Tensor, " M"], caption_ids: Int[Tensor, " M"]
) -> Bool[Tensor, "B M"]:
    """Which images and texts of a batch match.

    Image i matches text j where text j was written for that image, or says the same as a text that was.

    Args:
        image_ids: (B,), equal where the image is the same.
        text_image_ids: (M,), the image each text was written for.
        caption_ids: (M,), equal where the text is the same.

    Returns:
        (B, M), True for a match.
    """
    own = image_ids[:, None] == text_image_ids[None, :]  # (B, M)
    same_text = caption_ids[:, None] == caption_ids[None, :]  # (M, M)
    return (own.float() @ same_text.float()) > 0


def multi_positive_loss(
    image_features: Float[Tensor, "B D"],
    text_features: Float[Tensor, "M D"],
    logit_scale: Float[Tensor, ""],
    positives: Bool[Tensor, "B M"],
) -> Float[Tensor, ""]:
    """Symmetric cross-entropy with the target spread evenly over all matches of a row.

    With one text an image and no equal ones it is `clip_loss`. Reference: UniCL, https://arxiv.org/abs/2204.03610,
    equations 2 to 4.

    Args:
        image_features: (B, D), unit length per row.
        text_features: (M, D), unit length per row.
        logit_scale: (), inverse temperature, already exponentiated.
        positives: (B, M), True for matches; every row and column has one.

    Returns:
        (), mean of both directions.
    """
    logits = logit_scale * image_features @ text_features.T
    targets = positives.to(logits.dtype)
    image_to_text = -(F.log_softmax(logits, dim=1) * targets / targets.sum(1, keepdim=True)).sum(1).mean()
    text_to_image = -(F.log_softmax(logits, dim=0) * targets / targets.sum(0, keepdim=True)).sum(0).mean()
    return (image_to_text + text_to_image) / 2
