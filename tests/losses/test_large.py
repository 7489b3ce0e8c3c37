"""Each loss over several ranks against the plain one over the whole batch."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketclip.losses import tiles
from pocketclip.losses.affinity import affinity_loss
from pocketclip.losses.clip import clip_loss
from pocketclip.losses.config import ClipLossConfig, MultiPositiveLossConfig, SigmoidLossConfig, SoftTargetLossConfig
from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.losses.large import large_affinity_loss
from pocketclip.losses.matches import positive_pairs
from pocketclip.losses.multi_positive import multi_positive_loss
from pocketclip.losses.sigmoid import sigmoid_loss
from pocketclip.losses.soft_target import soft_target_loss
from processes import run_ranks

KINDS = ["clip", "smoothed", "soft_target", "multi_positive", "sigmoid", "affinity"]
SEVERAL = ["multi_positive", "sigmoid", "affinity"]
SHARES = [[3, 4], [1, 5, 2], [4, 4]]
CAPTIONS = 2
Result = dict[str, Tensor]


def whole_batch(total: int, captions: int) -> dict[str, Tensor]:
    """Features and ids; an image and a caption come twice, far enough apart to lie on different ranks."""
    random = torch.Generator().manual_seed(total)
    image_ids, caption_ids = torch.arange(total), torch.arange(total * captions)
    image_ids[-1], caption_ids[-2] = image_ids[0], caption_ids[1]
    return {
        "image": F.normalize(torch.randn(total, 6, generator=random, dtype=torch.float64), dim=1),
        "text": F.normalize(torch.randn(total * captions, 6, generator=random, dtype=torch.float64), dim=1),
        "scale": torch.tensor(9.0, dtype=torch.float64),
        "bias": torch.tensor(-2.0, dtype=torch.float64),
        "image_ids": image_ids,
        "caption_ids": caption_ids,
        **teacher_rows("image", total, random),
        **teacher_rows("text", total * captions, random),
    }


SCALES = (30.0, 8.0)


def teacher_rows(of: str, count: int, random: torch.Generator) -> dict[str, Tensor]:
    """Two teachers of different width."""
    rows = {f"{of}_{width}": torch.randn(count, width, generator=random, dtype=torch.float64) for width in (5, 9)}
    return {name: F.normalize(value, dim=1) for name, value in rows.items()}


def teachers(batch: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor], tuple[float, ...]]:
    images, texts = ([batch[f"{of}_{width}"] for width in (5, 9)] for of in ("image", "text"))
    return images, texts, SCALES


def leaves(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: batch[name].clone().requires_grad_() for name in ("image", "text", "scale", "bias")}


def plain(kind: str, batch: dict[str, Tensor]) -> Result:
    values = leaves(batch)
    raw = values["image"], values["text"], values["scale"]
    pairs = F.normalize(raw[0], dim=1), F.normalize(raw[1], dim=1), raw[2]
    captions = len(batch["text"]) // len(batch["image"])
    positives = positive_pairs(batch["image_ids"], batch["image_ids"].repeat_interleave(captions), batch["caption_ids"])
    losses: dict[str, Callable[[], Tensor]] = {
        "clip": lambda: clip_loss(*pairs),
        "smoothed": lambda: clip_loss(*pairs, label_smoothing=0.2),
        "soft_target": lambda: soft_target_loss(*raw),
        "multi_positive": lambda: multi_positive_loss(*pairs, positives),
        "sigmoid": lambda: sigmoid_loss(*pairs, values["bias"], positives=positives),
        "affinity": lambda: affinity_loss(*pairs, *teachers(batch)),
    }
    loss = losses[kind]()
    loss.backward()
    return {"loss": loss.detach(), **{name: value.grad for name, value in values.items() if value.grad is not None}}


def sharded(rank: int, kind: str, batch: dict[str, Tensor], shares: list[int]) -> Result:
    captions = len(batch["text"]) // len(batch["image"])
    own = slice(sum(shares[:rank]), sum(shares[: rank + 1]))
    own_texts = slice(own.start * captions, own.stop * captions)
    part = {
        name: value[own_texts if name.startswith(("text", "caption")) else own] if value.ndim else value
        for name, value in batch.items()
    }
    values = leaves(part)
    scalars, ids = (values["scale"], values["bias"]), (part["image_ids"], part["caption_ids"])
    inputs = ContrastiveInputs(values["image"], values["text"], *scalars, *ids, tuple(shares))
    losses: dict[str, Callable[[], Tensor]] = {
        "clip": lambda: ClipLossConfig().large(inputs),
        "smoothed": lambda: ClipLossConfig(label_smoothing=0.2).large(inputs),
        "soft_target": lambda: SoftTargetLossConfig().large(inputs),
        "multi_positive": lambda: MultiPositiveLossConfig().large(inputs),
        "sigmoid": lambda: SigmoidLossConfig().large(inputs),
        "affinity": lambda: large_affinity_loss(inputs, *teachers(part)),
    }
    loss = losses[kind]()
    loss.backward()
    return {"loss": loss.detach(), **{name: value.grad for name, value in values.items() if value.grad is not None}}


def every_kind(rank: int, shares: list[int]) -> dict[str, Result]:
    tiles.TILE = 3  # of this process
    total = sum(shares)
    single, several = whole_batch(total, 1), whole_batch(total, CAPTIONS)
    return {kind: sharded(rank, kind, several if kind in SEVERAL else single, shares) for kind in KINDS}


@pytest.fixture(scope="module", params=SHARES, ids=str)
def outcomes(request: pytest.FixtureRequest) -> tuple[list[int], list[dict[str, Result]]]:
    return request.param, run_ranks(every_kind, len(request.param), request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_over_ranks_is_the_loss_of_the_whole_batch(
    outcomes: tuple[list[int], list[dict[str, Result]]], kind: str
) -> None:
    shares, found = outcomes
    captions = CAPTIONS if kind in SEVERAL else 1
    expected = plain(kind, whole_batch(sum(shares), captions))
    results = [one[kind] for one in found]
    loss = torch.stack([result["loss"] for result in results]).mean()
    assert torch.allclose(loss, expected["loss"], rtol=1e-12, atol=1e-12)
    for name in expected.keys() - {"loss"}:
        parts = [result[name] / len(shares) for result in results]  # as averaging over ranks does
        actual = torch.cat(parts) if name in ("image", "text") else torch.stack(parts).sum()
        assert torch.allclose(actual, expected[name], rtol=1e-10, atol=1e-12), name
