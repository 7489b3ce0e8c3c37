"""CLIP's softmax loss."""

from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, arange
from torch.nn import functional as F

from pocketclip import distributed
from pocketclip.losses.contrastive import ContrastiveInputs, ContrastiveLossConfig
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


class ClipLossConfig(ContrastiveLossConfig):
    """CLIP's softmax: one text an image, all others are negatives."""

    kind: Literal["clip"] = "clip"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def plain(self, inputs: ContrastiveInputs) -> Float[Tensor, ""]:
        return clip_loss(*inputs.unit, inputs.logit_scale, label_smoothing=self.label_smoothing)

    def large(self, inputs: ContrastiveInputs) -> Float[Tensor, ""]:
        image, text = inputs.unit
        shares, _ = inputs.sizes
        texts, total = distributed.gather(text, shares), sum(shares)
        image_lse, text_lse = log_sum_exp(image, texts, inputs.logit_scale)
        own_text_lse = own_columns(text_lse, shares)
        matching = (image * text).sum()
        everything = image.sum(0) @ texts.sum(0) / total
        target = inputs.logit_scale * ((1 - self.label_smoothing) * matching + self.label_smoothing * everything)
        return ((image_lse.sum() + own_text_lse.sum()) / 2 - target) * (len(shares) / total)
