"""What a loss over all pairs of a batch sees."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from pocketclip import distributed
from pocketclip.losses.matches import matching_pairs, positive_pairs
from pocketclip.types import Features, ImageTextBatch

MATRIX_LIMIT = 1 << 24
"""Pairs of a batch above which a loss is computed tile by tile: 4,096 x 4,096, or 64 MiB a matrix of float32."""


@dataclass(frozen=True)
class ContrastiveInputs:
    """A batch as a contrastive loss sees it, or one rank's share of it; text j belongs to image j // K."""

    image: Float[Tensor, "B D"]
    """Not normalised, nor is `text`."""
    text: Float[Tensor, "M D"]
    logit_scale: Float[Tensor, ""]
    logit_bias: Float[Tensor, ""]
    image_ids: Int[Tensor, " B"]
    caption_ids: Int[Tensor, " M"]
    shares: tuple[int, ...] = ()
    """Images that every rank holds, where this is one rank's share of a batch; empty where it is all of it."""
    identity_ids: Int[Tensor, " B"] | None = None
    """Who is on each image, equal where it is the same person; None where nobody knows."""

    @classmethod
    def of(cls, features: Features, batch: ImageTextBatch) -> "ContrastiveInputs":
        """What a model made of a batch."""
        scalars = features.logit_scale, features.logit_bias
        ids = batch.image_ids, batch.caption_ids
        return cls(features.image, features.text, *scalars, *ids, batch.shares, batch.identity_ids)

    @property
    def unit(self) -> tuple[Float[Tensor, "B D"], Float[Tensor, "M D"]]:
        """The images' and the texts' embeddings, of length 1."""
        return F.normalize(self.image, dim=1), F.normalize(self.text, dim=1)

    @property
    def positives(self) -> Bool[Tensor, "B M"]:
        """Which images and texts match, of a batch that is whole; see `positive_pairs`."""
        captions_per_image = len(self.text) // len(self.image)
        return positive_pairs(self.image_ids, self.image_ids.repeat_interleave(captions_per_image), self.caption_ids)

    @property
    def identities(self) -> tuple[Int[Tensor, " B"], Int[Tensor, " M"]]:
        """Who is on the images, and whom the texts are about."""
        assert self.identity_ids is not None, "the recipe asks for a source of identities"
        return self.identity_ids, self.identity_ids.repeat_interleave(len(self.text) // len(self.image))

    @property
    def sizes(self) -> tuple[Sequence[int], list[int]]:
        """The images of every rank, and the texts; one rank's where this is all of the batch."""
        shares = self.shares or (len(self.image),)
        return shares, [share * (len(self.text) // len(self.image)) for share in shares]

    @property
    def matches(self) -> Int[Tensor, "P 2"]:
        """(P, 2): this rank's images and the texts of all ranks that match them."""
        shares, text_shares = self.sizes
        owners = distributed.gather(self.image_ids, shares).repeat_interleave(text_shares[0] // shares[0])
        return matching_pairs(self.image_ids, owners, distributed.gather(self.caption_ids, text_shares))

    @property
    def are_large(self) -> bool:
        """Whether one process cannot hold the matrix of all pairs: it is too large, or the texts are on other ranks."""
        return len(self.shares) > 1 or len(self.image) * len(self.text) > MATRIX_LIMIT
