"""Towers have the parameters and feature widths that their papers and libraries publish."""

import json
from importlib import resources

import pytest
import torch

from pocketclip.models.image import TimmImageEncoderConfig
from pocketclip.models.text import HuggingFaceTextEncoderConfig

SIZES = sorted(path.name for path in (resources.files("pocketclip.models") / "sizes").iterdir())


def millions(module: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize(
    ("name", "parameters", "width"),
    [
        ("resnet50", 23.508, 2048),
        ("mobilenetv2_100", 2.224, 1280),
        ("efficientnet_b0", 4.008, 1280),
        ("inception_v3", 21.786, 2048),
    ],
)
def test_image_towers_without_their_classifier(name: str, parameters: float, width: int) -> None:
    with torch.device("meta"):  # shapes are enough to count
        encoder = TimmImageEncoderConfig(name=name, pretrained="none").build()
    assert encoder.feature_dim == width
    assert millions(encoder) == pytest.approx(parameters, rel=1e-3)


def test_distilbert() -> None:
    with torch.device("meta"):
        encoder = HuggingFaceTextEncoderConfig(name="distilbert-base-uncased", pretrained="none").build()
    assert encoder.feature_dim == 768
    assert millions(encoder) == pytest.approx(66.363, rel=1e-3)


@pytest.mark.parametrize("file", SIZES)
def test_every_size_here_builds_by_its_name(file: str) -> None:
    settings = json.loads((resources.files("pocketclip.models") / "sizes" / file).read_text())
    with torch.device("meta"):
        encoder = HuggingFaceTextEncoderConfig(name=file.removesuffix(".json"), pretrained="none").build()
    assert encoder.feature_dim == settings.get("hidden_size", settings.get("dim"))
