"""Models one can name, and towers, have the parameters, MACs and widths that their papers and libraries publish."""

import functools

import pytest
import torch

from pocketclip.cost.flops import tower_macs
from pocketclip.cost.parameters import parameters_by_part
from pocketclip.errors import UserError
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.image.config import TimmImageEncoderConfig
from pocketclip.models.sizes import list_sizes, read_size, text_architecture, with_size
from pocketclip.models.text.config import ClipTextEncoderConfig, HuggingFaceTextEncoderConfig

PUBLISHED = {  # millions of parameters, heads included; text without word embeddings where the name says so
    "mobileclip_s0": (11.406, 42.441),
    "mobileclip_s1": (21.541, 63.428),
    "mobileclip_s2": (35.815, 63.428),
    "mobileclip_b": (86.349, 63.428),
    "mobileclip2_s0": (11.407, 63.428),
    "mobileclip2_s2": (35.815, 63.428),
    "mobileclip2_b": (86.349, 63.428),
    "mobileclip2_s3": (125.236, 123.6),
    "mobileclip2_s4": (321.785, 123.6),
    "vit_b_32": (87.85, 63.43),
    "vit_b_16": (86.19, 63.43),
    "vit_b_32_quickgelu": (87.85, 63.43),
    "vit_b_16_quickgelu": (86.19, 63.43),
}
TINYCLIP = {  # millions: image, text without and with its word embeddings; GMACs of both
    "tinyclip_vit_39m_16_text_19m": (38.59, 18.91, 25.30, 9.48),
    "tinyclip_vit_8m_16_text_3m": (8.28, 2.37, 12.65, 1.98),
    "tinyclip_vit_61m_32_text_29m": (61.41, 28.37, 25.30, 5.32),
    "tinyclip_vit_40m_32_text_19m": (39.69, 18.91, 25.30, 3.49),
    "tinyclip_resnet_30m_text_29m": (29.58, 28.37, 25.30, None),  # MACs: tests/models/image/test_clip_resnet.py
    "tinyclip_resnet_19m_text_19m": (18.60, 18.91, 25.30, None),
}
SHARED = {  # millions: image, text, shared encoder; S-SMKE's are published, in sum with the head of its teacher's width
    "s_smke": (43.27, 66.36, 7.09),
    "s_smke_large": (85.8, 108.89, 14.18),
    "s_smke_pocket": (3.371, 22.565, 1.776),
}
LADDER = {"mu": (32, 1, 2), "ti": (192, 12, 3), "s": (384, 12, 6), "m": (512, 12, 8), "b": (768, 12, 12)}
LADDER["l"] = (1024, 24, 16)
"""Width, layers and heads of Big Vision's ladder, for pictures and texts alike."""
VIT = [f"scaling_{step}_{patch}" for step in LADDER for patch in (16, 32)]
SCALING = {  # millions of the image tower without classifier, GMACs, as timm and the papers have them
    "scaling_ti_16": (5.524, 1.26),
    "scaling_s_16": (21.666, 4.61),
    "scaling_s_32": (22.493, 1.15),
    "scaling_b_16": (85.799, 17.58),
    "scaling_b_32": (87.455, 4.41),
    "scaling_l_16": (303.302, 61.60),
    "scaling_l_32": (305.510, 15.39),
    "scaling_resnet50": (23.508, 4.11),
    "scaling_mixer_b_32": (59.524, 3.24),
    "scaling_convnext_t": (27.820, 4.47),
    "scaling_swin_t": (27.519, 4.51),
}
LAPTOP = {  # millions of parameters and of multiply-accumulates of the image tower; five of them cost about the same
    "laptop_vit_s": (0.16, 2.81),
    "laptop_vit_m": (0.47, 8.04),
    "laptop_vit_l": (1.89, 32.4),
    "laptop_resnet": (1.53, 8.00),
    "laptop_mixer": (0.47, 8.11),
    "laptop_convnext": (1.89, 7.78),
    "laptop_swin": (2.82, 7.77),
}
OURS = [name for name in list_sizes() if name.startswith("pocket_")]


