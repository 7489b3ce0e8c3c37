"""An image tower with a classifier behind it, in the form of a model that the training loop takes."""

import torch
from torch import Tensor, nn

from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.tower import ImageTower, TextTower


class NoTexts(TextTower):
    """Stands in for a text tower where only images are classified."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(M, width) of zeros."""
        del mask
        return torch.zeros(len(tokens), self.width, device=tokens.device)


def with_classifier(tower: ImageTower, num_classes: int) -> DualEncoder:
    """A tower with a linear layer of zeros behind it; the other half of the model has no part in it."""
    head = nn.Linear(tower.feature_dim, num_classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return DualEncoder(tower, NoTexts(num_classes), head, nn.Identity(), learn_temperature=False)
