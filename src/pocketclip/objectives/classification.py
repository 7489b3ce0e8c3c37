"""Classification: the head gives a logit a class."""

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from pocketclip.types import Features, ImageTextBatch


def classification(features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
    """Cross-entropy of a model whose image head ends in a logit a class; log(C) when the features carry no signal.

    `pocketclip evaluate --task fine_tuning` trains with it. No recipe names it, since a run ends with retrieval.
    """
    assert batch.labels is not None, "the batch has no labels"
    return {"cross_entropy": F.cross_entropy(features.image, batch.labels)}
