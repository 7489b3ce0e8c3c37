"""Parameter groups: a rate for each part, no decay for one-dimensional parameters, frozen parts left out."""

import torch
from torch import nn

from conftest import tiny_model_settings
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.tower import ImageTower, TextTower
from pocketclip.train.config import AdamWConfig, LearningRates
from pocketclip.train.optimizer import build_optimizer


def tiny_model(**changes: object) -> DualEncoder:
    settings = tiny_model_settings()
    for key, value in changes.items():
        part = dict(settings[key])  # type: ignore[call-overload]
        part.update(value)
        settings[key] = part
    return build_model(DualEncoderConfig.model_validate(settings), vocabulary_size=300)


def test_every_parameter_is_in_one_group_with_its_parts_rate() -> None:
    model = tiny_model()
    rates = LearningRates(heads=1e-3, image_encoder=1e-4, text_encoder=1e-5)
    optimizer = build_optimizer(model, AdamWConfig(weight_decay=0.3), rates)
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decay_of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        expected = {"image_encoder": 1e-4, "text_encoder": 1e-5}.get(part, 1e-3)
        assert rate_of[id(parameter)] == expected, name
        assert decay_of[id(parameter)] == (0.3 if parameter.ndim >= 2 else 0.0), name
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_a_part_without_a_rate_is_frozen() -> None:
    model = tiny_model()
    build_optimizer(model, AdamWConfig(), LearningRates(heads=1e-3))
    trainable = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {"image_head", "text_head", "logit_scale"}


def test_frozen_layers_stay_out_and_in_inference_mode() -> None:
    model = tiny_model(image_encoder={"frozen_layers": 2}, text_encoder={"frozen_layers": 2})
    rates = LearningRates(heads=1e-3, image_encoder=1e-3, text_encoder=1e-3)
    optimizer = build_optimizer(model, AdamWConfig(), rates)
    inside = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert model.frozen_parameters()
    assert not inside & {id(p) for p in model.frozen_parameters()}
    assert not any(p.requires_grad for p in model.frozen_parameters())
    tower = model.text_encoder.tower
    frozen = {id(p) for p in [*tower.embeddings.parameters(), *tower.encoder.layer[0].parameters()]}
    assert frozen <= {id(p) for p in model.frozen_parameters()}
    assert id(next(tower.encoder.layer[1].parameters())) in inside
    model.train()
    assert not tower.embeddings.dropout.training
    assert tower.encoder.layer[1].output.dropout.training


def test_frozen_batch_norms_keep_their_statistics() -> None:
    model = tiny_model(image_encoder={"frozen_layers": 2})
    model.train()
    before = {name: value.clone() for name, value in model.image_encoder.named_buffers()}
    model.encode_image(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8))
    changed = {name for name, value in model.image_encoder.named_buffers() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("tower.bn1", "tower.blocks.0")) for name in changed)
    assert any(name.startswith("tower.blocks.2") for name in changed)


def test_the_study_decays_every_parameter() -> None:
    optimizer = build_optimizer(
        tiny_model(), AdamWConfig(weight_decay=0.1, decay_one_dimensional=True), LearningRates(heads=1e-3)
    )
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}


def test_embeddings_can_be_left_out_of_the_decay() -> None:
    text, image = Words(), WithClassToken()
    tower = text.layers
    model = DualEncoder(image, text, nn.Linear(4, 4), nn.Linear(4, 4))
    rates = LearningRates(heads=0.1, image_encoder=0.1, text_encoder=0.1)
    for decays in (True, False):
        optimizer = build_optimizer(model, AdamWConfig(weight_decay=0.5, decay_embeddings=decays), rates)
        decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert len(decay) == len(list(model.parameters()))
        assert decay[id(tower[0].weight)] == decay[id(image.cls_token)] == (0.5 if decays else 0)
        assert decay[id(tower[1].weight)] == decay[id(image.blocks.weight)] == 0.5
        assert decay[id(tower[1].bias)] == 0


class Words(TextTower):
    """A table of words and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4))


class WithClassToken(ImageTower):
    """Says, as timm's towers do, what should not decay."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.blocks = nn.Linear(4, 4)

    def no_weight_decay(self) -> set[str]:
        return {"cls_token", "pos_embed"}
