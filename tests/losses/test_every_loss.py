"""Each loss of the union gives its own value at every size and on ranks; a new one is covered here, or fails.

What is expected is `reference(inputs)` of the loss's own test, `test_KIND.py`: a slow loop.
"""

from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from pocketclip.config import kinds_of
from pocketclip.errors import UserError
from pocketclip.losses import LossConfig
from pocketclip.losses.config import ContrastiveLossConfig
from pocketclip.losses.contrastive import ContrastiveInputs
from processes import run_ranks

LOSSES = kinds_of(LossConfig)
SHARES = (3, 5)


def make_inputs(kind: str) -> ContrastiveInputs:
    """A batch in which an image and a caption come twice, far enough apart to lie on different ranks."""
    count, captions = sum(SHARES), 2 if LOSSES[kind].takes_several_captions else 1
    random = torch.Generator().manual_seed(0)
    image_ids, caption_ids = torch.arange(count), torch.arange(count * captions)
    image_ids[-1], caption_ids[-2] = image_ids[0], caption_ids[1]
    return ContrastiveInputs(
        torch.randn(count, 6, generator=random, dtype=torch.float64),
        torch.randn(count * captions, 6, generator=random, dtype=torch.float64),
        torch.tensor(4.0, dtype=torch.float64),
        torch.tensor(-2.0, dtype=torch.float64),
        image_ids,
        caption_ids,
    )


def share_of(rank: int, inputs: ContrastiveInputs) -> ContrastiveInputs:
    images = slice(sum(SHARES[:rank]), sum(SHARES[: rank + 1]))
    captions = len(inputs.text) // len(inputs.image)
    texts = slice(images.start * captions, images.stop * captions)
    return replace(
        inputs,
        image=inputs.image[images],
        text=inputs.text[texts],
        image_ids=inputs.image_ids[images],
        caption_ids=inputs.caption_ids[texts],
        shares=SHARES,
    )


def expected(kind: str) -> float:
    file = Path(__file__).with_name(f"test_{kind}.py")
    spec = spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reference(make_inputs(kind))


@pytest.mark.parametrize("kind", LOSSES)
def test_a_batch_whose_matrix_fits(kind: str) -> None:
    inputs = make_inputs(kind)
    assert not inputs.are_large
    assert float(LOSSES[kind]().value(inputs)) == pytest.approx(expected(kind), rel=1e-10)


@pytest.mark.parametrize("kind", LOSSES)
def test_a_batch_above_the_limit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketclip.losses.contrastive.MATRIX_LIMIT", 10)
    inputs = make_inputs(kind)
    assert inputs.are_large
    assert float(LOSSES[kind]().value(inputs)) == pytest.approx(expected(kind), rel=1e-10)


def values_of_a_share(rank: int) -> dict[str, Tensor]:
    return {kind: loss().value(share_of(rank, make_inputs(kind))) for kind, loss in LOSSES.items()}


@pytest.fixture(scope="module")
def on_ranks() -> list[dict[str, Tensor]]:
    return run_ranks(values_of_a_share, len(SHARES))


@pytest.mark.parametrize("kind", LOSSES)
def test_a_batch_over_two_ranks(kind: str, on_ranks: list[dict[str, Tensor]]) -> None:
    mean = torch.stack([one[kind] for one in on_ranks]).mean()
    assert float(mean) == pytest.approx(expected(kind), rel=1e-10)


class PlainOnlyConfig(ContrastiveLossConfig):
    kind: Literal["plain_only"] = "plain_only"

    def plain(self, inputs: ContrastiveInputs) -> Tensor:
        return inputs.logit_scale


@pytest.mark.parametrize("over_ranks", [False, True])
def test_a_loss_without_a_large_form_is_refused_where_one_is_asked_for(
    over_ranks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = make_inputs("clip")
    assert PlainOnlyConfig().value(inputs) == inputs.logit_scale
    if over_ranks:
        inputs = share_of(0, inputs)
    else:
        monkeypatch.setattr("pocketclip.losses.contrastive.MATRIX_LIMIT", 10)
    with pytest.raises(UserError, match=r"plain_only has no form for several processes, nor for more than .* pairs"):
        PlainOnlyConfig().value(inputs)
