"""One tower of a model without what lies behind it: a feature for each image or text."""

from typing import TypeVar

from torch import Tensor, nn

from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.readout import Modality, Readout, read_tokens
from pocketclip.models.tower import ImageTower, TextTower, Tower

AnyTower = TypeVar("AnyTower", bound=Tower)


class ReadTower(ImageTower, TextTower):
    """A tower of tokens, (B, L, F), that gives the one that stands for the whole, or their mean."""

    def __init__(self, encoder: Tower, readout: Readout) -> None:
        super().__init__()
        self.encoder = encoder
        self.readout: Readout = readout
        self.feature_dim = encoder.feature_dim

    @property
    def frozen_parameters(self) -> list[nn.Parameter]:
        return self.encoder.frozen_parameters

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, F)."""
        tokens = self.encoder(inputs) if mask is None else self.encoder(inputs, mask)
        return read_tokens(tokens, mask, self.readout)


def bare_tower(model: DualEncoder, encoder: AnyTower, modality: Modality) -> AnyTower | ReadTower:
    """A model's tower, or one it started from, that gives (B, F): with a shared encoder as that reads its tokens."""
    if model.shared_encoder is not None:
        return ReadTower(encoder, model.shared_encoder.readouts[modality])
    return encoder
