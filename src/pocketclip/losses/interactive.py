"""Interactive contrastive learning: the student finds its pairs among the teacher's embeddings."""

from jaxtyping import Float
from torch import Tensor, arange
from torch.nn import functional as F


def interactive_loss(
    image_features: Float[Tensor, "B W"],
    text_features: Float[Tensor, "B W"],
    teacher_image: Float[Tensor, "B W"],
    teacher_text: Float[Tensor, "B W"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Cross-entropy of student images against the teacher's texts, and of student texts against its images.

    Reference: CLIP-KD, https://arxiv.org/abs/2307.12732 (ICL). The student is always the anchor: only rows are
    normalised, since a column would ask the fixed teacher to choose among students. The published program forgets to
    exponentiate `scale`, which it keeps as a logarithm; here it is given exponentiated, like a logit scale. Without a
    signal in the student it is log(B).
    """
    labels = arange(len(image_features), device=image_features.device)
    image_to_text = F.cross_entropy(scale * image_features @ teacher_text.detach().T, labels)
    text_to_image = F.cross_entropy(scale * text_features @ teacher_image.detach().T, labels)
    return (image_to_text + text_to_image) / 2
