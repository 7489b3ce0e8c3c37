"""Weights that others published, under their names, into our models: both towers, both heads, the temperature.

Read are the files of

- apple/ml-mobileclip: `image_encoder.model.*`, `text_encoder.*`;
- open_clip, for MobileCLIP and MobileCLIP2 (`visual.trunk.*`, `text.*`) and for CLIP itself (`visual.*`,
  `transformer.*`), which OpenAI's own share;
- TinyCLIP: open_clip's under `_image_encoder.*` and `_text_encoder.*`.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pocketclip.errors import UserError, require
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.image.clip_resnet import STRIDE, ClipResNetEncoder
from pocketclip.models.origin.weights import at_size, misfits, read_state_dict, shortened

Weights = Mapping[str, Tensor]
Renaming = tuple[tuple[str, str], ...]
"""Parts of names and what they are here, in the order in which they are replaced."""

NAMES_SHOWN = 5
APPLE_IMAGE, APPLE_TEXT = "image_encoder.model.", "text_encoder."
APPLE_TEXT_NAMES: Renaming = (
    ("embedding_layer.", "token_embedding."),
    ("positional_embedding.pos_embed.pos_embed", "position_embedding"),
    ("final_layer_norm.", "norm."),
    ("transformer.", "layers."),
    (".pre_norm_mha.0.", ".attention_norm."),
    (".pre_norm_mha.1.qkv_proj.", ".query_key_value."),
    (".pre_norm_mha.1.out_proj.", ".attention_output."),
    (".pre_norm_ffn.0.", ".feed_forward_norm."),
    (".pre_norm_ffn.1.", ".feed_forward.expand."),
    (".pre_norm_ffn.4.", ".feed_forward.contract."),
    (".token_mixer.mixer.rbr_conv.0.conv.", ".mixer.convolution."),
    (".token_mixer.mixer.rbr_conv.0.bn.", ".mixer.convolution_norm."),
    (".token_mixer.mixer.rbr_skip.", ".mixer.skip_norm."),
    (".token_mixer.norm.rbr_skip.", ".mixer.norm."),
    (".token_mixer.layer_scale", ".mixer.scale"),
    (".convffn.conv.conv.", ".convolution."),
    (".convffn.conv.bn.", ".norm."),
    (".convffn.fc1.", ".feed_forward.expand."),
    (".convffn.fc2.", ".feed_forward.contract."),
    (".layer_scale", ".scale"),
)
CLIP_TEXT_NAMES: Renaming = (
    ("positional_embedding", "position_embedding"),
    ("ln_final.", "norm."),
    ("transformer.resblocks.", "layers."),
    (".ln_1.", ".attention_norm."),
    (".ln_2.", ".feed_forward_norm."),
    (".attn.in_proj_", ".query_key_value."),
    (".attn.out_proj.", ".attention_output."),
    (".mlp.c_fc.", ".feed_forward.expand."),
    (".mlp.c_proj.", ".feed_forward.contract."),
)
CLIP_RESNET_NAMES: Renaming = (
    *((f"visual.conv{number}.", f"image_encoder.stem.{3 * number - 3}.") for number in (1, 2, 3)),
    *((f"visual.bn{number}.", f"image_encoder.stem.{3 * number - 2}.") for number in (1, 2, 3)),
    ("visual.", "image_encoder."),
    *((f".layer{number}.", f".stages.{number - 1}.") for number in (1, 2, 3, 4)),
    (".downsample.0.", ".skip.1."),
    (".downsample.1.", ".skip.2."),
    ("attnpool.positional_embedding", "pool.position_embedding"),
    *((f"attnpool.{name[0]}_proj.", f"pool.{name}.") for name in ("query", "key", "value")),
)
HEADS = {
    **dict.fromkeys(("visual.proj", "visual.attnpool.c_proj", "visual.head.proj", "visual.trunk.head"), "image_head"),
    **dict.fromkeys(("visual.trunk.head.fc", f"{APPLE_IMAGE}head.proj", f"{APPLE_IMAGE}classifier.proj"), "image_head"),
    **dict.fromkeys(("text_projection", f"{APPLE_TEXT}projection_layer"), "text_head"),
}
"""Heads of published files by our names: `.weight` and `.bias` of a layer, or a matrix that is the other way round."""
NOT_WEIGHTS = ("attn_mask", "input_resolution", "context_length", "vocab_size")
"""What OpenAI's files hold beside weights."""


