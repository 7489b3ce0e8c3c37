"""Published weights under their names: against open_clip's models where it is installed, and tables of names."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pocketclip.asked.published import load_published
from pocketclip.errors import UserError
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.text.clip import ClipTextEncoder
from published_names import apple_image, apple_text, apple_transformer, filled

needs_open_clip = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None, reason="open_clip is not installed (uv sync --group bench)"
)
TOKENS, VOCABULARY = 12, 60
SMALL_TEXT = {"width": 32, "num_layers": 2, "num_heads": 2, "vocabulary_size": VOCABULARY, "context_length": TOKENS}
THEIR_TEXT = {"width": 32, "layers": 2, "heads": 2, "vocab_size": VOCABULARY, "context_length": TOKENS}


@torch.no_grad()
def randomise(model: nn.Module, seed: int = 0) -> Any:
    """Every weight and every statistic far from where training begins."""
    random = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=random)
            module.running_var.uniform_(0.5, 2.0, generator=random)
    for name, value in model.named_parameters():
        if value.ndim < 2 and not name.startswith("logit"):
            value.add_(torch.empty_like(value).normal_(0, 0.2, generator=random))
    return model.eval()


def texts(vocabulary: int, length: int) -> tuple[Tensor, Tensor]:
    """Ids that end with the highest, padded with 0, and their mask."""
    random = torch.Generator().manual_seed(1)
    tokens = torch.zeros(3, length, dtype=torch.int64)
    for row, count in enumerate((length, length // 2, 2)):
        tokens[row, :count] = torch.randint(1, vocabulary - 1, (count,), generator=random)
        tokens[row, count - 1] = vocabulary - 1
    return tokens, tokens > 0


@torch.no_grad()
def assert_same(theirs: Any, ours: DualEncoder, *, vocabulary: int = VOCABULARY, length: int = TOKENS) -> None:
    """Both towers give the same to 1e-5 of the largest number; texts also where ours get them without padding."""
    size = ours.image_encoder.preprocess.image_size
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    tokens, mask = texts(vocabulary, length)
    rows = [(theirs.encode_image(pixels), ours.encode_image(pixels))]
    rows.append((theirs.encode_text(tokens), ours.encode_text(tokens, mask)))
    rows.append((theirs.encode_text(tokens)[2:], ours.encode_text(tokens[2:, :2], mask[2:, :2])))
    for expected, actual in rows:
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert float(ours.logit_scale.detach()) == pytest.approx(float(theirs.logit_scale.detach()))


def saved(weights: dict[str, Tensor], folder: Path, suffix: str = ".safetensors") -> str:
    path = folder / f"weights{suffix}"
    plain = {name: value.clone().contiguous() for name, value in weights.items()}
    save_file(plain, path) if suffix == ".safetensors" else torch.save(plain, path)
    return str(path)


def build(values: dict[str, object]) -> DualEncoder:
    return build_model(DualEncoderConfig.parse(values, place="model")).eval()


def small_vit() -> tuple[Any, dict[str, object]]:
    """open_clip's CLIP and our section for it; timm's smallest ViT of CLIP's kind has 10 layers of 256."""
    from open_clip.model import CLIP

    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 10, "width": 256, "head_width": 64, "patch_size": 16}
    theirs = CLIP(embed_dim=32, vision_cfg=vision, text_cfg=dict(THEIR_TEXT))
    image = {"image_size": 32}
    return randomise(theirs), {
        "size": "tinyclip_vit_8m_16_text_3m", "image_encoder": image, "text_encoder": SMALL_TEXT, "embed_dim": 32,
    }  # fmt: skip


def small_resnet() -> tuple[Any, dict[str, object]]:
    from open_clip.model import CLIP

    torch.manual_seed(0)
    vision = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8}
    theirs = CLIP(embed_dim=32, vision_cfg=vision, text_cfg=dict(THEIR_TEXT))
    image = {"image_size": 64, "num_blocks": [1, 2, 1, 1], "width": 8}
    return randomise(theirs), {
        "size": "tinyclip_resnet_19m_text_19m", "image_encoder": image, "text_encoder": SMALL_TEXT, "embed_dim": 32,
    }  # fmt: skip


