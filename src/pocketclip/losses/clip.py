"""CLIP's softmax loss."""

from jaxtyping import Float
from torch import Tensor, arange
from torch.nn import functional as F

from pocketclip import distributed
from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.losses.large import own_columns
from pocketclip.losses.tiles import log_sum_exp


def clip_loss(
    image_features: Float[Tensor, "B D"],
    text_features: Float[Tensor, "B D"],
    logit_scale: Float[Tensor, ""],
    *,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Symmetric cross-entropy over every image-text pair in the batch.

    Row i of both inputs is one matching pair; all other rows are its negatives. `label_smoothing` is the probability
    mass taken from the match and spread over the row. Reference: CLIP, https://arxiv.org/abs/2103.00020, figure 3. The
    loss equals log(B) when the features carry no signal.
    """
    logits = logit_scale * image_features @ text_features.T  # (B, B): images x texts
    labels = arange(len(logits), device=logits.device)
    image_to_text = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    text_to_image = F.cross_entropy(logits.T, labels, label_smoothing=label_smoothing)
    return (image_to_text + text_to_image) / 2


def large_clip_loss(inputs: ContrastiveInputs, *, label_smoothing: float = 0.0) -> Float[Tensor, ""]:
    """`clip_loss` of the whole batch, as a mean over ranks; see `losses/large.py`."""
    image, text = inputs.unit
    shares, _ = inputs.sizes
    texts, total = distributed.gather(text, shares), sum(shares)
    image_lse, text_lse = log_sum_exp(image, texts, inputs.logit_scale)
    own_text_lse = own_columns(text_lse, shares)
    matching = (image * text).sum()
    everything = image.sum(0) @ texts.sum(0) / total
    target = inputs.logit_scale * ((1 - label_smoothing) * matching + label_smoothing * everything)
    return ((image_lse.sum() + own_text_lse.sum()) / 2 - target) * (len(shares) / total)
