"""A shared encoder, which both modalities pass through in one step, follows one process on several ranks."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from pocketclip import distributed
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.joints import SharedTransformerConfig
from pocketclip.models.tower import ImageTower, TextTower
from pocketclip.train.gradient_cache import chunked_backward
from pocketclip.train.parallel import Alone, Replicated, Sharded
from pocketclip.types import Features, ImageTextBatch
from processes import run_ranks

BATCH, STEPS = 8, 4


class Tokens(ImageTower, TextTower):
    """Gives four tokens an input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, 8)])

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        del mask
        return self.layers[0](values).tanh()


def objective(features: Features, batch: ImageTextBatch) -> dict[str, Tensor]:
    """A mean over pairs, so that the mean of the ranks is that of the whole."""
    del batch
    pairs = [(features.image, features.text), *((layer.image, layer.text) for layer in features.layers)]
    return {str(number): (image - text + 0.5).square().mean() for number, (image, text) in enumerate(pairs)}


def curve(kind: str, chunk_size: int | None) -> list[float]:
    """The sum of all weights after each step, and the whole state's at the end."""
    torch.manual_seed(0)
    shared = SharedTransformerConfig(num_layers=2, num_heads=2).build(8, has_class_token=True)
    model = DualEncoder(
        Tokens(6), Tokens(5), nn.Linear(8, 8), nn.Identity(), shared_encoder=shared, learn_temperature=False
    )
    parallel = {"alone": Alone, "ddp": Replicated, "fsdp": Sharded}[kind](model)
    optimizer = torch.optim.SGD(parallel.model.parameters(), lr=0.5)
    values = []
    for step in range(STEPS):
        random = torch.Generator().manual_seed(step)
        mask = torch.arange(4) < torch.randint(1, 5, (BATCH, 1), generator=random)
        images, texts = torch.randn(BATCH, 3, 6, generator=random), torch.randn(BATCH, 4, 5, generator=random)
        whole = ImageTextBatch(images, texts, mask, torch.arange(BATCH), torch.arange(BATCH))
        place = distributed.own_share(BATCH)
        batch = whole.pairs(place.start, place.stop)
        optimizer.zero_grad()
        if chunk_size is None:
            torch.stack(list(objective(parallel.forward(batch), batch).values())).sum().backward()
        else:
            chunked_backward(parallel, objective, batch, chunk_size=chunk_size, autocast=nullcontext)
        parallel.finish_gradients()
        optimizer.step()
        values += [float(value.double().square().sum()) for value in parallel.state_dict().values()]
    return values


def on_a_rank(rank: int, kind: str) -> list[list[float]]:
    del rank
    return [curve(kind, chunk_size) for chunk_size in (None, 2)]


@pytest.mark.parametrize("kind", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_ranks_follow_one_process(kind: str) -> None:
    expected = curve("alone", None)
    for chunked in (curve("alone", 3), *(found for ranks in run_ranks(on_a_rank, 2, kind) for found in ranks)):
        assert chunked == pytest.approx(expected, rel=1e-4, abs=1e-5)
