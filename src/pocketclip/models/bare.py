"""One tower of a model without what lies behind it: a feature for each image or text."""

from typing import TypeVar

from torch import Tensor, nn

from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.readout import Modality, Readout, read_tokens
from pocketclip.models.tower import ImageTower, TextTower, Tower

AnyTower = TypeVar("AnyTower", bound=Tower)


class ReadTower(ImageTower, TextTower):
    """A tower of tokens that gives one of them, or their mean.

    Args:
        encoder: images, or tokens and mask, to (B, L, F).
        readout: which token stands for the whole.
    """

    def __init__(self, encoder: Tower, readout: Readout) -> None:
        super().__init__()
        self.encoder = encoder
        self.readout: Readout = readout
        self.feature_dim = encoder.feature_dim

    @property
    def frozen_parameters(self) -> list[nn.Parameter]:
        """Those of the tower inside."""
        return self.encoder.frozen_parameters

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, F)."""
        tokens = self.encoder(inputs) if mask is None else self.encoder(inputs, mask)
        return read_tokens(tokens, mask, self.readout)


def bare_tower(model: DualEncoder, encoder: AnyTower, modality: Modality) -> AnyTower | ReadTower:
    """A tower that gives (B, F): itself, or of a model with a shared encoder its tokens as that encoder reads them.

    Args:
        model: whose tower it is, or whose tower it became.
        encoder: that tower; of a model with a shared encoder one that gives tokens.
        modality: what it encodes.
    """
    if model.shared_encoder is not None:
        return ReadTower(encoder, model.shared_encoder.readouts[modality])
    return encoder
