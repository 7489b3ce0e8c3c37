"""Weights that others published, under their names, into our models: both towers, both heads, the temperature.

Read are the files of

- apple/ml-mobileclip: `image_encoder.model.*`, `text_encoder.*`;
- open_clip, for MobileCLIP and MobileCLIP2 (`visual.trunk.*`, `text.*`) and for CLIP itself (`visual.*`,
  `transformer.*`), which OpenAI's own share;
- TinyCLIP: open_clip's under `_image_encoder.*` and `_text_encoder.*`.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pocketclip.errors import UserError, require
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.image import ClipResNetEncoder
from pocketclip.models.origin.weights import read_state_dict

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
    *((f"layer{number}.", f"stages.{number - 1}.") for number in (1, 2, 3, 4)),
    (".downsample.0.", ".skip.1."),
    (".downsample.1.", ".skip.2."),
    ("attnpool.positional_embedding", "pool.position_embedding"),
    ("attnpool.q_proj.", "pool.query."),
    ("attnpool.k_proj.", "pool.key."),
    ("attnpool.v_proj.", "pool.value."),
)
HEADS = {  # names of published files to ours, and whether the matrix is the other way round
    f"{APPLE_IMAGE}head.proj": ("image_head.weight", True),
    f"{APPLE_IMAGE}classifier.proj": ("image_head.weight", True),
    f"{APPLE_TEXT}projection_layer": ("text_head.weight", True),
    "visual.proj": ("image_head.weight", True),
    "visual.attnpool.c_proj.weight": ("image_head.weight", False),
    "visual.attnpool.c_proj.bias": ("image_head.bias", False),
    "visual.head.proj.weight": ("image_head.weight", False),
    "visual.trunk.head.weight": ("image_head.weight", False),
    "visual.trunk.head.bias": ("image_head.bias", False),
    "visual.trunk.head.fc.weight": ("image_head.weight", False),
    "visual.trunk.head.fc.bias": ("image_head.bias", False),
    "text_projection": ("text_head.weight", True),
    "text_projection.weight": ("text_head.weight", False),
    "text_projection.bias": ("text_head.bias", False),
}
NOT_WEIGHTS = ("attn_mask", "input_resolution", "context_length", "vocab_size")
"""What OpenAI's files hold beside weights."""


def fill_from_published(model: DualEncoder, path: Path, *, expected: str) -> None:
    """Fill a model with the weights of a published file.

    Args:
        model: filled in place; its heads are linear.
        path: the file.
        expected: what the model is, for the error.

    Raises:
        UserError: names or shapes do not fit; the first five of each are listed.
    """
    weights = _without_wrapping(read_state_dict(path))
    if any(name.startswith(APPLE_IMAGE) for name in weights):
        known = (APPLE_IMAGE, APPLE_TEXT, "logit_")
        found = {name: value for name, value in weights.items() if not name.startswith(known)}
        found.update(_apple_image(weights, model))
        found.update(_renamed(weights, APPLE_TEXT, "text_encoder.", APPLE_TEXT_NAMES))
    elif any(name.startswith("visual.") for name in weights):
        weights = {name.removeprefix("text."): value for name, value in weights.items()}
        found = {**_clip_image(weights, model), **_clip_text(weights)}
    else:
        raise UserError(
            f"{path}: not the weights of MobileCLIP, TinyCLIP or CLIP: no name begins with {APPLE_IMAGE} or visual. "
            f"(it has {_first(weights)})."
        )
    for name, value in weights.items():
        if name in HEADS:
            own, is_turned = HEADS[name]
            found[own] = value.T if is_turned else value
        elif name in ("logit_scale", "logit_bias"):
            found[name] = value
    _fill(model, found, place=f"{path}: not the weights of {expected}")


def _without_wrapping(weights: Weights) -> dict[str, Tensor]:
    """TinyCLIP's names as open_clip's; what is no weight left out."""
    plain = {}
    for name, value in weights.items():
        name = re.sub(r"^(_image_encoder|_text_encoder|_logit_scale)\.(module\.)?", "", name)
        if name not in NOT_WEIGHTS:
            plain[name] = value
    return plain