def millions(module: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@functools.cache
def build(name: str) -> tuple[DualEncoderConfig, DualEncoder]:
    """Without memory for weights: shapes are enough to count."""
    config = DualEncoderConfig.parse(name, place=name)
    with torch.device("meta"):
        return config, build_model(config, load_pretrained=False)


def test_every_size_is_checked_here() -> None:
    assert {*PUBLISHED, *TINYCLIP, *SHARED, *VIT, *SCALING, *LAPTOP, *OURS} == set(list_sizes())
    assert len(OURS) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameters(name: str) -> None:
    _, model = build(name)
    image, text = PUBLISHED[name]
    assert millions(model.image_encoder) + millions(model.image_head) == pytest.approx(image, rel=1e-3)
    assert millions(model.text_encoder) + millions(model.text_head) == pytest.approx(text, rel=1e-3)


@pytest.mark.parametrize("name", TINYCLIP)
def test_tinyclips_parameters_and_macs(name: str) -> None:
    config, model = build(name)
    image, text, words, gmacs = TINYCLIP[name]
    counts = parameters_by_part(model)
    assert counts["parameters_text_embeddings"] / 1e6 == pytest.approx(words, rel=1e-3)
    assert millions(model.image_encoder) + millions(model.image_head) == pytest.approx(image, rel=1e-3)
    blocks = [value.numel() for name, value in model.text_encoder.named_parameters() if name.startswith("layers.")]
    assert sum(blocks) / 1e6 == pytest.approx(text, rel=1e-3)
    if gmacs is not None:
        macs = tower_macs(model, image_size=config.image_encoder.image_size, context_length=77)
        assert sum(macs.values()) / 1e9 == pytest.approx(gmacs, rel=1e-2)


@pytest.mark.parametrize("name", SHARED)
def test_parameters_of_models_with_a_shared_encoder(name: str) -> None:
    config, model = build(name)
    counts = parameters_by_part(model)
    found = [counts[f"parameters_{part}"] / 1e6 for part in ("image", "text", "shared")]
    assert found == pytest.approx(SHARED[name], rel=2e-3)
    assert config.embed_dim == model.shared_encoder.widths[0]


def test_s_smke_is_as_large_as_published_with_its_teacher_and_without() -> None:
    _, model = build("s_smke")
    with torch.device("meta"):
        teacher = TimmImageEncoderConfig(name="beitv2_base_patch16_224", pretrained="none").build()
        head = torch.nn.Sequential(torch.nn.LayerNorm(768), torch.nn.Linear(768, 768))  # of training only
    assert millions(model) + millions(head) == pytest.approx(117.2, rel=5e-3)
    assert millions(model) + millions(head) + millions(teacher) == pytest.approx(203, rel=5e-3)


@pytest.mark.parametrize(
    ("name", "image", "text"),
    [
        ("mobileclip_b", 17.708, 2.980),
        ("vit_b_32", 4.41, 2.98),
        ("mobileclip2_s0", None, 2.98),
    ],
)
def test_published_macs_of_towers_without_branches(name: str, image: float | None, text: float) -> None:
    """Those with branches are counted fused, in tests/models/test_reparam.py."""
    config, model = build(name)
    macs = tower_macs(model, image_size=config.image_encoder.image_size, context_length=77)
    assert macs["macs_text"] / 1e9 == pytest.approx(text, rel=1e-2)
    if image is not None:
        assert macs["macs_image"] / 1e9 == pytest.approx(image, rel=1e-2)


@pytest.mark.parametrize("name", OURS)
def test_our_own_sizes_are_small(name: str) -> None:
    config, model = build(name)
    counts = parameters_by_part(model)
    assert counts["parameters_image"] < 5e6
    assert counts["parameters_text"] < 10e6
    assert config.text_encoder.tokenizer == "captions"


@pytest.mark.slow
@pytest.mark.parametrize("name", SCALING)
def test_towers_of_the_scaling_study_are_as_published(name: str) -> None:
    config, model = build(name)
    parameters, gmacs = SCALING[name]
    assert millions(model.image_encoder) == pytest.approx(parameters, rel=1e-3)
    macs = tower_macs(model, image_size=224, context_length=16)["macs_image"]
    assert macs / 1e9 == pytest.approx(gmacs, rel=1e-2)
    assert config.image_encoder.build is not None
    assert model.image_encoder.preprocess.mean == model.image_encoder.preprocess.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("name", LAPTOP)
def test_towers_for_a_laptop_cost_what_they_should(name: str) -> None:
    config, model = build(name)
    parameters, mmacs = LAPTOP[name]
    assert millions(model.image_encoder) == pytest.approx(parameters, abs=0.005)
    head = model.image_encoder.feature_dim * config.embed_dim
    macs = tower_macs(model, image_size=32, context_length=16)["macs_image"] - head
    assert macs / 1e6 == pytest.approx(mmacs, rel=1e-2)
    assert read_size(name)["text_encoder"] == read_size("laptop_vit_m")["text_encoder"]


@pytest.mark.slow
@pytest.mark.parametrize("name", VIT)
def test_the_ladder_has_the_widths_and_depths_of_its_formula(name: str) -> None:
    _, step, patch_size = name.split("_")
    (width, layers, heads), patch = LADDER[step], int(patch_size)
    config, model = build(name)
    places, pixels = (224 // patch) ** 2, 3 * patch**2
    block = 12 * width**2 + 13 * width
    expected = pixels * width + width + (places + 2) * width + layers * block + 2 * width
    assert sum(value.numel() for value in model.image_encoder.parameters()) == expected
    tokens = places + 1
    macs = places * pixels * width + layers * (tokens * 12 * width**2 + 2 * tokens**2 * width)
    found = tower_macs(model, image_size=224, context_length=16)
    assert found["macs_image"] == pytest.approx(macs + width * config.embed_dim, rel=1e-3)
    text = config.text_encoder
    assert isinstance(text, ClipTextEncoderConfig)
    assert (text.width, text.num_layers, text.num_heads, text.context_length) == (width, layers, heads, 16)
    assert found["macs_text"] == pytest.approx(
        layers * (16 * 12 * width**2 + 2 * 16**2 * width) + width * config.embed_dim, rel=1e-3
    )


def test_every_image_tower_goes_with_the_text_tower_of_another_size() -> None:
    """The scaling study's pairing: ViT-B's text tower whatever the image tower is."""
    for name in ("scaling_ti_16", "scaling_l_16", "scaling_swin_t"):
        values = with_size({"size": name, "text_encoder": {"size": "scaling_b_32", "context_length": 24}})
        assert values["text_encoder"] == {**read_size("scaling_b_32")["text_encoder"], "context_length": 24}
        assert values["image_encoder"] == read_size(name)["image_encoder"]
        assert DualEncoderConfig.parse(values, place="x").text_encoder.width == 768  # type: ignore[union-attr]
    whole = {**read_size("pocket_s"), "text_encoder": {"size": "vit_b_32"}}  # without a size of the whole
    assert with_size(whole)["text_encoder"] == read_size("vit_b_32")["text_encoder"]
    other = with_size({"size": "s_smke", "text_encoder": {"size": "pocket_s", "width": 96}})
    assert other["text_encoder"] == {**read_size("pocket_s")["text_encoder"], "width": 96}


def test_our_own_sizes_are_a_ladder() -> None:
    totals = [parameters_by_part(build(f"pocket_{step}")[1])["parameters_total"] for step in ("xs", "s", "m", "l")]
    assert totals == sorted(totals)


@pytest.mark.parametrize("name", list_sizes())
def test_a_size_holds_a_whole_section_without_weights(name: str) -> None:
    config = DualEncoderConfig.parse(name, place=name)
    assert config == DualEncoderConfig.parse(read_size(name), place=name)
    assert config.image_encoder.pretrained == config.text_encoder.pretrained == config.pretrained == "none"
    if name.startswith(("mobileclip", "tinyclip", "vit")):
        assert config.text_encoder.build_tokenizer is not None
        assert (config.text_encoder.context_length, config.text_encoder.vocabulary_size) == (77, 49408)


@pytest.mark.parametrize(
    ("name", "size", "mean", "interpolation"),
    [
        ("mobileclip_s0", 256, 0.0, "bilinear"),
        ("mobileclip_b", 224, 0.0, "bilinear"),
        ("mobileclip2_s2", 256, 0.0, "bilinear"),
        ("mobileclip2_s3", 256, 0.4815, "bilinear"),
        ("tinyclip_vit_8m_16_text_3m", 224, 0.4815, "bicubic"),
        ("tinyclip_resnet_19m_text_19m", 224, 0.4815, "bicubic"),
    ],
)
def test_pictures_are_prepared_as_published(name: str, size: int, mean: float, interpolation: str) -> None:
    preprocess = build(name)[1].image_encoder.preprocess
    assert (preprocess.image_size, preprocess.interpolation, preprocess.resize) == (size, interpolation, "crop")
    assert preprocess.mean[0] == pytest.approx(mean, abs=1e-4)
    assert preprocess.crop_fraction == 1


def test_changes_go_before_a_size_and_reach_into_its_parts() -> None:
    values = with_size({"size": "pocket_s", "embed_dim": 64, "image_encoder": {"image_size": 96}})
    expected = read_size("pocket_s")
    expected["embed_dim"] = 64
    expected["image_encoder"]["image_size"] = 96
    assert values == expected
    replaced = with_size({"size": "pocket_s", "text_head": {"kind": "residual_mlp", "dropout": 0.2}})
    assert replaced["text_head"] == {"kind": "residual_mlp", "dropout": 0.2}
    assert with_size({"embed_dim": 3}) == {"embed_dim": 3}


def test_an_unknown_size_gets_the_nearest() -> None:
    for values in ("mobilclip_s0", {"size": "mobilclip_s0"}):
        with pytest.raises(UserError, match=r"x\.yaml: .*Unknown size 'mobilclip_s0'. Did you mean 'mobileclip_s0'\?"):
            DualEncoderConfig.parse(values, place="x.yaml")
    with pytest.raises(UserError, match=r"Unknown size 'vit_b_23'"):
        DualEncoderConfig.parse({"size": "pocket_s", "text_encoder": {"size": "vit_b_23"}}, place="x.yaml")
    with pytest.raises(UserError, match=r"shared_encoder\.size: pocket_s has no shared_encoder"):
        DualEncoderConfig.parse({"size": "s_smke", "shared_encoder": {"size": "pocket_s"}}, place="x.yaml")
    with pytest.raises(UserError, match=r"size should be a name \(got 3\)"):
        DualEncoderConfig.parse({"size": 3}, place="x.yaml")


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
    with torch.device("meta"):
        encoder = TimmImageEncoderConfig(name=name, pretrained="none").build()
    assert encoder.feature_dim == width
    assert millions(encoder) == pytest.approx(parameters, rel=1e-3)


def test_distilbert() -> None:
    with torch.device("meta"):
        encoder = HuggingFaceTextEncoderConfig(name="distilbert-base-uncased", pretrained="none").build()
    assert encoder.feature_dim == 768
    assert millions(encoder) == pytest.approx(66.363, rel=1e-3)


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "bert-base-uncased", "distilbert-base-uncased", "tiny-bert"])
def test_every_text_architecture_here_builds_by_its_name(name: str) -> None:
    settings = text_architecture(name)
    assert settings is not None
    with torch.device("meta"):
        encoder = HuggingFaceTextEncoderConfig(name=name, pretrained="none").build()
    assert encoder.feature_dim == settings.get("hidden_size", settings.get("dim"))
    assert text_architecture("no/such") is None
