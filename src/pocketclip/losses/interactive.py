"""Interactive contrastive learning: the student finds its pairs among the teacher's embeddings."""

from jaxtyping import Float
from torch import Tensor, arange
from torch.nn import functional as F

from pocketclip.losses.tiled import TILE, log_sum_exp


def interactive_loss(
    image_features: Float[Tensor, "b W"],
    text_features: Float[Tensor, "b W"],
    teacher_image: Float[Tensor, "B W"],
    teacher_text: Float[Tensor, "B W"],
    scale: Float[Tensor, ""],
    *,
    first: int = 0,
) -> Float[Tensor, ""]:
    """Cross-entropy of student images against the teacher's texts, and of student texts against its images.

    Reference: CLIP-KD, https://arxiv.org/abs/2307.12732 (ICL). The student is always the anchor: only rows
    are normalised, since a column would ask the fixed teacher to choose among students. The published program
    forgets to exponentiate `scale`, which it keeps as a logarithm; here it is given exponentiated, like a logit scale.

    Args:
        image_features: (b, W), the student's in the teacher's width, unit length per row; row i matches the teacher's
            row `first` + i.
        text_features: (b, W), likewise.
        teacher_image: (B, W), unit length per row; no gradient flows into it.
        teacher_text: (B, W), likewise.
        scale: (), this loss's own inverse temperature, already exponentiated.
        first: the teacher's row that the student's first row matches; not 0 where the student's are a part.

    Returns:
        (), mean of both directions; log(B) where the student carries no signal.
    """
    labels = first + arange(len(image_features), device=image_features.device)
    image_to_text = F.cross_entropy(scale * image_features @ teacher_text.detach().T, labels)
    text_to_image = F.cross_entropy(scale * text_features @ teacher_image.detach().T, labels)
    return (image_to_text + text_to_image) / 2


def tiled_interactive_loss(
    image_features: Float[Tensor, "b W"],
    text_features: Float[Tensor, "b W"],
    teacher_image: Float[Tensor, "B W"],
    teacher_text: Float[Tensor, "B W"],
    scale: Float[Tensor, ""],
    *,
    first: int = 0,
    tile: int = TILE,
) -> Float[Tensor, ""]:
    """`interactive_loss` in memory that grows with B instead of b x B; equal to it up to rounding."""
    own = slice(first, first + len(image_features))
    total = image_features.new_zeros(())
    for student, teacher in ((image_features, teacher_text.detach()), (text_features, teacher_image.detach())):
        row_lse, _ = log_sum_exp(student, teacher, scale, tile)
        total = total + (row_lse - scale * (student * teacher[own]).sum(1)).mean()
    return total / 2
