"""BEiT's self-supervised files."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from pocketclip.asked.timm import TimmModelConfig
from pocketclip.models.image.beit import tower_weights

SMALL: dict[str, Any] = {"depth": 2, "embed_dim": 24, "num_heads": 2, "num_classes": 0, "img_size": 32}


def pretraining(**changes: Any) -> torch.nn.Module:
    """A tower with one table of relative positions for all blocks, which is not zero."""
    torch.manual_seed(0)
    shared = {"use_rel_pos_bias": False, "use_shared_rel_pos_bias": True, "global_pool": "token"}
    model = timm.create_model("beitv2_base_patch16_224", **shared, **changes).eval()
    torch.nn.init.normal_(model.rel_pos_bias.relative_position_bias_table)
    return model


def as_published(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    names = ("mask_token", "lm_head.weight", "cls_pt_layers.0.gamma_1", "rel_pos_bias.relative_position_index")
    return {**model.state_dict(), **{name: torch.zeros(5) for name in names}}


def test_a_table_for_each_block_computes_the_same() -> None:
    shared = pretraining(**SMALL)
    tower = timm.create_model("beitv2_base_patch16_224", global_pool="token", **SMALL).eval()
    tower.load_state_dict(tower_weights(as_published(shared)))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(tower(images), shared(images))


def test_other_towers_keep_their_weights() -> None:
    weights = {"mask_token": torch.zeros(1), "blocks.0.x": torch.zeros(1)}
    assert tower_weights(weights) == weights


@pytest.mark.slow
def test_the_published_teacher_reads_such_a_file(tmp_path: Path) -> None:
    """At the published widths and depth, since timm's name fixes them; on a small picture."""
    model = pretraining(num_classes=0, img_size=32)
    torch.save({"model": as_published(model)}, tmp_path / "pt1k.pth")
    settings = {"name": "beitv2_base_patch16_224", "pretrained": str(tmp_path / "pt1k.pth"), "feature": "cls"}
    teacher = TimmModelConfig.parse({**settings, "image_size": 32}, place="test").build(torch.device("cpu"), "float32")
    assert (teacher.embed_dim, teacher.short_name) == (768, "beitv2_base_patch16_224-pt1k")
    model.norm = torch.nn.Identity()
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (teacher.preprocess.mean, teacher.preprocess.std))
    with torch.no_grad():
        expected = model((images.float() / 255 - mean) / std)
    torch.testing.assert_close(teacher.embed_images(images), expected, rtol=1e-3, atol=1e-3)