def fill_from_published(model: DualEncoder, path: Path, *, expected: str) -> None:
    """Fill a model, whose heads are linear, with a published file's weights; the error says what is `expected`.

    Raises:
        UserError: names or shapes do not fit; the first five of each are listed.
    """
    wrapping = re.compile(r"^(_image_encoder|_text_encoder|_logit_scale)\.(module\.)?")  # of TinyCLIP's files
    weights = {wrapping.sub("", name): value for name, value in read_state_dict(path).items()}
    weights = {name: value for name, value in weights.items() if name not in NOT_WEIGHTS}
    is_apples = any(name.startswith(APPLE_IMAGE) for name in weights)
    if not is_apples and not any(name.startswith("visual.") for name in weights):
        raise UserError(
            f"{path}: not the weights of MobileCLIP, TinyCLIP or CLIP: no name begins with {APPLE_IMAGE} or visual. "
            f"(it has {shortened(list(weights), NAMES_SHOWN)})."
        )
    towers, heads = {}, {}
    for name, value in weights.items():
        name = name if is_apples else name.removeprefix("text.")
        layer, kind = (name, "") if name in HEADS else name.rpartition(".")[::2]
        if layer in HEADS and kind in ("", "weight", "bias"):
            heads[f"{HEADS[layer]}.{kind or 'weight'}"] = value if kind else value.T
        elif name in ("logit_scale", "logit_bias"):
            heads[name] = value
        elif not name.startswith("logit_"):
            towers[name] = value
    renamed = _from_apple(towers, model) if is_apples else _from_clip(towers, model)
    _fill(model, {**renamed, **heads}, place=f"{path}: not the weights of {expected}")


def _renamed(weights: Weights, names: Renaming) -> dict[str, Tensor]:
    renamed = {}
    for name, value in weights.items():
        for published, own in names:
            name = name.replace(published, own)
        renamed[name] = value
    return renamed


def _from_apple(weights: Weights, model: DualEncoder) -> dict[str, Tensor]:
    is_transformer = f"{APPLE_IMAGE}patch_emb.0.block.conv.weight" in weights
    module = "timm.models.vision_transformer_hybrid" if is_transformer else "timm.models.fastvit"
    images, others = _parted(weights, APPLE_IMAGE)
    texts, others = _parted(others, APPLE_TEXT)
    return {**others, **_by_timm(module, images, model), **_renamed(texts, APPLE_TEXT_NAMES)}


def _from_clip(weights: Weights, model: DualEncoder) -> dict[str, Tensor]:
    images, texts = _parted(weights, "visual.")
    if any(name.startswith("visual.trunk.") for name in images):
        trunk, _ = _parted(images, "visual.trunk.")
        images = _renamed(trunk, (("visual.trunk.", "image_encoder.tower."),))
    elif isinstance(model.image_encoder, ClipResNetEncoder):
        images = _renamed(images, CLIP_RESNET_NAMES)
        num_places = len(images.get("image_encoder.pool.position_embedding", ())) - 1  # of a square
        images = at_size(model.image_encoder, images, STRIDE * math.isqrt(max(0, num_places)))
    else:
        images = _by_timm("timm.models.vision_transformer", images, model)
    return {**images, **{f"text_encoder.{name}": value for name, value in _renamed(texts, CLIP_TEXT_NAMES).items()}}


def _parted(weights: Weights, prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights whose names begin so, and the others."""
    begun = {name: value for name, value in weights.items() if name.startswith(prefix)}
    return begun, {name: value for name, value in weights.items() if name not in begun}


def _by_timm(module: str, weights: Weights, model: DualEncoder) -> dict[str, Tensor]:
    """The image tower's weights under timm's names, which timm knows how to give."""
    renamed = require(module, extra="train").checkpoint_filter_fn(weights, model.image_encoder.tower)
    return {f"image_encoder.tower.{name}": value for name, value in renamed.items()}


def _fill(model: DualEncoder, weights: dict[str, Tensor], *, place: str) -> None:
    own = model.state_dict()
    for part in ("image_head", "text_head"):
        if not isinstance(getattr(model, part), nn.Linear):
            raise UserError(f"{place}: published heads are linear, so model.{part} should be of that kind.")
        if (name := f"{part}.bias") in own:
            weights.setdefault(name, torch.zeros_like(own[name]))
        elif name in weights and not weights[name].any():
            del weights[name]  # a bias of zeros is none
    for name, value in own.items():
        if name.endswith("num_batches_tracked") or name == "logit_bias":
            weights.setdefault(name, value)
        elif name in weights and weights[name].squeeze().shape == value.squeeze().shape:
            weights[name] = weights[name].reshape(value.shape)  # a 1 x 1 convolution is a linear layer
    listed = zip(("it lacks", "has no place for", "has other shapes:"), misfits(own, weights), strict=True)
    problems = [f"{what} {shortened(names, NAMES_SHOWN)}" for what, names in listed if names]
    if problems:
        raise UserError(f"{place}: {'; '.join(problems)}.")
    model.load_state_dict(weights)
