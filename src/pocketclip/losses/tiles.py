"""Sums over the matrix of all pairs that never hold it: tile by tile, forwards and backwards.

Every contrastive loss here is a sum over all pairs that needs no labels, and a sum over the few matching pairs. Only
the first is large. It is computed tile by tile with its own backward pass, which computes each tile again, so memory
grows with B x D + tile^2 instead of B x M. The matching pairs come as a list and stay ordinary autograd. Affinity
distillation has no matches: all of it is the large sum. `losses/large.py` makes losses of these sums.

References: online log-sum-exp, https://arxiv.org/abs/1805.02867; the same idea for contrastive losses,
https://arxiv.org/abs/2410.17243.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pocketclip.losses.affinity import log_mean

TILE = 1024
"""Rows and columns held at a time: 4 MiB of float32, which stays near the processor."""
KEEP_LIMIT = 1 << 28
"""Numbers that affinity distillation, which has to see its tiles twice, may keep in between: 1 GiB of float32."""


def log_sum_exp(
    image_features: Float[Tensor, "B D"], text_features: Float[Tensor, "M D"], logit_scale: Float[Tensor, ""], tile: int
) -> tuple[Float[Tensor, " B"], Float[Tensor, " M"]]:
    """Of the logits over each row (B,) and over each column (M,)."""
    sums: tuple[Tensor, Tensor] = _LogSumExp.apply(image_features, text_features, logit_scale, tile)
    return sums


def softplus_sum(
    image_features: Float[Tensor, "B D"],
    text_features: Float[Tensor, "M D"],
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""],
    tile: int,
) -> Float[Tensor, ""]:
    """Of all logits: what `sigmoid_loss` would be if no pair matched, before it is averaged."""
    total: Tensor = _Softplus.apply(image_features, text_features, logit_scale, logit_bias, tile)
    return total


def divergence_of_rows(
    image_features: Float[Tensor, "b D"],
    text_features: Float[Tensor, "M D"],
    logit_scale: Float[Tensor, ""],
    teachers: Sequence[tuple[Float[Tensor, "b _"], Float[Tensor, "M _"]]],
    num_images: int,
    join: Callable[[Tensor], Tensor],
    tile: int,
) -> Float[Tensor, ""]:
    """What some rows of the matrix of all pairs add to `affinity_loss`; over all rows it sums up to the loss.

    The gradients are those of the whole loss with respect to these rows' logits, so they sum up too.

    Args:
        image_features: (b, D), the student's of these rows, unit length per row.
        text_features: (M, D), the student's of all columns, unit length per row.
        logit_scale: (), the student's inverse temperature, already exponentiated.
        teachers: T of (b, width) times the teacher's inverse temperature, and (M, width); without gradients.
        num_images: B, the rows of the whole matrix.
        join: makes these rows' log-sum-exp of each column that of all rows.
        tile: rows and columns held at a time.
    """
    divergence = _Divergence.apply
    loss: Tensor = divergence(image_features, text_features, logit_scale, teachers, num_images, join, tile)
    return loss


def _parts(length: int, tile: int) -> Iterator[slice]:
    for start in range(0, length, tile):
        yield slice(start, min(start + tile, length))


class _LogSumExp(torch.autograd.Function):
    """log sum exp of the logits over each row and over each column."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, text: Tensor, scale: Tensor, tile: int) -> tuple[Tensor, Tensor]:
        image_lse, text_lse = _log_sum_exp(_Tiles(image * scale, text), tile)
        ctx.save_for_backward(image, text, scale, image_lse, text_lse)
        ctx.tile = tile
        return image_lse, text_lse

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        image, text, scale, image_lse, text_lse = ctx.saved_tensors
        image_grad, text_grad = gradients

        def weights(logits: Tensor, rows: slice, columns: slice) -> Tensor:
            by_row = (logits - image_lse[rows, None]).exp_().mul_(image_grad[rows, None])
            return logits.sub_(text_lse[columns]).exp_().mul_(text_grad[columns]).add_(by_row)

        return *_gradients(image, text, scale, None, weights, ctx.tile)[:3], None


