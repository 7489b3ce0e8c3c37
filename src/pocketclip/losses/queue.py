"""The last so many vectors that a frozen model gave, as further negatives of a contrastive loss."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

NOBODY = -1
"""Stands for the image of a place that was never filled."""


class FeatureQueue(nn.Module):
    """First in, first out; all of it is buffers, so that a checkpoint holds it.

    Reference: the memory queue of MoCo, https://arxiv.org/abs/1911.05722, without its momentum encoder: vectors of a
    frozen model stay valid however long they wait.
    """

    rows: Tensor
    image_ids: Tensor
    position: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("rows", torch.zeros(size, width))
        self.register_buffer("image_ids", torch.full((size,), NOBODY))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, rows: Float[Tensor, "B W"], image_ids: Int[Tensor, " B"]) -> None:
        """Put vectors in the place of the oldest, with whose they are; no more of them than the queue's size."""
        assert len(rows) <= self.size, "a queue smaller than a batch is refused where the recipe is read"
        # The position stays on the device: reading it would wait for the GPU
        places = (self.position + torch.arange(len(rows), device=rows.device)) % self.size
        self.rows.index_copy_(0, places, rows.to(self.rows.dtype))
        self.image_ids.index_copy_(0, places, image_ids)
        self.position.add_(len(rows)).remainder_(self.size)
