"""What is locked stays to the bit, batch-norm statistics included, whatever the optimizer; the rest is trained."""

import pytest
import torch

from conftest import tiny_model_settings
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.running.precision import autocast
from pocketclip.objectives.config import ContrastiveObjectiveConfig
from pocketclip.train.config import TrainConfig
from pocketclip.train.modes import set_modes
from pocketclip.train.optimizer import build_optimizer
from pocketclip.train.step import train_step
from pocketclip.types import ImageTextBatch

ALL = {"heads": 0.01, "image_encoder": 0.01, "text_encoder": 0.01}
CLIP = {"kind": "clip", "width": 16, "num_layers": 3, "num_heads": 2, "tokenizer": "captions", "pooling": "last"}
CLIP |= {"vocabulary_size": 300, "context_length": 16}
HYBRID = {**CLIP, "causal": False, "convolution_layers": [0, 2], "kernel_size": 3}
TIMM = {"kind": "timm", "pretrained": "none", "image_size": 32}
VIT = {**TIMM, "name": "vit_base_patch16_224"}
VIT["architecture"] = {"embed_dim": 16, "depth": 2, "num_heads": 2}
RESNET = {"kind": "clip_resnet", "width": 8, "num_blocks": [1, 1, 1, 1], "image_size": 32}

LOCKED = {  # the model's changed parts, the rates, and how the names of what stays begin
    "the image tower": ({}, {**ALL, "image_encoder": None}, ["image_encoder."]),
    "the text tower": ({"text_encoder": HYBRID}, {**ALL, "text_encoder": None}, ["text_encoder."]),
    "the heads": ({}, {**ALL, "heads": None}, ["image_head.", "text_head.", "logit_scale"]),
    "no part, and a temperature": ({"learn_temperature": False}, ALL, ["logit_scale"]),
    "layers of CLIP's text tower": (
        {"text_encoder": {**CLIP, "frozen_layers": 3}},
        ALL,
        ["text_encoder.token_", "text_encoder.position_", "text_encoder.layers.0.", "text_encoder.layers.1."],
    ),
    "convolutions over texts": (
        {"text_encoder": {**HYBRID, "frozen_layers": 2}},
        ALL,
        ["text_encoder.token_", "text_encoder.position_", "text_encoder.layers.0."],
    ),
    "layers of a Hugging Face text tower": (
        {"text_encoder": {**tiny_model_settings()["text_encoder"], "frozen_layers": 2}},  # type: ignore[dict-item]
        ALL,
        ["text_encoder.tower.embeddings.", "text_encoder.tower.encoder.layer.0."],
    ),
    "layers with batch norms": (
        {"image_encoder": {**TIMM, "name": "test_efficientnet", "frozen_layers": 3}},
        ALL,
        [
            "image_encoder.tower.conv_stem.",
            "image_encoder.tower.bn1.",
            *(f"image_encoder.tower.blocks.{n}." for n in (0, 1)),
        ],
    ),
    "stages of a ResNet": (
        {"image_encoder": {**TIMM, "name": "test_resnet", "frozen_layers": 2}},
        ALL,
        ["image_encoder.tower.conv1.", "image_encoder.tower.bn1.", "image_encoder.tower.layer1."],
    ),
    "stages of CLIP's ResNet": (
        {"image_encoder": {**RESNET, "frozen_layers": 2}},
        ALL,
        ["image_encoder.stem.", "image_encoder.stages.0."],
    ),
    "blocks of a ViT": (
        {"image_encoder": {**VIT, "frozen_layers": 2}},
        ALL,
        [
            "image_encoder.tower.patch_embed.",
            "image_encoder.tower.cls_",
            "image_encoder.tower.pos_",
            "image_encoder.tower.blocks.0.",
        ],
    ),
}


def batches(count: int) -> list[ImageTextBatch]:
    random = torch.Generator().manual_seed(0)
    return [
        ImageTextBatch(
            images=torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=random),
            tokens=torch.randint(5, 300, (6, 9), generator=random),
            token_mask=torch.ones(6, 9, dtype=torch.bool),
            image_ids=torch.arange(6),
            caption_ids=torch.arange(6),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
@pytest.mark.parametrize("what", LOCKED)
def test_what_is_locked_stays(what: str, optimizer: str) -> None:
    changes, rates, locked = LOCKED[what]
    torch.manual_seed(0)
    model = build_model(
        DualEncoderConfig.parse({**tiny_model_settings(), **changes}, place="model"), vocabulary_size=300
    )
    settings = {
        "num_steps": 2,
        "batch_size": 6,
        "learning_rate": rates,
        "optimizer": {"kind": optimizer, "weight_decay": 0.1},
    }
    config = TrainConfig.parse(settings, place="train")
    updates = build_optimizer(model, config.optimizer, config.learning_rate)
    objective = ContrastiveObjectiveConfig.parse({}, place="objective").build(embed_dim=16, teacher_widths=())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    set_modes(model, config)
    for batch in batches(2):
        train_step(
            model,
            objective,
            batch,
            updates,
            autocast=lambda: autocast("float32", torch.device("cpu")),
            max_grad_norm=1.0,
        )
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    stays = {name for name in before if name.startswith(tuple(locked))}
    assert all(any(name.startswith(begin) for name in before) for begin in locked)
    assert not changed & stays
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained <= changed | {name for name in trained if name.endswith(("key.bias", "bias_k"))}
    statistics = {name for name in before if name.endswith(("running_mean", "running_var"))}
    assert statistics - stays <= changed
