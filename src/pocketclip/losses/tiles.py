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

from pocketclip import distributed
from pocketclip.losses.affinity import log_mean

TILE = 1024
"""Rows and columns held at a time: 4 MiB of float32, which stays near the processor."""
KEEP_LIMIT = 1 << 28
"""Numbers that affinity distillation, which has to see its tiles twice, may keep in between: 1 GiB of float32."""


def log_sum_exp(
    image_features: Float[Tensor, "B D"], text_features: Float[Tensor, "M D"], logit_scale: Float[Tensor, ""]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " M"]]:
    """Of the logits over each row (B,) and over each column (M,)."""
    sums: tuple[Tensor, Tensor] = _LogSumExp.apply(image_features, text_features, logit_scale)
    return sums


def softplus_sum(
    image_features: Float[Tensor, "B D"],
    text_features: Float[Tensor, "M D"],
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Of all logits: what `sigmoid_loss` would be if no pair matched, before it is averaged."""
    total = image_features.new_zeros((), dtype=torch.float64)

    def weights(logits: Tensor, rows: slice, columns: slice) -> Tensor:
        total.add_(F.softplus(logits).sum())
        return logits.sigmoid_()

    inputs = image_features, text_features, logit_scale, logit_bias
    loss: Tensor = _WithGradients.apply(total, _gradients(*inputs, weights), *inputs)
    return loss


def divergence_of_rows(
    image_features: Float[Tensor, "b D"],
    text_features: Float[Tensor, "M D"],
    logit_scale: Float[Tensor, ""],
    teachers: Sequence[tuple[Float[Tensor, "b _"], Float[Tensor, "M _"]]],
    shares: Sequence[int],
) -> Float[Tensor, ""]:
    """What some rows of the matrix of all pairs add to `affinity_loss`; over all rows it sums up to the loss.

    The gradients are those of the whole loss with respect to these rows' logits, so they sum up too.

    Images are the student's of these rows, texts of all columns. A teacher is (b, width) times its inverse temperature
    and (M, width), without gradients. `shares` are the rows that every rank holds, B in all.
    """
    total = image_features.new_zeros((), dtype=torch.float64)
    pairs = ((image_features * logit_scale).detach(), text_features), *teachers
    keep = len(pairs) * len(image_features) * len(text_features) <= KEEP_LIMIT
    matrices = [_Matrix(*pair, keep=keep) for pair in pairs]
    lses = [_log_sum_exp(matrix) for matrix in matrices]
    student_lse, *teacher_lses = [
        (row_lse, distributed.log_sum_exp_over_ranks(column_lse, shares)) for row_lse, column_lse in lses
    ]

    def weights(logits: Tensor, rows: slice, columns: slice) -> Tensor:
        affinities = [matrix.take(rows, columns) for matrix in matrices[1:]]
        gradient = torch.zeros_like(logits)
        for axis, (part, weight) in enumerate(((rows, 0.5 / sum(shares)), (columns, 0.5 / len(text_features)))):
            student = logits - student_lse[axis][part].unsqueeze(1 - axis)
            both = zip(affinities, teacher_lses, strict=True)
            target = log_mean([affinity - lse[axis][part].unsqueeze(1 - axis) for affinity, lse in both])
            share = target.exp()
            total.add_(target.sub_(student).mul_(share).sum(), alpha=weight)
            gradient.add_(student.exp_().sub_(share), alpha=weight)
        return gradient

    inputs = image_features, text_features, logit_scale
    loss: Tensor = _WithGradients.apply(total, _gradients(*inputs, None, weights, matrices[0])[:3], *inputs)
    return loss


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, text: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        image_lse, text_lse = _log_sum_exp(_Matrix(image * scale, text))
        ctx.save_for_backward(image, text, scale, image_lse, text_lse)
        return image_lse, text_lse

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        image, text, scale, image_lse, text_lse = ctx.saved_tensors
        image_grad, text_grad = gradients

        def weights(logits: Tensor, rows: slice, columns: slice) -> Tensor:
            by_row = (logits - image_lse[rows, None]).exp_().mul_(image_grad[rows, None])
            return logits.sub_(text_lse[columns]).exp_().mul_(text_grad[columns]).add_(by_row)

        return _gradients(image, text, scale, None, weights)[:3]


class _WithGradients(torch.autograd.Function):
    """A sum over all tiles, of the inputs' type, whose gradients were made while each tile was at hand."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, gradients: Sequence[Tensor], *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return total.to(inputs[0].dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(gradients[0] * one for one in ctx.saved_tensors)


class _Matrix:
    """(B, D) images @ (M, D) texts.T by tiles; `keep` holds on to those looked at until they are taken."""

    def __init__(self, image: Tensor, text: Tensor, *, keep: bool = False) -> None:
        self.image, self.text, self.keep = image, text, keep
        self.kept: dict[tuple[int, int], Tensor] = {}

    def tiles(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of each tile."""
        for row in range(0, len(self.image), TILE):
            for column in range(0, len(self.text), TILE):
                yield slice(row, row + TILE), slice(column, column + TILE)

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


@torch.no_grad()
def _log_sum_exp(matrix: _Matrix) -> tuple[Tensor, Tensor]:
    """The log-sum-exp over each row and over each column."""
    image_max, text_max = (matrix.image.new_full((len(side),), -torch.inf) for side in (matrix.image, matrix.text))
    image_sum, text_sum = torch.zeros_like(image_max), torch.zeros_like(text_max)
    for rows, columns in matrix.tiles():
        logits = matrix.look(rows, columns)
        _add(image_max[rows], image_sum[rows], logits, dim=1)
        _add(text_max[columns], text_sum[columns], logits, dim=0)
    return image_sum.log_().add_(image_max), text_sum.log_().add_(text_max)


def _add(running_max: Tensor, running_sum: Tensor, logits: Tensor, dim: int) -> None:
    """Take a tile into a running log-sum-exp, in place."""
    largest = torch.maximum(running_max, logits.amax(dim))
    running_sum.mul_((running_max - largest).exp_()).add_((logits - largest.unsqueeze(dim)).exp_().sum(dim))
    running_max.copy_(largest)


@torch.no_grad()
def _gradients(
    image: Tensor,
    text: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    weights: Callable[[Tensor, slice, slice], Tensor],
    matrix: _Matrix | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of image, text, scale and bias, where `weights` turns a tile of logits into its gradient."""
    matrix = matrix or _Matrix(image * scale, text)
    image_grad, text_grad, bias_grad = torch.zeros_like(image), torch.zeros_like(text), image.new_zeros(())
    for rows, columns in matrix.tiles():
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
