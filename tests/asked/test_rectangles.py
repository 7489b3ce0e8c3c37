"""Other libraries' models of pictures that are no squares, and a student that such a teacher teaches."""

from typing import Any

import pytest
import torch

from pocketclip.asked import TimmModelConfig
from pocketclip.asked.open_clip import _preprocess
from pocketclip.asked.transformers import read_preprocess
from pocketclip.cost.flops import tower_macs
from pocketclip.cost.latency import latency
from pocketclip.errors import UserError

COLOURS = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
HUGGING_FACE = {"resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def test_a_timm_model_takes_a_rectangle_and_is_weighed_at_it() -> None:
    values = {"name": "test_vit", "pretrained": "none", "image_size": [96, 32], "feature": "cls", "resize": "squash"}
    model = TimmModelConfig.parse(values, place="x").build(torch.device("cpu"), "float32")
    assert model.preprocess.shape == (96, 32)
    assert model.embed_images(torch.zeros(2, 3, 96, 32, dtype=torch.uint8)).shape == (2, 64)
    assert tower_macs(model, image_size=(96, 32), context_length=0)["macs_image"] > 0
    timed = latency(model, image_size=(96, 32), num_tokens=0, seconds=0.01, batches=(1,))
    assert timed["image_size"] == "96 x 32"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"size": 224}, (224, "crop")),
        ({"size": (224, 224)}, (224, "crop")),
        ({"size": (384, 128), "resize_mode": "squash"}, ((384, 128), "squash")),
        ({"size": (384, 128)}, "takes pictures of 128 x 384"),
        ({"size": 224, "resize_mode": "longest"}, "takes pictures of 224 x 224"),
    ],
)
def test_open_clips_settings(settings: dict[str, Any], expected: Any) -> None:
    if isinstance(expected, str):
        with pytest.raises(UserError, match=f"x: {expected}"):
            _preprocess({**settings, **COLOURS}, "x")
        return
    read = _preprocess({**settings, **COLOURS}, "x")
    assert (read.image_size, read.resize) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"size": {"height": 224, "width": 224}}, (224, "squash")),
        ({"size": {"height": 384, "width": 128}}, ((384, 128), "squash")),
        ({"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}, (224, "crop")),
        ({"size": {"height": 384, "width": 128}, "do_center_crop": True}, "x: takes pictures of"),
        ({"size": {"shortest_edge": 128}, "crop_size": {"height": 384, "width": 128}}, "x: resizes the shorter side"),
    ],
)
def test_transformers_settings(settings: dict[str, Any], expected: Any) -> None:
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            read_preprocess({**HUGGING_FACE, **settings}, "x")
        return
    read = read_preprocess({**HUGGING_FACE, **settings}, "x")
    assert (read.image_size, read.resize) == expected
