"""The whole way of one modality through a shared encoder: its tower, the adapter of its tokens, and that encoder."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pocketclip.models.readout import Modality
from pocketclip.models.shared_encoder import Layers, SharedEncoder
from pocketclip.models.text.passes import TEXTS_A_PASS, pass_by_length
from pocketclip.models.tower import ImageTower, TextTower, Tower


class SharedTower(ImageTower, TextTower):
    """That way as a tower, for what runs, times and stores towers; its parts are the model's own."""

    def __init__(self, encoder: Tower, adapter: nn.Module, shared: SharedEncoder, modality: Modality) -> None:
        super().__init__()
        self.encoder, self.adapter, self.shared, self.modality = encoder, adapter, shared, modality
        self.settings = {"tower": encoder.settings, "shared": shared.settings}

    def forward(self, inputs: Tensor, mask: Bool[Tensor, "B L"] | None = None) -> Float[Tensor, "B D"]:
        """One embedding an input, not normalised; texts come with their mask."""
        return through_shared(self.encoder, self.adapter, self.shared, self.modality, inputs, mask)[0]


def through_shared(
    encoder: Tower,
    adapter: nn.Module,
    shared: SharedEncoder,
    modality: Modality,
    inputs: Tensor,
    mask: Bool[Tensor, "B L"] | None = None,
) -> tuple[Float[Tensor, "B D"], Layers]:
    """The embeddings of one modality, not normalised, and what the inner layers of the shared encoder make of it.

    The encoder makes (B, L, F) tokens of images, or of ids and mask; the adapter (B, L, D). On a CPU long batches of
    texts pass in parts of like length.
    """

    def run(inputs: Tensor, mask: Tensor | None) -> tuple[Tensor, Layers]:
        tokens = encoder(inputs) if mask is None else encoder(inputs, mask)
        return shared(adapter(tokens), mask, modality)

    def joined(inputs: Tensor, mask: Tensor) -> Tensor:
        output, layers = run(inputs, mask)
        return torch.cat([output, *layers], dim=1)

    if mask is None or inputs.device.type != "cpu" or len(inputs) <= TEXTS_A_PASS:
        return run(inputs, mask)
    output, *layers = pass_by_length(joined, inputs, mask).split(shared.widths, dim=1)
    return output, tuple(layers)
