"""Whether a sentence is true of two images, judged by the model's pair head."""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from pocketclip.config import Config
from pocketclip.types import Features, ImageTextBatch


class PairsObjectiveConfig(Config):
    """Cross-entropy of true and false over pairs of images, as for NLVR2; needs `model.pair_head`."""

    kind: Literal["pairs"] = "pairs"

    @property
    def pair_loss(self) -> None:
        """No loss over image-text pairs: a sentence about two images is no caption of either."""

    @property
    def uses_teachers(self) -> bool:
        """Whether it reads what teachers made of a batch."""
        return False

    @property
    def needs_teacher_captions(self) -> bool:
        """Whether its teachers have to know captions too."""
        return False

    @property
    def validation(self) -> "PairsObjectiveConfig":
        """What is measured on a validation split: the same."""
        return self

    def build(self, *, embed_dim: int | None = None, teacher_widths: Sequence[int] = ()) -> "PairsObjective":
        """An objective for the training loop.

        Args:
            embed_dim: of the model; nothing here depends on it.
            teacher_widths: likewise.
        """
        del embed_dim, teacher_widths
        return PairsObjective()


class PairsObjective:
    """The mean over a batch's examples; over all ranks' examples where each rank has a share."""

    def __call__(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        """The loss by its name."""
        assert features.pair_logits is not None, "the recipe asks for a pair head"
        assert batch.labels is not None, "the recipe asks for a source of pairs"
        logits, labels = features.pair_logits, batch.labels.to(features.pair_logits.dtype)
        total = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        num_ranks = max(1, len(batch.shares))
        num_examples = sum(batch.shares, start=0) // 2 or len(labels)
        return {"pairs": total * num_ranks / num_examples}  # the mean over ranks is the mean over examples
