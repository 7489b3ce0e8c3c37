"""A loss over pairs, and beside it SimCLR's over two further views of each image: SLIP, where the first is CLIP's."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip import distributed
from pocketclip.losses.nt_xent import nt_xent_loss
from pocketclip.types import Features, ImageTextBatch


class WithSimclr(nn.Module):
    """SLIP's objective, https://arxiv.org/abs/2112.12750, with a projector over the image tower's features.

    The features of all ranks are gathered before the projector, so its batch norms see the whole batch as well as the
    loss does: any number of ranks, and of chunks in which the tower was run, learns what one pass would.
    """

    def __init__(
        self,
        pairs: Callable[[Features, ImageTextBatch], Mapping[str, Tensor]],
        *,
        feature_dim: int,
        hidden_width: int,
        width: int,
        temperature: float,
        weight: float,
    ) -> None:
        super().__init__()
        self.pairs, self.temperature, self.weight = pairs, temperature, weight
        self.projector = nn.Sequential(
            nn.Linear(feature_dim, hidden_width, bias=False),
            nn.BatchNorm1d(hidden_width),
            nn.ReLU(),
            nn.Linear(hidden_width, hidden_width, bias=False),
            nn.BatchNorm1d(hidden_width),
            nn.ReLU(),
            nn.Linear(hidden_width, width),
        )

    def forward(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        """The losses over pairs by their names, and `simclr`; every rank computes that of the whole batch."""
        assert len(features.views) == 2, "the batch carries no two further views"
        views = [distributed.gather(view, batch.shares) for view in features.views]
        first, second = (F.normalize(self.projector(view), dim=1) for view in views)
        return {**self.pairs(features, batch), "simclr": self.weight * nt_xent_loss(first, second, self.temperature)}
