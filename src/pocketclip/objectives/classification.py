"""Classification: the head gives a logit a class."""

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from pocketclip.types import Features, ImageTextBatch


class ClassificationObjective:
    """Cross-entropy of a model whose image head ends in a logit a class; texts are not looked at.

    `pocketclip evaluate --task fine_tuning` trains with it. No recipe names it, since a run ends with retrieval.
    """

    def __call__(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        """The loss by its name; log(C) when the features carry no signal."""
        assert batch.labels is not None, "the batch has no labels"
        return {"cross_entropy": F.cross_entropy(features.image, batch.labels)}
