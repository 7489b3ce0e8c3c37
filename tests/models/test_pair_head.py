"""The pair head, alone and as a part of a model."""

from pathlib import Path

import pytest
import torch

from conftest import tiny_model_settings
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.errors import UserError
from pocketclip.models.build import build_model, start_from_bundle
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.joints import PairHeadConfig
from pocketclip.models.pair_head import PairHead
from pocketclip.types import ImageTextBatch


def make_config(**more: object) -> DualEncoderConfig:
    return DualEncoderConfig.parse({**tiny_model_settings(), **more}, place="test")


def make_batch(labels: torch.Tensor | None, images: int = 4) -> ImageTextBatch:
    random = torch.Generator().manual_seed(0)
    return ImageTextBatch(
        images=torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8, generator=random),
        tokens=torch.randint(5, 90, (images, 6), generator=random),
        token_mask=torch.ones(images, 6, dtype=torch.bool),
        image_ids=torch.arange(images),
        caption_ids=torch.arange(images) // 2,
        labels=labels,
    )


def test_logits_depend_on_directions_and_sides() -> None:
    torch.manual_seed(0)
    head = PairHeadConfig(hidden_width=16).build(8).eval()
    image, text = torch.randn(6, 8), torch.randn(3, 8).repeat_interleave(2, 0)
    logits = head(image, text)
    assert logits.shape == (3,)
    torch.testing.assert_close(head(3 * image, 0.5 * text), logits)
    swapped = image.view(3, 2, 8).flip(1).reshape(6, 8)
    assert not torch.allclose(head(swapped, text), logits)


def test_examples_do_not_touch_each_other() -> None:
    torch.manual_seed(0)
    head = PairHead(8, 16, 0.0).eval()
    image, text = torch.randn(6, 8), torch.randn(6, 8)
    torch.testing.assert_close(head(image[2:4], text[2:4]), head(image, text)[1:2])


def test_a_model_judges_labelled_batches_only() -> None:
    plain, judging = build_model(make_config()), build_model(make_config(pair_head={"hidden_width": 8}))
    labels = torch.tensor([1, 0])
    assert plain(make_batch(labels)).pair_logits is None
    assert judging(make_batch(None)).pair_logits is None
    assert judging(make_batch(labels)).pair_logits.shape == (2,)
    names = [name for name, _ in judging.part_parameters("heads")]
    assert any(name.startswith("pair_head.") for name in names)
    assert judging.heads_only().pair_head is judging.pair_head


def test_a_bundle_keeps_it_and_a_model_starts_from_one(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    """From one without a pair head, and then from one with it."""
    plain = tiny_pretrained.save_pretrained(tmp_path / "plain")
    config = make_config(pair_head={"hidden_width": 8}, bundle=str(plain))
    tokenizer, model = start_from_bundle(config, str(plain))
    assert tokenizer.to_json() == tiny_pretrained.tokenizer.to_json()
    assert_same_towers(model, tiny_pretrained.model)
    preprocess = model.image_encoder.preprocess
    kept = PretrainedModel(model, config, tokenizer, preprocess).save_pretrained(tmp_path / "judging")
    loaded = PretrainedModel.from_pretrained(kept).model
    assert loaded.pair_head is not None
    image, text = torch.randn(4, 16), torch.randn(4, 16)
    torch.testing.assert_close(loaded.pair_head.eval()(image, text), model.pair_head.eval()(image, text))  # type: ignore[misc]
    _, without = start_from_bundle(make_config(bundle=str(kept)), str(kept))
    assert without.pair_head is None
    assert_same_towers(without, model)


def assert_same_towers(one: DualEncoder, other: DualEncoder) -> None:
    first, second = one.state_dict(), other.state_dict()
    for name in first.keys() & second.keys():
        torch.testing.assert_close(first[name], second[name])
    assert {name for name in first.keys() ^ second.keys() if not name.startswith("pair_head.")} == set()


def test_another_model_or_length_than_the_bundles_is_refused(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    place = str(tiny_pretrained.save_pretrained(tmp_path / "plain"))
    with pytest.raises(UserError, match="do not fit"):
        start_from_bundle(make_config(bundle=place, embed_dim=32), place)
    settings = tiny_model_settings()
    text = {**settings["text_encoder"], "context_length": 9}  # type: ignore[dict-item]
    with pytest.raises(UserError, match=r"context_length: .* was trained with 16 \(got 9\)"):
        start_from_bundle(make_config(bundle=place, text_encoder=text), place)
    with pytest.raises(UserError, match="bundle fills both towers"):
        make_config(bundle=place, image_encoder={"kind": "timm", "name": "test_efficientnet", "pretrained": "hub"})