def small_mobileclip() -> tuple[Any, dict[str, object]]:
    from open_clip.model import CustomTextCLIP

    torch.manual_seed(0)
    vision = {"timm_model_name": "fastvit_t8", "timm_pool": "avg", "timm_proj": None, "image_size": 64}
    theirs = CustomTextCLIP(embed_dim=32, vision_cfg=vision, text_cfg={**THEIR_TEXT, "no_causal_mask": True})
    image = {"name": "fastvit_t8", "image_size": 64}
    return randomise(theirs), {
        "size": "mobileclip_s1", "image_encoder": image, "text_encoder": SMALL_TEXT, "embed_dim": 32,
    }  # fmt: skip


@needs_open_clip
@pytest.mark.parametrize("make", [small_vit, small_resnet, small_mobileclip])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_the_same_input_gives_open_clips_output(
    make: Callable[[], tuple[Any, dict[str, object]]], suffix: str, tmp_path: Path
) -> None:
    theirs, values = make()
    assert_same(theirs, build({**values, "pretrained": saved(theirs.state_dict(), tmp_path, suffix)}))


@needs_open_clip
@pytest.mark.parametrize(("make", "name"), [(small_vit, "tower.pos_embed"), (small_resnet, "pool.position_embedding")])
def test_weights_of_squares_go_to_a_rectangle(
    make: Callable[[], tuple[Any, dict[str, object]]], name: str, tmp_path: Path
) -> None:
    theirs, values = make()
    image: Any = values["image_encoder"]
    values["pretrained"] = saved(theirs.state_dict(), tmp_path)
    square = build(values).image_encoder.state_dict()
    tall = build({**values, "image_encoder": {**image, "image_size": [128, 64]}}).image_encoder.state_dict()
    patch = 32 if "pool" in name else 16
    there, here = (weights[name].reshape(-1, weights[name].shape[-1]) for weights in (square, tall))
    side = image["image_size"] // patch
    grid = there[1:].T.reshape(1, -1, side, side)
    slow = torch.nn.functional.interpolate(grid, (128 // patch, 64 // patch), mode="bicubic", antialias=True)
    torch.testing.assert_close(here, torch.cat([there[:1], slow.flatten(2)[0].T]))
    assert all(torch.equal(value, tall[key]) for key, value in square.items() if key != name)


@needs_open_clip
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("MobileCLIP-S1", "mobileclip_s1"),
        ("MobileCLIP-S2", "mobileclip_s2"),
        ("MobileCLIP-B", "mobileclip_b"),
        ("MobileCLIP2-S0", "mobileclip2_s0"),
        ("MobileCLIP2-S3", "mobileclip2_s3"),
        ("ViT-B-32", "vit_b_32"),
        ("ViT-B-16", "vit_b_16"),
        ("ViT-B-32-quickgelu", "vit_b_32_quickgelu"),
    ],
)
def test_published_models_give_open_clips_output(name: str, size: str, tmp_path: Path) -> None:
    import open_clip

    torch.manual_seed(0)
    theirs = randomise(open_clip.create_model(name))
    ours = build({"size": size, "pretrained": saved(theirs.state_dict(), tmp_path, ".pt")})
    assert_same(theirs, ours, vocabulary=49408, length=77)


@needs_open_clip
@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "vision", "text", "embed_dim"),
    [
        ("tinyclip_vit_39m_16_text_19m", {"layers": 12, "width": 512, "patch_size": 16}, (512, 8, 6), 512),
        ("tinyclip_vit_8m_16_text_3m", {"layers": 10, "width": 256, "patch_size": 16}, (256, 4, 3), 512),
        ("tinyclip_vit_61m_32_text_29m", {"layers": 12, "width": 640, "patch_size": 32}, (512, 8, 9), 512),
        ("tinyclip_vit_40m_32_text_19m", {"layers": 12, "width": 512, "patch_size": 32}, (512, 8, 6), 512),
        ("tinyclip_resnet_30m_text_29m", {"layers": [3, 4, 6, 3], "width": 56}, (512, 8, 9), 1024),
        ("tinyclip_resnet_19m_text_19m", {"layers": [3, 4, 6, 3], "width": 44}, (512, 8, 6), 1024),
    ],
)
def test_tinyclips_sizes_give_open_clips_output(
    size: str, vision: dict[str, object], text: tuple[int, int, int], embed_dim: int, tmp_path: Path
) -> None:
    """TinyCLIP's own code is a copy of open_clip's with wrapped names."""
    from open_clip.model import CLIP

    torch.manual_seed(0)
    width, heads, layers = text
    theirs = randomise(
        CLIP(
            embed_dim=embed_dim,
            vision_cfg={"image_size": 224, **vision},
            text_cfg={"context_length": 77, "vocab_size": 49408, "width": width, "heads": heads, "layers": layers},
        )
    )
    weights = wrapped(theirs.state_dict(), "module.")
    ours = build({"size": size, "pretrained": saved(weights, tmp_path, ".pt")})
    assert_same(theirs, ours, vocabulary=49408, length=77)


