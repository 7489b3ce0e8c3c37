"""Whether a sentence is true of two images, judged by the model's pair head."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from pocketclip import distributed
from pocketclip.objectives.needs import MethodConfig, Needs
from pocketclip.types import Features, ImageTextBatch


class PairsObjectiveConfig(MethodConfig):
    """Cross-entropy of true and false over pairs of images, as for NLVR2; needs `model.pair_head`.

    The mean over a batch's examples; over all ranks' examples where each rank has a share.
    """

    kind: Literal["pairs"] = "pairs"
    judges_pairs: ClassVar[bool] = True

    @property
    def needs(self) -> Needs:
        """Images by twos and a head that judges them: a sentence about two images is no caption of either."""
        return Needs(self.kind, pairs=True, uncached="images by twos", task="nlvr2")

    def losses(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        assert features.pair_logits is not None, "the recipe asks for a pair head"
        assert batch.labels is not None, "the recipe asks for a source of pairs"
        logits, labels = features.pair_logits, batch.labels.to(features.pair_logits.dtype)
        mean = F.binary_cross_entropy_with_logits(logits, labels)
        return {"pairs": mean * distributed.weight_of_share(len(batch), batch.shares)}
