"""Feature distillation: the student's embeddings end where the teacher's are."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def feature_loss(
    image_features: Float[Tensor, "B W"],
    text_features: Float[Tensor, "M W"],
    teacher_image: Float[Tensor, "B W"],
    teacher_text: Float[Tensor, "M W"],
) -> Float[Tensor, ""]:
    """Mean squared difference to the teacher's image embeddings, plus that to its text embeddings.

    Of unit vectors the mean over a row is 2 (1 - cosine) / W, so a useful weight grows with W; the reference gives it
    2,000. Reference: CLIP-KD, https://arxiv.org/abs/2307.12732 (FD). It is 0 where the student agrees with the teacher,
    at most 8 / W for unit rows.
    """
    return F.mse_loss(image_features, teacher_image.detach()) + F.mse_loss(text_features, teacher_text.detach())