def wrapped(weights: dict[str, Tensor], inner: str) -> dict[str, Tensor]:
    """CLIP's names as TinyCLIP saves them."""
    names = {}
    for name in weights:
        part = "_image_encoder" if name.startswith("visual.") else "_text_encoder"
        names[name] = f"{'_logit_scale' if name == 'logit_scale' else part}.{inner}{name}"
    return {names[name]: value for name, value in weights.items()}


@needs_open_clip
@pytest.mark.parametrize("inner", ["", "module."])
def test_tinyclips_names_are_read(inner: str, tmp_path: Path) -> None:
    theirs, values = small_resnet()
    weights = wrapped(theirs.state_dict(), inner)
    checkpoint = tmp_path / "epoch_25.pt"
    torch.save({"epoch": 25, "state_dict": weights}, checkpoint)
    assert_same(theirs, build({**values, "pretrained": str(checkpoint)}))


MCI0 = ((64, 128, 256, 512), (2, 6, 10, 2))
APPLE_SMALL = {  # MobileCLIP-S0 with a small text tower
    "size": "mobileclip_s0",
    "image_encoder": {"image_size": 64},
    "text_encoder": {**SMALL_TEXT, "num_layers": 3, "convolution_layers": [0, 2]},
    "embed_dim": 48,
}


def apple_small() -> dict[str, Tensor]:
    return filled({**apple_image(*MCI0, 48), **apple_text(32, "cac", VOCABULARY, TOKENS, 48)})


def test_apples_names_fill_the_hybrid_text_tower_as_its_source_says(tmp_path: Path) -> None:
    weights = apple_small()
    model = build({**APPLE_SMALL, "pretrained": saved(weights, tmp_path)})
    tower = model.text_encoder
    assert isinstance(tower, ClipTextEncoder)
    pairs = {
        "token_embedding.weight": "embedding_layer.weight",
        "position_embedding": "positional_embedding.pos_embed.pos_embed",
        "layers.0.mixer.convolution.weight": "transformer.0.token_mixer.mixer.rbr_conv.0.conv.weight",
        "layers.0.mixer.convolution_norm.running_var": "transformer.0.token_mixer.mixer.rbr_conv.0.bn.running_var",
        "layers.2.mixer.skip_norm.bias": "transformer.2.token_mixer.mixer.rbr_skip.bias",
        "layers.2.mixer.norm.bias": "transformer.2.token_mixer.norm.rbr_skip.bias",
        "layers.0.mixer.scale": "transformer.0.token_mixer.layer_scale",
        "layers.0.scale": "transformer.0.layer_scale",
        "layers.0.convolution.weight": "transformer.0.convffn.conv.conv.weight",
        "layers.0.norm.running_mean": "transformer.0.convffn.conv.bn.running_mean",
        "layers.0.feed_forward.expand.weight": "transformer.0.convffn.fc1.weight",
        "layers.0.feed_forward.contract.bias": "transformer.0.convffn.fc2.bias",
        "layers.1.attention_norm.weight": "transformer.1.pre_norm_mha.0.weight",
        "layers.1.query_key_value.weight": "transformer.1.pre_norm_mha.1.qkv_proj.weight",
        "layers.1.attention_output.bias": "transformer.1.pre_norm_mha.1.out_proj.bias",
        "layers.1.feed_forward_norm.bias": "transformer.1.pre_norm_ffn.0.bias",
        "layers.1.feed_forward.expand.bias": "transformer.1.pre_norm_ffn.1.bias",
        "layers.1.feed_forward.contract.weight": "transformer.1.pre_norm_ffn.4.weight",
        "norm.weight": "final_layer_norm.weight",
    }
    own = tower.state_dict()
    for ours, theirs in pairs.items():
        assert torch.equal(own[ours].flatten(), weights[f"text_encoder.{theirs}"].flatten()), ours
    assert torch.equal(model.text_head.weight, weights["text_encoder.projection_layer"].T)
    assert torch.equal(model.image_head.weight, weights["image_encoder.model.head.proj"].T)
    assert float(model.logit_scale.detach()) == 4.25


