"""Identity classification: images and texts of a person are told from those of others by one classifier."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def identity_loss(
    image_logits: Float[Tensor, "B C"],
    text_logits: Float[Tensor, "M C"],
    image_identities: Int[Tensor, " B"],
    text_identities: Int[Tensor, " M"],
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the images, and of the texts, over the C identities that are trained on.

    Both pass through the same linear classifier, which draws an identity's images and texts to one place. Reference:
    IRRA, https://arxiv.org/abs/2303.12501. It is log(C) where the features carry no signal.
    """
    return (F.cross_entropy(image_logits, image_identities) + F.cross_entropy(text_logits, text_identities)) / 2
