"""The dual encoder: what it shares, splits and clamps."""

import math

import pytest
import torch
from torch import Tensor, nn

from conftest import tiny_model_settings
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.errors import UserError
from pocketclip.models import DualEncoder, DualEncoderConfig, build_model
from pocketclip.models.dual_encoder import MAX_LOGIT_SCALE, PARTS
from pocketclip.models.tower import CachedTower, ImageTower, NoTower, TextTower
from pocketclip.types import ImageTextBatch


class OneLayer(ImageTower, TextTower):
    """The least that is a tower."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 4)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        del mask
        return self.layer(inputs)


def small(**settings: object) -> DualEncoder:
    return DualEncoder(OneLayer(7), OneLayer(6), nn.Linear(4, 3), nn.Linear(4, 3), **settings)  # type: ignore[arg-type]


@pytest.fixture
def batch(tiny_pretrained: PretrainedModel) -> ImageTextBatch:
    tokens, mask = tiny_pretrained.tokenizer.encode(["a red circle", "a blue star", "small", "a large red square"])
    random = torch.Generator().manual_seed(0)
    return ImageTextBatch(
        images=torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=random),
        tokens=torch.from_numpy(tokens),
        token_mask=torch.from_numpy(mask),
        image_ids=torch.arange(2),
        caption_ids=torch.arange(4),
    )


def test_a_batch_becomes_embeddings_with_the_temperature(
    tiny_pretrained: PretrainedModel, batch: ImageTextBatch
) -> None:
    model = tiny_pretrained.model
    features = model(batch)
    assert features.image.shape == (2, 16)
    assert features.text.shape == (4, 16)
    assert torch.equal(features.image, model.image_head(model.image_encoder(batch.images)))
    assert torch.equal(features.text, model.text_head(model.text_encoder(batch.tokens, batch.token_mask)))
    assert float(features.logit_scale.detach()) == pytest.approx(1 / 0.07)
    assert float(features.logit_bias) == 0


def test_cached_features_give_what_the_whole_model_gives(
    tiny_pretrained: PretrainedModel, batch: ImageTextBatch
) -> None:
    model = tiny_pretrained.model.eval()
    cached = ImageTextBatch(
        images=model.image_encoder(batch.images),
        tokens=model.text_encoder(batch.tokens, batch.token_mask),
        token_mask=torch.zeros(4, 0, dtype=torch.bool),
        image_ids=batch.image_ids,
        caption_ids=batch.caption_ids,
    )
    whole, heads = model(batch), model.heads_only()(cached)
    assert torch.equal(heads.image, whole.image)
    assert torch.equal(heads.text, whole.text)
    assert torch.equal(heads.logit_scale, whole.logit_scale)


def test_training_the_heads_alone_trains_the_whole_model() -> None:
    model = small(logit_bias=-1.0)
    heads = model.heads_only()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(heads.parameters(), lr=0.1)
    heads(
        ImageTextBatch(
            torch.randn(2, 4), torch.randn(2, 4), torch.zeros(2, 0, dtype=torch.bool), torch.arange(2), torch.arange(2)
        )
    ).image.sum().backward()
    (heads.logit_scale + heads.logit_bias).backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"image_head.weight", "image_head.bias", "logit_scale", "logit_bias"}


def test_the_heads_alone_hold_no_tower() -> None:
    names = {name for name, _ in small().heads_only().named_parameters()}
    assert names == {"image_head.weight", "image_head.bias", "text_head.weight", "text_head.bias", "logit_scale"}


def test_a_fixed_temperature_stays_fixed_in_the_heads_alone() -> None:
    heads = small(learn_temperature=False).heads_only()
    assert "logit_scale" not in dict(heads.named_parameters())
    assert float(heads.logit_scale) == pytest.approx(math.log(1 / 0.07))


def test_a_cached_tower_passes_features_through() -> None:
    features = torch.randn(3, 5)
    assert CachedTower()(features, torch.ones(3, 0, dtype=torch.bool)) is features


def test_where_there_is_no_tower_running_it_says_so() -> None:
    model = build_model(
        DualEncoderConfig.parse(tiny_model_settings(), place="model"), vocabulary_size=50, text_only=True
    )
    assert isinstance(model.image_encoder, NoTower)
    with pytest.raises(UserError, match="no tower for these inputs; load it whole"):
        model.encode_image(torch.zeros(1, 3, 32, 32))


def test_a_tower_says_what_it_cannot_do() -> None:
    tower = OneLayer(3)
    with pytest.raises(UserError, match="a OneLayer gives no tokens"):
        tower.give_tokens()
    with pytest.raises(UserError, match=r"train\.checkpoint_activations: there is none for a OneLayer"):
        tower.checkpoint_activations()
    with pytest.raises(UserError, match=r"text_encoder\.vocabulary: a OneLayer keeps all its words"):
        tower.keep_tokens([0])
    assert (tower.settings, tower.architecture, tower.frozen_parameters) == ({}, {}, [])


def test_frozen_modules_stay_as_in_inference_and_their_parameters_from_the_optimizer() -> None:
    tower = OneLayer(3)
    tower.frozen_modules = [tower.layer]
    assert not tower.train().layer.training
    assert tower.training
    assert [id(value) for value in small().frozen_parameters()] == []
    assert [id(value) for value in tower.frozen_parameters] == [id(tower.layer.weight), id(tower.layer.bias)]


@pytest.mark.parametrize(("value", "clamped"), [(9.0, MAX_LOGIT_SCALE), (-1.0, 0.0), (2.0, 2.0)])
def test_the_temperatures_exponential_stays_between_1_and_100(value: float, clamped: float) -> None:
    model = small()
    model.logit_scale.data.fill_(value)
    model.clamp_logit_scale()
    assert float(model.logit_scale.detach()) == pytest.approx(clamped)
    assert math.exp(MAX_LOGIT_SCALE) == pytest.approx(100)


def test_a_fixed_temperature_is_not_clamped() -> None:
    model = small(learn_temperature=False, temperature=0.001)
    model.clamp_logit_scale()
    assert float(model.logit_scale.exp()) == pytest.approx(1000)


@pytest.mark.parametrize(
    ("settings", "learned"),
    [
        ({}, {"logit_scale"}),
        ({"learn_temperature": False}, set()),
        ({"logit_bias": -3.0}, {"logit_scale", "logit_bias"}),
    ],
)
def test_temperature_and_bias_are_parameters_only_where_learned(settings: dict[str, object], learned: set[str]) -> None:
    model = small(**settings)
    assert {name for name, _ in model.named_parameters() if name.startswith("logit_")} == learned
    assert {"logit_scale", "logit_bias"} <= set(model.state_dict())  # a bundle keeps both


def test_the_parts_hold_every_parameter_once(tiny_pretrained: PretrainedModel) -> None:
    model = tiny_pretrained.model
    names = [name for part in PARTS for name, _ in model.part_parameters(part)]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert all(name.startswith("image_encoder.") for name, _ in model.part_parameters("image_encoder"))
    assert "logit_scale" in {name for name, _ in model.part_parameters("heads")}


def test_embeddings_are_float32_whatever_the_towers_compute_in() -> None:
    model = small()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.image_encoder(torch.ones(2, 7)).dtype == torch.bfloat16
        assert model.encode_image(torch.ones(2, 7)).dtype == torch.float32


def test_the_bias_starts_where_the_config_says() -> None:
    settings = {**tiny_model_settings(), "logit_bias": -2.5, "temperature": 0.1}
    model = build_model(DualEncoderConfig.parse(settings, place="model"), vocabulary_size=50)
    assert float(model.logit_bias.detach()) == -2.5
    assert float(model.logit_scale.exp().detach()) == pytest.approx(10)


def test_the_text_side_can_be_built_alone() -> None:
    config = DualEncoderConfig.parse(tiny_model_settings(), place="model")
    model = build_model(config, vocabulary_size=50, text_only=True)
    tokens = torch.ones(2, 5, dtype=torch.int64)
    assert model.encode_text(tokens, tokens.bool()).shape == (2, 16)
    assert not [name for name in model.state_dict() if name.startswith("image_")]


def test_a_model_describes_its_text_tower_with_the_vocabulary_it_has() -> None:
    config = DualEncoderConfig.parse(tiny_model_settings(), place="model")
    architecture = build_model(config, vocabulary_size=77).architecture()
    assert (architecture["model_type"], architecture["vocab_size"]) == ("bert", 77)
