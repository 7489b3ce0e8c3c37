"""Sums over the texts of all ranks without a rank ever holding them: blocks of texts go round a ring.

Reference: SigLIP, https://arxiv.org/abs/2303.15343, section 3.3.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pocketclip import distributed

BlockLoss = Callable[[int, Tensor, Tensor, Tensor, Tensor], Tensor]
"""Of the rank whose texts a block holds, images, a block of texts, scale and bias."""


def sum_round_the_ring(
    block_loss: BlockLoss, sizes: Sequence[int], image: Tensor, text: Tensor, scale: Tensor, bias: Tensor
) -> Tensor:
    """Sum of a loss over this rank's (b, D) images and the text blocks of every rank, with exact gradients.

    The sizes are the texts of each rank, text is (m, D), this rank's. Unless there is one block only, `block_loss` is
    computed a second time in the backward pass.
    """
    if len(sizes) == 1:
        return block_loss(0, image, text, scale, bias)
    total: Tensor = _Ring.apply(block_loss, tuple(sizes), image, text, scale, bias)
    return total


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, block_loss: BlockLoss, sizes: tuple[int, ...], image: Tensor, text: Tensor, *scalars: Tensor
    ) -> Tensor:
        ctx.block_loss, ctx.sizes = block_loss, sizes
        ctx.save_for_backward(image, text, *scalars)
        block, total = text, image.new_zeros(())
        for step in range(len(sizes)):
            owner = (distributed.rank() + step) % len(sizes)
            following, works = _send_block(block, sizes, owner, last=step == len(sizes) - 1)
            total += block_loss(owner, image, block, *scalars)  # while the next block travels
            for work in works:
                work.wait()
            block = following
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        image, text, *scalars = (tensor.detach().requires_grad_() for tensor in ctx.saved_tensors)
        sums = [torch.zeros_like(tensor) for tensor in (image, *scalars)]
        block, block_grad = text, torch.zeros_like(text)
        for step in range(len(ctx.sizes)):
            owner = (distributed.rank() + step) % len(ctx.sizes)
            following, works = _send_block(block.detach(), ctx.sizes, owner, last=step == len(ctx.sizes) - 1)
            with torch.enable_grad():
                loss = ctx.block_loss(owner, image, block, *scalars)
            gradients_here = torch.autograd.grad(loss, (image, *scalars, block), gradients[0])
            for total, grad in zip((*sums, block_grad), gradients_here, strict=True):
                total += grad
            for work in works:
                work.wait()
            # The block's gradient follows it, and so comes home after the last step
            block_grad, works = _send_block(block_grad, ctx.sizes, owner, last=False)
            for work in works:
                work.wait()
            block = following.requires_grad_()
        return None, None, sums[0], block_grad, *sums[1:]


def _send_block(block: Tensor, sizes: Sequence[int], owner: int, *, last: bool) -> tuple[Tensor, list[Any]]:
    """Begin to hand a block on; returns where the next one will be, and what to wait for."""
    if last:
        return block, []
    shape = torch.Size([sizes[(owner + 1) % len(sizes)], *block.shape[1:]])
    (following,), works = distributed.pass_on([block], [shape])
    return following, works