class _Softplus(torch.autograd.Function):
    """Sum of softplus over all logits. The forward pass makes the gradients too, while it has each tile at hand."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, tile: int) -> Tensor:
        total = image.new_zeros((), dtype=torch.float64)

        def weights(logits: Tensor, rows: slice, columns: slice) -> Tensor:
            del rows, columns
            total.add_(F.softplus(logits).sum())
            return logits.sigmoid_()

        ctx.save_for_backward(*_gradients(image, text, scale, bias, weights, tile))
        return total.to(image.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (total_grad,) = gradients
        return *(total_grad * one for one in ctx.saved_tensors), None


class _Divergence(torch.autograd.Function):
    """`divergence_of_rows`. The forward pass makes the gradients too: they need the same tiles of every teacher."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        text: Tensor,
        scale: Tensor,
        teachers: Sequence[tuple[Tensor, Tensor]],
        num_images: int,
        join: Callable[[Tensor], Tensor],
        tile: int,
    ) -> Tensor:
        total = image.new_zeros((), dtype=torch.float64)
        pairs = (image * scale, text), *teachers
        keep = len(pairs) * len(image) * len(text) <= KEEP_LIMIT
        tiles = [_Tiles(*pair, keep=keep) for pair in pairs]
        lses = [_log_sum_exp(matrix, tile) for matrix in tiles]
        student_lse, *teacher_lses = [(row_lse, join(column_lse)) for row_lse, column_lse in lses]

        def weights(logits: Tensor, rows: slice, columns: slice) -> Tensor:
            affinities = [matrix.take(rows, columns) for matrix in tiles[1:]]
            gradient = torch.zeros_like(logits)
            for axis, (part, weight) in enumerate(((rows, 0.5 / num_images), (columns, 0.5 / len(text)))):
                student = logits - student_lse[axis][part].unsqueeze(1 - axis)
                target = log_mean(
                    [
                        affinity - lse[axis][part].unsqueeze(1 - axis)
                        for affinity, lse in zip(affinities, teacher_lses, strict=True)
                    ]
                )
                share = target.exp()
                total.add_(target.sub_(student).mul_(share).sum(), alpha=weight)
                gradient.add_(student.exp_().sub_(share), alpha=weight)
            return gradient

        ctx.save_for_backward(*_gradients(image, text, scale, None, weights, tile, tiles[0])[:3])
        return total.to(image.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (total_grad,) = gradients
        return *(total_grad * one for one in ctx.saved_tensors), None, None, None, None


class _Tiles:
    """The matrix image @ text.T by tiles.

    Args:
        image: (B, D).
        text: (M, D).
        keep: hold on to the tiles that were looked at until they are taken, instead of computing them again.
    """

    def __init__(self, image: Tensor, text: Tensor, *, keep: bool = False) -> None:
        self.image, self.text, self.keep = image, text, keep
        self.kept: dict[tuple[int, int], Tensor] = {}

    def look(self, rows: slice, columns: slice) -> Tensor:
        """A tile, to be left as it is."""
        logits = self.image[rows] @ self.text[columns].T
        if self.keep:
            self.kept[rows.start, columns.start] = logits
        return logits

    def take(self, rows: slice, columns: slice) -> Tensor:
        """A tile for the last time; it may be written to."""
        kept = self.kept.pop((rows.start, columns.start), None)
        return self.image[rows] @ self.text[columns].T if kept is None else kept


def _log_sum_exp(matrix: _Tiles, tile: int) -> tuple[Tensor, Tensor]:
    """The log-sum-exp over each row and over each column."""
    image, text = matrix.image, matrix.text
    image_max = image.new_full((len(image),), -torch.inf)
    text_max = image.new_full((len(text),), -torch.inf)
    image_sum, text_sum = torch.zeros_like(image_max), torch.zeros_like(text_max)
    for rows in _parts(len(image), tile):
        for columns in _parts(len(text), tile):
            logits = matrix.look(rows, columns)
            _add(image_max[rows], image_sum[rows], logits, dim=1)
            _add(text_max[columns], text_sum[columns], logits, dim=0)
    return image_sum.log_().add_(image_max), text_sum.log_().add_(text_max)


def _add(running_max: Tensor, running_sum: Tensor, logits: Tensor, dim: int) -> None:
    """Take a tile into a running log-sum-exp, in place."""
    largest = torch.maximum(running_max, logits.amax(dim))
    running_sum.mul_((running_max - largest).exp_()).add_((logits - largest.unsqueeze(dim)).exp_().sum(dim))
    running_max.copy_(largest)


def _gradients(
    image: Tensor,
    text: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    weights: Callable[[Tensor, slice, slice], Tensor],
    tile: int,
    matrix: _Tiles | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of image, text, scale and bias, where `weights` turns a tile of logits into its gradient."""
    matrix = matrix or _Tiles(image * scale, text)
    image_grad, text_grad = torch.zeros_like(image), torch.zeros_like(text)
    bias_grad = image.new_zeros(())
    for rows in _parts(len(image), tile):
        for columns in _parts(len(text), tile):
            logits = matrix.take(rows, columns)
            if bias is not None:
                logits += bias
            gradient = weights(logits, rows, columns)
            image_grad[rows].addmm_(gradient, text[columns])
            text_grad[columns].addmm_(gradient.T, matrix.image[rows])
            if bias is not None:
                bias_grad += gradient.sum()
    scale_grad = (image_grad * image).sum()  # the logits' gradient times the unscaled logits, summed
    return image_grad.mul_(scale), text_grad, scale_grad, bias_grad
