"""Settings of the losses over all pairs of a batch, without torch: what computes them is imported when it computes."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pocketclip.config import Config
from pocketclip.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from pocketclip.losses.contrastive import ContrastiveInputs


class ContrastiveLossConfig(Config, ABC):
    """Base of the losses over all pairs of a batch; the members of `LossConfig` are told apart by `kind`."""

    kind: str
    takes_several_captions: ClassVar[bool] = False
    """Whether an image may have several texts; without it row i of images and texts is a pair."""
    uses_bias: ClassVar[bool] = False
    """Whether it adds `model.logit_bias` to the logits."""

    def value(self, inputs: "ContrastiveInputs") -> "Tensor":
        """The loss of a batch of any size; of a rank's share, such that the mean over ranks is that of the batch."""
        return self.large(inputs) if inputs.are_large else self.plain(inputs)

    @abstractmethod
    def plain(self, inputs: "ContrastiveInputs") -> "Tensor":
        """The loss of a whole batch, whose matrix of all pairs fits in memory."""

    def large(self, inputs: "ContrastiveInputs") -> "Tensor":
        """The same without that matrix, and over ranks (see `losses/large.py`); a loss may do without this form.

        Raises:
            UserError: it does.
        """
        from pocketclip.losses.contrastive import MATRIX_LIMIT

        raise UserError(
            f"objective.loss: {self.kind} has no form for several processes, nor for more than {MATRIX_LIMIT:,} pairs "
            f"(got {len(inputs.image)} images and {len(inputs.text)} texts, processes: {len(inputs.shares) or 1}); "
            "train on one process with a smaller train.batch_size, or choose another loss."
        )


class ClipLossConfig(ContrastiveLossConfig):
    """CLIP's softmax: one text an image, all others are negatives."""

    kind: Literal["clip"] = "clip"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def plain(self, inputs: "ContrastiveInputs") -> "Tensor":
        from pocketclip.losses.clip import clip_loss

        return clip_loss(*inputs.unit, inputs.logit_scale, label_smoothing=self.label_smoothing)

    def large(self, inputs: "ContrastiveInputs") -> "Tensor":
        from pocketclip.losses.clip import large_clip_loss

        return large_clip_loss(inputs, label_smoothing=self.label_smoothing)


class SigmoidLossConfig(ContrastiveLossConfig):
    """SigLIP's sigmoid; set `model.logit_bias` to about -ln(B - 1)."""

    kind: Literal["sigmoid"] = "sigmoid"
    takes_several_captions: ClassVar[bool] = True
    uses_bias: ClassVar[bool] = True

    def plain(self, inputs: "ContrastiveInputs") -> "Tensor":
        from pocketclip.losses.sigmoid import sigmoid_loss

        return sigmoid_loss(*inputs.unit, inputs.logit_scale, inputs.logit_bias, positives=inputs.positives)

    def large(self, inputs: "ContrastiveInputs") -> "Tensor":
        from pocketclip.losses.sigmoid import large_sigmoid_loss

        return large_sigmoid_loss(inputs)


class SoftTargetLossConfig(ContrastiveLossConfig):
    """The small-encoder study's loss, as published and defective; see `losses/soft_target.py`."""

    kind: Literal["soft_target"] = "soft_target"

    def plain(self, inputs: "ContrastiveInputs") -> "Tensor":
        from pocketclip.losses.soft_target import soft_target_loss

        return soft_target_loss(inputs.image, inputs.text, inputs.logit_scale)

    def large(self, inputs: "ContrastiveInputs") -> "Tensor":
        from pocketclip.losses.soft_target import large_soft_target_loss

        return large_soft_target_loss(inputs)


class MultiPositiveLossConfig(ContrastiveLossConfig):
    """Softmax in which captions of one image, and equal captions, are not each other's negatives."""

    kind: Literal["multi_positive"] = "multi_positive"
    takes_several_captions: ClassVar[bool] = True

    def plain(self, inputs: "ContrastiveInputs") -> "Tensor":
        from pocketclip.losses.multi_positive import multi_positive_loss

        return multi_positive_loss(*inputs.unit, inputs.logit_scale, inputs.positives)

    def large(self, inputs: "ContrastiveInputs") -> "Tensor":
        from pocketclip.losses.multi_positive import large_multi_positive_loss

        return large_multi_positive_loss(inputs)
