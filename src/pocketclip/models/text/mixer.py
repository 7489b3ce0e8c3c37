"""A layer that mixes a text's tokens by convolution: the Text-RepMixer of MobileCLIP.

In training form the mixer is a convolution with a batch norm, a skip with one of its own, and a third one that is taken
off; fused, it is a single convolution. Reference: MobileCLIP, https://arxiv.org/abs/2311.17049, and FastViT,
https://arxiv.org/abs/2303.14189.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from pocketclip.models.text.feed_forward import FeedForward

LAYER_SCALE = 1e-5
"""Start of the learned factors on what a block adds."""


class RepMixer(nn.Module):
    """x + scale * (norm(convolution(x)) + norm(x) - norm(x)), each norm with statistics of its own.

    The published code has no 1 x 1 branch here, unlike its twin for images, and neither has this.
    """

    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        self.convolution = over_sequence(width, kernel_size)
        self.convolution_norm, self.skip_norm, self.norm = (nn.BatchNorm2d(width) for _ in range(3))
        self.scale = nn.Parameter(torch.full((width,), LAYER_SCALE))

    def forward(
        self, states: Float[Tensor, "M W 1 L"], token_mask: Bool[Tensor, "M 1 1 L"] | None
    ) -> Float[Tensor, "M W 1 L"]:
        """Mix the tokens of each text; states are zero where no token stands, no mask means that padding counts."""
        mixed = normalise(self.convolution_norm, self.convolution(states), token_mask)
        mixed = mixed + normalise(self.skip_norm, states, token_mask)
        change: Tensor = mixed - normalise(self.norm, states, token_mask)
        return states + self.scale[:, None, None] * change

    @torch.no_grad()
    def fused(self) -> nn.Conv2d:
        """The one convolution that does the same in evaluation mode.

        Its weights are I + scale * (W - N): I passes a token through, W mixes, with its skip, and N is taken off.
        """
        through = torch.zeros_like(self.convolution.weight)
        through[:, :, :, through.shape[3] // 2] = 1
        weight, bias = _folded(self.convolution.weight, self.convolution_norm)
        for norm, sign in ((self.skip_norm, 1), (self.norm, -1)):
            kernel, offset = _folded(through, norm)
            weight, bias = weight + sign * kernel, bias + sign * offset
        convolution = over_sequence(len(bias), through.shape[3], bias=True).to(bias)
        convolution.weight = nn.Parameter(through + self.scale[:, None, None, None] * weight)
        convolution.bias = nn.Parameter(self.scale * bias)
        return convolution


class ConvolutionLayer(nn.Module):
    """A mixer, then a feed-forward part that begins with a convolution of its own."""

    mixer: RepMixer | nn.Conv2d
    norm: nn.BatchNorm2d | nn.Identity

    def __init__(self, width: int, hidden: int, kernel_size: int, activation: str) -> None:
        super().__init__()
        self.mixer = RepMixer(width, kernel_size)
        self.convolution = over_sequence(width, kernel_size)
        self.norm = nn.BatchNorm2d(width)
        self.feed_forward = FeedForward(width, hidden, activation)
        self.scale = nn.Parameter(torch.full((width,), LAYER_SCALE))
        for layer in (self.convolution, self.feed_forward.expand, self.feed_forward.contract):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, states: Float[Tensor, "M L W"], token_mask: Bool[Tensor, "M L"] | None) -> Float[Tensor, "M L W"]:
        """Where no token stands, what comes out means nothing.

        There convolutions see the zeros they see beyond a text's ends, and batch norms see nothing; without a mask
        padding counts as tokens.
        """
        mask = None if token_mask is None else token_mask[:, None, None]
        states = _hidden(states.transpose(1, 2).unsqueeze(2), mask)
        mixed = self.mixer(states, mask) if isinstance(self.mixer, RepMixer) else self.mixer(states)
        change = self.convolution(_hidden(mixed, mask))
        if isinstance(self.norm, nn.BatchNorm2d):
            change = normalise(self.norm, change, mask)
        mixed, change = (values.squeeze(2).transpose(1, 2) for values in (mixed, change))
        output: Tensor = mixed + self.scale * self.feed_forward(change)
        return output

    @torch.no_grad()
    def reparameterize(self) -> None:
        """Turn into the form for inference, in place: two convolutions, and no batch norm."""
        if isinstance(self.mixer, RepMixer) and isinstance(self.norm, nn.BatchNorm2d):
            self.mixer = self.mixer.fused()
            self.convolution = fuse_conv_bn_eval(self.convolution.eval(), self.norm.eval())
            self.norm = nn.Identity()


def over_sequence(width: int, kernel_size: int, *, bias: bool = False) -> nn.Conv2d:
    """A depthwise convolution over (M, W, 1, L); in two dimensions it runs on channels last without a copy."""
    return nn.Conv2d(width, width, (1, kernel_size), padding=(0, kernel_size // 2), groups=width, bias=bias)


def normalise(norm: nn.BatchNorm2d, states: Tensor, mask: Tensor | None) -> Tensor:
    """Batch norm of (M, W, 1, L) with the statistics of tokens; where the (M, 1, 1, L) mask is False nothing counts."""
    if mask is None or not norm.training:
        normed: Tensor = norm(states)
        return normed
    kept = mask[:, 0, 0]  # (M, L)
    rows = norm(states.squeeze(2).transpose(1, 2)[kept][:, :, None, None])[:, :, 0, 0]
    spread = torch.zeros((*kept.shape, rows.shape[1]), dtype=rows.dtype, device=rows.device)
    spread[kept] = rows
    return spread.transpose(1, 2).unsqueeze(2)


def _hidden(states: Tensor, mask: Tensor | None) -> Tensor:
    """The states with zeros where no token stands."""
    return states if mask is None else states * mask


def _folded(kernel: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with a batch norm behind it."""
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    return fuse_conv_bn_weights(kernel, None, mean, variance, norm.eps, norm.weight, norm.bias)
