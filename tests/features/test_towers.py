"""Features of frozen towers: those of the towers themselves, and never those of other settings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import Told, tiny_model_settings
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.data.source import Source
from pocketclip.errors import UserError
from pocketclip.features.cache import CacheConfig
from pocketclip.features.pairs import CachedPairs
from pocketclip.features.towers import FrozenTowers, features_in_memory
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.running.runner import Runner
from pocketclip.preprocess import decode_image, resize_image
from pocketclip.stages.watch import BrokenItems
from pocketclip.tokenizer import Tokenizer, train_tokenizer

CPU = torch.device("cpu")
BERT = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}


@pytest.fixture
def source() -> Source:
    return open_source("scenes:5,image_size=32")


@pytest.fixture
def tokenizer(source: Source) -> Tokenizer:
    captions = [caption for index in range(len(source)) for caption in source.captions(index)]
    return train_tokenizer(captions, vocabulary_size=60, context_length=16)


def build(tokenizer: Tokenizer, part: str = "image_encoder", **changes: object) -> DualEncoder:
    settings: dict[str, Any] = tiny_model_settings()
    settings[part] = {**settings[part], **changes}
    torch.manual_seed(0)
    config = DualEncoderConfig.parse(settings, place="model")
    return build_model(config, vocabulary_size=tokenizer.vocabulary_size).eval()


def encode(
    model: DualEncoder, tokenizer: Tokenizer, source: Source, root: Path, *, max_broken: float = 0.0, **views: Any
) -> CachedPairs:
    towers = FrozenTowers(model, tokenizer, model.image_encoder.preprocess, root=root, device=CPU, precision="float32")
    broken = BrokenItems(len(source), max_broken)
    return towers.features(source, CacheConfig(**views), broken)


def test_features_are_those_of_the_towers(tokenizer: Tokenizer, source: Source, tmp_path: Path) -> None:
    model = build(tokenizer)
    pairs = encode(model, tokenizer, source, tmp_path, views=("centre", "flip"))
    for index in range(len(source)):
        sample = source[index]
        pixels = resize_image(decode_image(sample.image, place=""), model.image_encoder.preprocess)
        image = torch.from_numpy(np.stack([pixels, pixels[:, ::-1]])).permute(0, 3, 1, 2)
        tokens, mask = tokenizer.encode(sample.captions)
        with torch.no_grad():
            views = model.image_encoder(image).numpy()
            texts = model.text_encoder(torch.from_numpy(tokens), torch.from_numpy(mask)).numpy()
        np.testing.assert_allclose(pairs.images[index], views, rtol=2e-3, atol=2e-3)  # float16 has three digits
        first = int(pairs.first_caption[index])
        np.testing.assert_allclose(pairs.texts[first : first + 2], texts, rtol=2e-3, atol=2e-3)


def test_features_kept_nowhere_are_the_same(tokenizer: Tokenizer, source: Source, tmp_path: Path) -> None:
    model = build(tokenizer)
    runner = Runner(model, device=CPU, precision="float32", image_size=32, heads=False)
    direct = features_in_memory(runner, source, tokenizer, model.image_encoder.preprocess)
    cached = encode(model, tokenizer, source, tmp_path)
    assert np.array_equal(direct.images.astype(np.float16), cached.images)
    assert np.array_equal(direct.texts.astype(np.float16), cached.texts)
    assert np.array_equal(direct.caption_ids, cached.caption_ids)
    assert direct.images.dtype == np.float32


LITE = {"name": "tf_efficientnet_lite0"}
PADDED_OTHERWISE = {"name": "efficientnet_lite0", "normalization": "imagenet"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "first", "second"),
    [
        ("text_encoder", {"pooling": "mean"}, {"pooling": "cls"}),
        ("text_encoder", {"joined_layers": [0]}, {"joined_layers": [1]}),
        ("image_encoder", {"joined_stages": [0]}, {"joined_stages": [0, 1]}),
        ("image_encoder", LITE, {**LITE, "normalization": "imagenet"}),
        ("image_encoder", {"resize": "squash"}, {"resize": "crop", "crop_fraction": 0.5}),
        (
            "image_encoder",
            {"name": "xcit_nano_12_p16_224", "pooling": "cls"},
            {"name": "xcit_nano_12_p16_224", "pooling": "average"},
        ),
        (
            "image_encoder",
            {**LITE, "normalization": "imagenet"},
            PADDED_OTHERWISE,
        ),
        (
            "text_encoder",
            {"architecture": {**BERT, "num_attention_heads": 2}},
            {"architecture": {**BERT, "num_attention_heads": 4}},
        ),
    ],
)
def test_equal_weights_in_another_tower_give_features_of_its_own(
    part: str, first: dict[str, object], second: dict[str, object], tokenizer: Tokenizer, source: Source, tmp_path: Path
) -> None:
    one, other = build(tokenizer, part, **first), build(tokenizer, part, **second)
    other.image_encoder.load_state_dict(one.image_encoder.state_dict())
    other.text_encoder.load_state_dict(one.text_encoder.state_dict())
    encode(one, tokenizer, source, tmp_path / "shared")
    alone = encode(other, tokenizer, source, tmp_path / "alone")
    again = encode(other, tokenizer, source, tmp_path / "shared")
    assert np.array_equal(again.images, alone.images)
    assert np.array_equal(again.texts, alone.texts)


def test_another_image_tower_uses_the_texts_again(tokenizer: Tokenizer, source: Source, tmp_path: Path) -> None:
    model = build(tokenizer)
    encode(model, tokenizer, source, tmp_path)
    other = build(tokenizer, name="test_resnet")
    other.text_encoder.load_state_dict(model.text_encoder.state_dict())
    encode(other, tokenizer, source, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_heads_and_temperature_do_not_matter(tokenizer: Tokenizer, source: Source, tmp_path: Path) -> None:
    model = build(tokenizer)
    encode(model, tokenizer, source, tmp_path)
    with torch.no_grad():
        model.logit_scale.add_(1)
        model.image_head.weight.zero_()
    encode(model, tokenizer, source, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_progress_is_told_for_images_and_captions(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    source, told = open_source("scenes:5,image_size=32"), []
    towers = FrozenTowers(
        tiny_pretrained.model, tiny_pretrained.tokenizer, tiny_pretrained.preprocess, root=tmp_path, device=CPU
    )
    for _ in range(2):
        towers.features(source, CacheConfig(), BrokenItems(5, 0, watch=Told(lambda *numbers: told.append(numbers[:3]))))
    done = [("encoding images", 5, 5), ("encoding captions", 5, 5)]
    assert told == [("encoding images", 0, 5), done[0], ("encoding captions", 0, 5), done[1], *done]


@pytest.mark.parametrize("again", [False, True])
def test_too_many_broken_pictures_stop_it_from_the_cache_too(
    again: bool, make_folder: Callable[..., Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder = make_folder(10)
    (folder / "004.jpg").write_bytes(b"no picture")
    source, model = open_source(f"folder:{folder}"), build(tokenizer)
    if again:
        assert len(encode(model, tokenizer, source, tmp_path / "cache", max_broken=0.1)) == 9
    with pytest.raises(UserError, match=r"1 of 10 items are broken, more than the allowed share of 0\.0%"):
        encode(model, tokenizer, source, tmp_path / "cache", max_broken=0.0)
