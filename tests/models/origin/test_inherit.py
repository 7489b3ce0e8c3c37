"""Smaller towers from larger ones: the same at equal size, known layers, leading heads and channels, clear refusals."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from conftest import build_tiny_pretrained, tiny_model_settings
from pocketclip.errors import UserError
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.image.config import ClipResNetEncoderConfig, TimmImageEncoderConfig
from pocketclip.models.origin.inherit import inherit
from pocketclip.models.text.config import ClipTextEncoderConfig, HuggingFaceTextEncoderConfig
from pocketclip.models.text.huggingface import HuggingFaceTextEncoder

BERT: dict[str, Any] = {"vocab_size": 90, "max_position_embeddings": 20, "num_hidden_layers": 6,
                        "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64}  # fmt: skip
DISTILBERT = {"vocab_size": 90, "max_position_embeddings": 20, "n_layers": 6, "n_heads": 4, "dim": 32, "hidden_dim": 64}
SMALLER = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 3}
TEXT = {
    "bert": (BERT, SMALLER),
    "roberta": (BERT, SMALLER),
    "electra": ({**BERT, "embedding_size": 16}, {**SMALLER, "embedding_size": 8}),
    "mpnet": (BERT, SMALLER),
    "distilbert": (DISTILBERT, {"n_layers": 3, "n_heads": 2, "dim": 16, "hidden_dim": 24}),
    "clip_text_model": ({**BERT, "bos_token_id": 1, "eos_token_id": 2}, SMALLER),
}


def text_tower(name: str, *, smaller: bool = False) -> Any:
    large, changes = TEXT[name]
    architecture = {"model_type": name, **large, **(changes if smaller else {})}
    config = {"name": name, "pretrained": "none", "context_length": 16, "architecture": architecture}
    encoder = HuggingFaceTextEncoderConfig.parse(config, place="test").build().eval()
    return randomised(encoder).tower


def clip_tower(**changes: Any) -> Any:
    config = {"width": 32, "num_layers": 6, "num_heads": 4, "vocabulary_size": 90, "context_length": 16}
    return randomised(ClipTextEncoderConfig(**{**config, "pooling": "last", **changes}).build()).eval()


def randomised(module: nn.Module) -> Any:
    """No tensor is what it begins as, such as a bias of zeros, so that a tensor left out is noticed."""
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(torch.randn_like(value) * 0.2)
        for value in module.buffers():
            if value.is_floating_point():  # statistics
                value.copy_(torch.rand_like(value) + 0.5)
    return module


def image_tower(name: str, **options: Any) -> Any:
    return randomised(timm.create_model(name, num_classes=0, **options)).eval()


def clip_resnet(width: int, num_blocks: tuple[int, int, int, int]) -> Any:
    config = ClipResNetEncoderConfig(width=width, num_blocks=num_blocks, image_size=64)
    return randomised(config.build()).eval()


TOWERS = {
    "vit": (lambda: image_tower("test_vit"), lambda: image_tower("test_vit", depth=3, embed_dim=32, num_heads=1)),
    "resnet": (
        lambda: image_tower("test_resnet", layers=(2, 3, 4, 2)),
        lambda: image_tower("test_resnet", layers=(1, 1, 2, 2), stem_width=8, channels=(16, 24, 32, 48)),
    ),
    "mobilenet": (lambda: image_tower("mobilenetv2_100"), lambda: image_tower("mobilenetv2_050")),
    "convnext": (
        lambda: image_tower("test_convnext", depths=(2, 2, 4, 2)),
        lambda: image_tower("test_convnext", depths=(1, 2, 2, 1), dims=(16, 24, 48, 64)),
    ),
    **{
        name: (lambda name=name: text_tower(name), lambda name=name: text_tower(name, smaller=True))  # type: ignore[misc]
        for name in TEXT
    },
    "clip resnet": (lambda: clip_resnet(8, (2, 3, 4, 2)), lambda: clip_resnet(4, (1, 1, 2, 2))),
    "clip": (clip_tower, lambda: clip_tower(width=16, num_heads=2, num_layers=3, feed_forward_ratio=2.0)),
}


def outputs(tower: Any) -> Tensor:
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        if hasattr(tower, "stem") or hasattr(tower, "forward_features"):
            size = tower.patch_embed.img_size[0] if hasattr(tower, "patch_embed") else 64
            result: Tensor = tower(torch.randn(2, 3, size, size, generator=random))
            return result
        tokens, mask = torch.randint(3, 90, (2, 9), generator=random), torch.ones(2, 9, dtype=torch.bool)
        if hasattr(tower, "config"):
            states: Tensor = tower(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
            return states
        features: Tensor = tower(tokens, mask)
        return features


@pytest.mark.parametrize("name", TOWERS)
def test_at_equal_size_both_compute_the_same(name: str) -> None:
    large, same = TOWERS[name][0](), TOWERS[name][0]()
    assert not torch.equal(outputs(same), outputs(large))
    inherit(same, large)
    assert torch.equal(outputs(same), outputs(large))


@pytest.mark.parametrize("name", TOWERS)
def test_every_tensor_of_a_smaller_tower_is_a_part_of_one_of_the_larger(name: str) -> None:
    large, small = TOWERS[name][0](), TOWERS[name][1]()
    inherit(small, large)
    values = [value.flatten() for value in large.state_dict().values()]
    known = torch.cat([value for value in values if value.is_floating_point()]).sort().values
    for key, value in small.state_dict().items():
        if value.is_floating_point():
            place = torch.searchsorted(known, value.flatten()).clamp(max=len(known) - 1)
            assert torch.equal(known[place], value.flatten()), key
    assert outputs(small).isfinite().all()


def test_leading_slices_of_a_text_tower_by_name() -> None:
    large, small = text_tower("bert"), text_tower("bert", smaller=True)
    inherit(small, large)
    weights, expected = small.state_dict(), large.state_dict()
    for key, value in weights.items():
        parts = key.split(".")
        if parts[:2] == ["encoder", "layer"]:
            parts[2] = str(2 * int(parts[2]))
        source = expected[".".join(parts)]
        assert torch.equal(value, source[tuple(slice(size) for size in value.shape)]), key


def test_depthwise_kernels_and_statistics_go_with_their_channels() -> None:
    large, small = TOWERS["mobilenet"][0](), TOWERS["mobilenet"][1]()
    inherit(small, large)
    one, other = small.blocks[2][1], large.blocks[2][1]
    width = one.conv_dw.weight.shape[0]
    assert one.conv_dw.groups == width < other.conv_dw.groups
    assert torch.equal(one.conv_dw.weight, other.conv_dw.weight[:width])
    assert torch.equal(one.bn2.running_var, other.bn2.running_var[:width])
    assert torch.equal(one.conv_pwl.weight, other.conv_pwl.weight[: len(one.conv_pwl.weight), :width])


def test_each_stage_takes_its_own_layers() -> None:
    large = image_tower("test_resnet", layers=(1, 2, 5, 3))
    small = image_tower("test_resnet", layers=(1, 1, 2, 2))
    inherit(small, large)
    for stage, places in (("layer1", [0]), ("layer2", [0]), ("layer3", [0, 2]), ("layer4", [0, 1])):
        for block, place in zip(getattr(small, stage), places, strict=True):
            for key, value in block.state_dict().items():
                assert torch.equal(value, getattr(large, stage)[place].state_dict()[key])


@pytest.mark.parametrize(
    ("layers", "places"), [("interval", [0, 2, 4]), ("leading", [0, 1, 2]), ((5, 0, 3), [5, 0, 3])]
)
def test_the_layers_are_those_asked_for(layers: Any, places: list[int]) -> None:
    large, small, expected = clip_tower(), clip_tower(num_layers=3), clip_tower()
    inherit(small, large, layers)
    expected.load_state_dict(large.state_dict())
    expected.layers = nn.ModuleList(expected.layers[place] for place in places)
    assert torch.equal(outputs(small), outputs(expected))


def test_an_interval_that_does_not_divide_begins_at_the_front() -> None:
    large, small = clip_tower(num_layers=5), clip_tower(num_layers=2)
    inherit(small, large)
    for one, place in zip(small.layers, (0, 2), strict=True):
        assert torch.equal(one.query_key_value.weight, large.layers[place].query_key_value.weight)


def test_leading_heads_give_what_they_gave() -> None:
    """With nothing in the channels that are dropped, each kept head attends as before."""
    large, small = clip_tower(num_layers=1), clip_tower(num_layers=1, width=16, num_heads=2)
    inherit(small, large)
    narrow = torch.randn(2, 7, 16)
    wide = torch.cat([narrow, torch.zeros(2, 7, 16)], dim=2)

    def heads(layer: Any, states: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hook = layer.attention_output.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        layer._attend(states, None)
        hook.remove()
        return seen[0]

    with torch.no_grad():
        torch.testing.assert_close(heads(small.layers[0], narrow), heads(large.layers[0], wide)[:, :, :16])


def test_leading_heads_of_timm_and_of_separate_projections_give_what_they_gave() -> None:
    image_large, image_small = TOWERS["vit"][0](), TOWERS["vit"][1]()
    inherit(image_small, image_large)
    large, small = image_large.blocks[0].attn, image_small.blocks[0].attn
    narrow = torch.randn(2, 5, 32)
    wide = torch.cat([narrow, torch.zeros(2, 5, 32)], dim=2)
    for attention in (small, large):
        attention.proj = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(small(narrow), large(wide)[:, :, :32])
    text_large, text_small = text_tower("bert"), text_tower("bert", smaller=True)
    inherit(text_small, text_large)
    narrow = torch.randn(2, 5, 16)
    wide = torch.cat([narrow, torch.zeros(2, 5, 16)], dim=2)
    with torch.no_grad():
        one = text_small.encoder.layer[0].attention.self(narrow)[0]
        other = text_large.encoder.layer[0].attention.self(wide)[0]
    torch.testing.assert_close(one, other[:, :, :16])


@pytest.mark.parametrize(
    ("small", "large", "message"),
    [
        (lambda: clip_tower(width=48), clip_tower, r"the smaller tower is larger in position_embedding: \(16, 48\)"),
        (lambda: clip_tower(width=16), clip_tower, r"heads of 4 cannot be taken from heads of 8 \(layers\.0\)"),
        (lambda: clip_tower(num_layers=7), clip_tower, r"layers has 7 layers here and only 6 there"),
        (lambda: clip_tower(vocabulary_size=80), clip_tower, r"vocabularies differ in token_embedding\.weight: \(80,"),
        (lambda: text_tower("bert"), clip_tower, r"a BertModel takes nothing from a ClipTextEncoder"),
        (
            lambda: clip_tower(causal=False, convolution_layers=(0,)), clip_tower,
            r"built differently: layers\.0 is ConvolutionLayer here, AttentionLayer there",
        ),
        (
            lambda: image_tower("test_vit", img_size=96), TOWERS["vit"][0],
            r"numbers of positions differ in pos_embed: \(1, 37, 64\) here, \(1, 101, 64\) there",
        ),
        (
            lambda: image_tower("test_vit", patch_size=32), TOWERS["vit"][0],
            r"smaller tower is larger in patch_embed|numbers of positions",
        ),
        (
            lambda: image_tower("resnet18"), lambda: image_tower("resnet26"),
            r"built differently: layer1\.0 is BasicBlock here, Bottleneck there",
        ),
        (
            lambda: image_tower("test_efficientnet"), lambda: image_tower("test_efficientnet_gn"),
            r"built differently",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(small: Any, large: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        inherit(small(), large())


@pytest.mark.parametrize("layers", [(0, 1), (0, 1, 6), (0, 1, 2, 3)])
def test_a_list_of_layers_that_does_not_fit_is_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"inherit\.layers: layers needs 3 layers of 0 to 5 \(got \["):
        inherit(clip_tower(num_layers=3), clip_tower(), layers)


def test_a_list_of_layers_without_effect_is_refused() -> None:
    with pytest.raises(UserError, match=r"inherit\.layers: \[0, 1\] has no effect; both towers have the same layers"):
        inherit(clip_tower(), clip_tower(), (0, 1))


def test_towers_whose_channels_do_not_meet_are_cut_in_depth_only() -> None:
    gpt = {"vocab_size": 90, "n_positions": 20, "n_head": 2, "bos_token_id": 1}

    def tower(depth: int, width: int) -> nn.Module:
        architecture = {"model_type": "gpt2", **gpt, "n_layer": depth, "n_embd": width, "n_head": width // 16}
        config = {"name": "gpt2", "pretrained": "none", "context_length": 16, "architecture": architecture}
        encoder = HuggingFaceTextEncoderConfig.parse(config, place="test").build()
        assert isinstance(encoder, HuggingFaceTextEncoder)
        result: nn.Module = encoder.tower
        return result

    inherit(tower(2, 32), tower(4, 32))
    with pytest.raises(UserError, match="this GPT2Model is not known to be cut in width, only in depth"):
        inherit(tower(2, 16), tower(4, 32))


def test_a_recipe_names_a_tower_and_what_is_smaller() -> None:
    config = HuggingFaceTextEncoderConfig.parse(
        {
            "name": "all-MiniLM-L6-v2", "pretrained": "none", "architecture": {"num_hidden_layers": 2},
            "inherit": {"tower": {"name": "all-MiniLM-L6-v2", "pretrained": "package"}, "layers": [1, 5]},
        },
        place="text_encoder",
    )  # fmt: skip
    small = config.build().tower
    large = HuggingFaceTextEncoderConfig(name="all-MiniLM-L6-v2", pretrained="package").build().tower
    assert len(small.encoder.layer) == 2
    for layer, place in zip(small.encoder.layer, (1, 5), strict=True):
        for key, value in layer.state_dict().items():
            assert torch.equal(value, large.encoder.layer[place].state_dict()[key])
    assert config.build_tokenizer().vocabulary_size == small.config.vocab_size


def test_a_bundle_can_be_the_origin_of_both_towers(tmp_path: Path) -> None:
    trained = build_tiny_pretrained()
    place = str(trained.save_pretrained(tmp_path / "bundle"))
    settings = tiny_model_settings()
    text = {**settings["text_encoder"], "inherit": {"bundle": place}}  # type: ignore[dict-item]
    image = {**settings["image_encoder"], "inherit": {"bundle": place}}  # type: ignore[dict-item]
    config = DualEncoderConfig.parse({**settings, "text_encoder": text, "image_encoder": image}, place="test")
    model = build_model(config, vocabulary_size=trained.tokenizer.vocabulary_size)
    for part in ("image_encoder", "text_encoder"):
        for key, value in getattr(model, part).state_dict().items():
            assert torch.equal(value, getattr(trained.model, part).state_dict()[key]), key
    assert (
        build_model(config, load_pretrained=False, vocabulary_size=90) is not None
    )  # asks for nothing that may be gone
    with pytest.raises(UserError, match="vocabularies differ"):
        build_model(config, vocabulary_size=20)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"pretrained": "package"}, "inherit brings the weights, so pretrained should be none"),
        ({"inherit": {}}, "inherit: should name a tower or a bundle"),
        ({"inherit": {"bundle": "a", "tower": {"name": "test_vit"}}}, "inherit: should name a tower or a bundle"),
        ({"inherit": {"tower": {"nam": "test_vit"}}}, "inherit.tower.nam: unknown key 'nam'. Did you mean 'name'"),
    ],
)
def test_settings_that_do_not_fit_together_name_the_key(changes: dict[str, Any], problem: str) -> None:
    given = {"name": "test_vit", "pretrained": "none", "inherit": {"bundle": "a"}, **changes}
    with pytest.raises(UserError, match=problem):
        TimmImageEncoderConfig.parse(given, place="image_encoder")