def test_apples_names_fill_the_image_tower_as_its_source_says(tmp_path: Path) -> None:
    weights = apple_small()
    tower = build({**APPLE_SMALL, "pretrained": saved(weights, tmp_path)}).image_encoder.tower.state_dict()
    pairs = {
        "stem.0.conv_kxk.0.conv.weight": "patch_embed.0.rbr_conv.0.conv.weight",
        "stem.1.conv_scale.bn.bias": "patch_embed.1.rbr_scale.bn.bias",
        "stem.2.identity.running_mean": "patch_embed.2.rbr_skip.running_mean",
        "stages.0.blocks.1.token_mixer.mixer.conv_kxk.0.bn.bias": "network.0.1.token_mixer.mixer.rbr_conv.0.bn.bias",
        "stages.0.blocks.1.token_mixer.norm.identity.bias": "network.0.1.token_mixer.norm.rbr_skip.bias",
        "stages.0.blocks.0.token_mixer.layer_scale.gamma": "network.0.0.token_mixer.layer_scale",
        "stages.0.blocks.0.layer_scale.gamma": "network.0.0.layer_scale",
        "stages.1.downsample.proj.0.large_conv.conv.weight": "network.1.proj.0.lkb_origin.conv.weight",
        "stages.2.downsample.proj.0.se.fc1.weight": "network.3.proj.0.se.fc1.weight",
        "stages.2.blocks.9.mlp.fc2.weight": "network.4.9.convffn.fc2.weight",
        "stages.3.downsample.proj.1.conv_kxk.0.conv.weight": "network.5.proj.1.rbr_conv.0.conv.weight",
        "stages.3.pos_emb.pos_enc.weight": "network.6.pe.weight",
        "stages.3.blocks.1.token_mixer.qkv.weight": "network.7.1.token_mixer.qkv.weight",
        "stages.3.blocks.0.layer_scale_2.gamma": "network.7.0.layer_scale_2",
        "final_conv.se.fc1.bias": "conv_exp.se.reduce.bias",
    }
    for ours, theirs in pairs.items():
        assert torch.equal(tower[ours].flatten(), weights[f"image_encoder.model.{theirs}"].flatten()), ours


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "shapes"),
    [
        ("mobileclip_s0", {**apple_image(*MCI0, 512), **apple_text(512, "caaaac", 49408, 77, 512)}),
        ("mobileclip_s1", {**apple_image(MCI0[0], (4, 12, 20, 4), 512), **apple_text(512, 12 * "a", 49408, 77, 512)}),
        (
            "mobileclip_s2",
            {**apple_image((80, 160, 320, 640), (4, 12, 24, 4), 512), **apple_text(512, 12 * "a", 49408, 77, 512)},
        ),
        ("mobileclip_b", {**apple_transformer(768, 12, 512), **apple_text(512, 12 * "a", 49408, 77, 512)}),
    ],
)
def test_apples_names_fill_every_size(size: str, shapes: dict[str, tuple[int, ...]], tmp_path: Path) -> None:
    model = build({"size": size, "pretrained": saved(filled(shapes), tmp_path, ".pt")})
    assert not model.image_head.bias.any() if model.image_head.bias is not None else size == "mobileclip_s0"


