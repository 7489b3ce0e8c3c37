"""A student against the vectors that a frozen teacher has of the images: by distance, as classes, or by contrast.

The target is the same for an image and for the texts about it, so a function compares one side at a time; S-SMKE and
its ancestor SHRe take the mean of both.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def target_distance_loss(student: Float[Tensor, "b W"], target: Float[Tensor, "b W"]) -> Float[Tensor, ""]:
    """Mean squared difference to the target over all numbers of all rows, neither side normalised.

    Half of it for images and half for texts is the first loss of S-SMKE, whose program takes the mean over the width
    where its text writes a squared norm.
    """
    return F.mse_loss(student, target.detach())


def target_logits_loss(student: Float[Tensor, "b C"], target: Float[Tensor, "b C"]) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence of the teacher's classes from the student's, given as logits, a mean over rows.

    Reference: the loss of SHRe, https://arxiv.org/abs/1706.00932, section 3.2.
    """
    log_probabilities = target.detach().log_softmax(1)
    return F.kl_div(student.log_softmax(1), log_probabilities, reduction="batchmean", log_target=True)


def target_contrast_loss(
    student: Float[Tensor, "b W"],
    candidates: Float[Tensor, "N W"],
    scale: Float[Tensor, ""],
    labels: Int[Tensor, " b"],
    left_out: Bool[Tensor, "b N"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of finding an image's target among those of others.

    The student is the anchor: only rows are normalised, since a column would ask the frozen teacher to choose among
    students. Reference: InfoNCE, https://arxiv.org/abs/1807.03748; with a queue, https://arxiv.org/abs/1911.05722.

    `candidates` are the teacher's of this batch and of earlier ones, `labels` say which of them is a row's own, and
    `left_out` is True where one is no negative of a row, never at its own. It is log(N) where the student carries no
    signal and nothing is left out.
    """
    logits = scale * student @ candidates.detach().T
    if left_out is not None:
        logits = logits.masked_fill(left_out, float("-inf"))
    return F.cross_entropy(logits, labels)