def _renamed(weights: Weights, old: str, new: str, names: Renaming) -> dict[str, Tensor]:
    """What begins with `old`, heads left out, as beginning with `new`."""
    renamed = {}
    for name, value in weights.items():
        if not name.startswith(old) or name in HEADS:
            continue
        name = name.removeprefix(old)
        for published, own in names:
            name = name.replace(published, own)
        renamed[new + name] = value
    return renamed


def _clip_text(weights: Weights) -> dict[str, Tensor]:
    others = {name: value for name, value in weights.items() if not name.startswith(("visual.", "logit_"))}
    return _renamed(others, "", "text_encoder.", CLIP_TEXT_NAMES)


def _clip_image(weights: Weights, model: DualEncoder) -> dict[str, Tensor]:
    if any(name.startswith("visual.trunk.") for name in weights):
        return _renamed(weights, "visual.trunk.", "image_encoder.tower.", ())
    if isinstance(model.image_encoder, ClipResNetEncoder):
        stem = {}
        for number in (1, 2, 3):
            stem.update({f"conv{number}": f"stem.{3 * number - 3}", f"bn{number}": f"stem.{3 * number - 2}"})
        found = _renamed(weights, "visual.", "", CLIP_RESNET_NAMES)
        first = re.compile(r"^(conv|bn)[123](?=\.)")
        return {f"image_encoder.{first.sub(lambda m: stem[m[0]], name)}": value for name, value in found.items()}
    return _by_timm("timm.models.vision_transformer", weights, model)


def _apple_image(weights: Weights, model: DualEncoder) -> dict[str, Tensor]:
    is_transformer = f"{APPLE_IMAGE}patch_emb.0.block.conv.weight" in weights
    module = "timm.models.vision_transformer_hybrid" if is_transformer else "timm.models.fastvit"
    return _by_timm(module, weights, model)


def _by_timm(module: str, weights: Weights, model: DualEncoder) -> dict[str, Tensor]:
    """The image tower's weights under timm's names, which timm knows how to give."""
    rename = require(module, extra="train").checkpoint_filter_fn
    kept = {name: value for name, value in weights.items() if name.startswith((APPLE_IMAGE, "visual."))}
    renamed = rename({name: value for name, value in kept.items() if name not in HEADS}, model.image_encoder.tower)
    return {f"image_encoder.tower.{name}": value for name, value in renamed.items()}


def _fill(model: DualEncoder, found: dict[str, Tensor], *, place: str) -> None:
    for part in ("image_head", "text_head"):
        if not isinstance(getattr(model, part), nn.Linear):
            raise UserError(f"{place}: published heads are linear, so model.{part} should be of that kind.")
    own = model.state_dict()
    for name in ("image_head.bias", "text_head.bias"):
        if name in own and name not in found:
            found[name] = torch.zeros_like(own[name])
        elif name in found and name not in own and not found[name].any():
            del found[name]  # a bias of zeros is none
    counts = {name for name in own if name.endswith("num_batches_tracked")}
    missing = [name for name in own if name not in found and name not in counts and name != "logit_bias"]
    extra = [name for name in found if name not in own]
    fitted = {name: _without_ones(value, own[name]) for name, value in found.items() if name in own}
    shapes = [
        f"{name} {tuple(value.shape)} instead of {tuple(own[name].shape)}"
        for name, value in fitted.items()
        if value.shape != own[name].shape
    ]
    problems = [
        f"{what} {_first(names)}"
        for what, names in (("it lacks", missing), ("has no place for", extra), ("has other shapes:", shapes))
        if names
    ]
    if problems:
        raise UserError(f"{place}: {'; '.join(problems)}.")
    model.load_state_dict({**own, **fitted})


def _without_ones(value: Tensor, own: Tensor) -> Tensor:
    """The value in our shape where only axes of length 1 differ, as between a 1 x 1 convolution and a linear layer."""
    return value.reshape(own.shape) if value.squeeze().shape == own.squeeze().shape else value


def _first(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - NAMES_SHOWN} more" if len(listed) > NAMES_SHOWN else ""
    return ", ".join(listed[:NAMES_SHOWN]) + more
