"""Whether a sentence is true of two images, judged by the model's pair head."""

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from pocketclip import distributed
from pocketclip.types import Features, ImageTextBatch


def pair_losses(features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
    """Cross-entropy of true and false: the mean over a batch's examples, or a rank's share of it."""
    assert features.pair_logits is not None, "the recipe asks for a pair head"
    assert batch.labels is not None, "the recipe asks for a source of pairs"
    logits, labels = features.pair_logits, batch.labels.to(features.pair_logits.dtype)
    mean = F.binary_cross_entropy_with_logits(logits, labels)
    return {"pairs": mean * distributed.weight_of_share(len(batch), batch.shares)}