@needs_open_clip
@pytest.mark.slow
def test_open_clip_reads_apples_names_as_we_do(tmp_path: Path) -> None:
    """Its converter knows MobileCLIP-S1's form."""
    import open_clip
    from open_clip.convert import convert_state_dict

    weights = filled({**apple_image(MCI0[0], (4, 12, 20, 4), 512), **apple_text(512, 12 * "a", 49408, 77, 512)})
    theirs = open_clip.create_model("MobileCLIP-S1").eval()
    theirs.load_state_dict(convert_state_dict(theirs, dict(weights)))
    assert_same(
        theirs, build({"size": "mobileclip_s1", "pretrained": saved(weights, tmp_path)}), vocabulary=49408, length=77
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: [w.pop(name) for name in list(w) if name.startswith("text_encoder.transformer.1.pre_norm")],
            r"not the weights of fastvit_mci0 with transformer of 3 x 32, 2 of them convolutions: it lacks "
            r"text_encoder\.layers\.1\.attention_norm\.weight(, text_encoder\.layers\.1\.\S+){4} and 7 more\.$",
        ),
        (
            lambda w: w.update(
                {f"text_encoder.transformer.3.pre_norm_mha.{n}.weight": torch.ones(1) for n in range(7)}
            ),
            r"has no place for text_encoder\.layers\.3\.attention_norm\.weight, (\S+, ){3}\S+ and 2 more\.$",
        ),
        (lambda w: w.update({"adapter.weight": torch.ones(2)}), r"has no place for adapter\.weight\.$"),
        (
            lambda w: w.update({"text_encoder.embedding_layer.weight": torch.ones(7, 32)}),
            r"has other shapes: text_encoder\.token_embedding\.weight \(7, 32\) instead of \(60, 32\)\.$",
        ),
    ],
)
def test_weights_of_another_model_are_named(change: Callable[[Any], object], message: str, tmp_path: Path) -> None:
    weights = apple_small()
    change(weights)
    with pytest.raises(UserError, match=message):
        build({**APPLE_SMALL, "pretrained": saved(weights, tmp_path)})


def test_files_of_something_else_are_named(tmp_path: Path) -> None:
    path = saved({f"layer{number}.weight": torch.ones(1) for number in range(7)}, tmp_path)
    with pytest.raises(
        UserError, match=r"not the weights of MobileCLIP, TinyCLIP or CLIP: .*layer4\.weight and 2 more"
    ):
        build({**APPLE_SMALL, "pretrained": path})
    with pytest.raises(UserError, match=r"none\.pt: no such weights file"):
        build({**APPLE_SMALL, "pretrained": str(tmp_path / "none.pt")})


def test_heads_that_are_not_linear_cannot_be_filled(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"published heads are linear, so model\.text_head should be"):
        build({**APPLE_SMALL, "text_head": {"kind": "residual_mlp"}, "pretrained": saved(apple_small(), tmp_path)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_encoder": {"pretrained": "hub"}}, r"pretrained fills both towers, so image_encoder\.pretrained"),
        (
            {"text_encoder": {"tokenizer": "captions", "pooling": "last"}},
            r"word embeddings belong to their own tokenizer",
        ),
    ],
)
def test_weights_come_from_one_place(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DualEncoderConfig.parse({"size": "mobileclip_s0", "pretrained": "x.pt", **changes}, place="model")


def test_a_bundle_of_a_published_model_needs_the_file_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pocketclip
    from pocketclip.tokenizer import train_tokenizer

    words = train_tokenizer(["a red circle", "a blue star"], vocabulary_size=40, context_length=TOKENS)
    (tmp_path / "tokenizer.json").write_text(words.to_json())
    section = DualEncoderConfig.parse(APPLE_SMALL, place="model").model_dump(mode="json")
    monkeypatch.setattr("pocketclip.models.sizes.read_size", lambda name: section)
    path = Path(saved(apple_small(), tmp_path))
    model = load_published("mobileclip_s0", path, tokenizer=str(tmp_path / "tokenizer.json"))
    assert (model.preprocess.mean, model.preprocess.interpolation) == ((0.0, 0.0, 0.0), "bilinear")
    model.to("cpu", precision="float32").save_pretrained(tmp_path / "bundle")
    path.unlink()
    again = pocketclip.load(str(tmp_path / "bundle")).to("cpu", precision="float32")
    assert (again.encode_text(["a blue circle"]) == model.encode_text(["a blue circle"])).all()
    assert pocketclip.load_published is load_published
