"""The soft-target loss of the small-encoder study, exactly as published."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pocketclip import distributed
from pocketclip.losses.contrastive import ContrastiveInputs


def soft_target_loss(
    image_features: Float[Tensor, "B D"], text_features: Float[Tensor, "B D"], logit_scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Cross-entropy against targets made from the batch's own similarities.

    Kept for comparison with published numbers; do not train with it otherwise. It is defective in three ways, all
    reproduced here: the features are not normalised; the targets come from the model and gradients flow through them,
    so that nothing drives a collapsed batch apart (near identical vectors the loss is log(B) without a slope, unlike
    `clip_loss`); and the transposed targets do not sum to one over a row. With LayerNorm outputs (length about
    sqrt(D)) the targets start close to one-hot.

    Reference: https://github.com/moein-shariatnia/OpenAI-CLIP, commit 73fea1f, CLIP.py. Its temperature t divides the
    logits and multiplies the targets' similarities; here t = 1 / logit_scale, and the study's is 1. The loss is at
    most log(B) for one-hot targets and features without signal.
    """
    logits = text_features @ image_features.T * logit_scale  # (B, B): texts x images
    similarity = (image_features @ image_features.T + text_features @ text_features.T) / 2
    targets = (similarity / logit_scale).softmax(dim=1)
    texts = -(targets * F.log_softmax(logits, dim=1)).sum(1)
    images = -(targets.T * F.log_softmax(logits.T, dim=1)).sum(1)
    return ((texts + images) / 2).mean()


def large_soft_target_loss(inputs: ContrastiveInputs) -> Float[Tensor, ""]:
    """`soft_target_loss` of the whole batch, as a mean over ranks; see `losses/large.py`."""
    image, text, scale = inputs.image, inputs.text, inputs.logit_scale
    shares, _ = inputs.sizes
    images, texts = distributed.gather(image, shares), distributed.gather(text, shares)
    logits = text @ images.T * scale  # (b, B): own texts x all images
    similarity = (image @ images.T + text @ texts.T) / 2
    targets = (similarity / scale).softmax(dim=1)
    row_lse = logits.logsumexp(1, keepdim=True)
    column_lse = distributed.log_sum_exp_over_ranks(logits.logsumexp(0), shares)
    both = targets * (row_lse - logits) + targets * (column_lse - logits)
    return both.sum() / 2 * (len(shares) / sum(shares))
