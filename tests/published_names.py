"""Names and shapes of the weights of apple/ml-mobileclip, written down layer by layer from its public source.

There is no package to make such a file with.
"""

from typing import Any

import torch
from torch import Tensor


def apple_norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    values = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{value}": (width,) for value in values}, f"{name}.num_batches_tracked": ()}


def apple_convolution(name: str, shape: tuple[int, ...], *, scale: bool, skip: bool) -> dict[str, tuple[int, ...]]:
    """A block with its branches: convolution, 1 x 1 convolution, skip; each with a batch norm."""
    shapes = {f"{name}.rbr_conv.0.conv.weight": shape, **apple_norm(f"{name}.rbr_conv.0.bn", shape[0])}
    if scale:
        shapes[f"{name}.rbr_scale.conv.weight"] = (*shape[:2], 1, 1)
        shapes.update(apple_norm(f"{name}.rbr_scale.bn", shape[0]))
    if skip:
        shapes.update(apple_norm(f"{name}.rbr_skip", shape[0]))
    return shapes


def apple_feed_forward(name: str, width: int, hidden: int, kernel: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.conv.conv.weight": (width, 1, *kernel),
        **apple_norm(f"{name}.conv.bn", width),
        f"{name}.fc1.weight": (hidden, width, 1, 1), f"{name}.fc1.bias": (hidden,),
        f"{name}.fc2.weight": (width, hidden, 1, 1), f"{name}.fc2.bias": (width,),
    }  # fmt: skip


def apple_mixer(
    name: str, width: int, hidden: int, kernel: tuple[int, int], mixing: tuple[int, int], *, scale: bool
) -> Any:
    return {
        **apple_norm(f"{name}.token_mixer.norm.rbr_skip", width),
        **apple_convolution(f"{name}.token_mixer.mixer", (width, 1, *mixing), scale=scale, skip=True),
        f"{name}.token_mixer.layer_scale": (width, 1, 1),
        **apple_feed_forward(f"{name}.convffn", width, hidden, kernel),
        f"{name}.layer_scale": (width, 1, 1),
    }


def apple_image(widths: tuple[int, ...], depths: tuple[int, ...], embed_dim: int) -> dict[str, tuple[int, ...]]:
    """An MCi tower: a stem, stages with a step down before all but the first, positions before the last."""
    first, last = widths[0], widths[-1]
    shapes = {
        **apple_convolution("patch_embed.0", (first, 3, 3, 3), scale=True, skip=False),
        **apple_convolution("patch_embed.1", (first, 1, 3, 3), scale=True, skip=False),
        **apple_convolution("patch_embed.2", (first, first, 1, 1), scale=False, skip=True),
    }
    place = 0
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if stage:
            name = f"network.{place}.proj"
            for branch, kernel in (("lkb_origin", 7), ("small_conv", 3)):
                shapes[f"{name}.0.{branch}.conv.weight"] = (width, 1, kernel, kernel)
                shapes.update(apple_norm(f"{name}.0.{branch}.bn", width))
            if stage >= 2:
                shapes.update(
                    {f"{name}.0.se.fc1.weight": (width // 4, width, 1, 1), f"{name}.0.se.fc1.bias": (width // 4,)}
                )
                shapes.update({f"{name}.0.se.fc2.weight": (width, width // 4, 1, 1), f"{name}.0.se.fc2.bias": (width,)})
            shapes.update(apple_convolution(f"{name}.1", (width, width, 1, 1), scale=False, skip=True))
            place += 1
        if stage == 3:
            shapes.update({f"network.{place}.pe.weight": (width, 1, 7, 7), f"network.{place}.pe.bias": (width,)})
            place += 1
        for block in range(depth):
            name = f"network.{place}.{block}"
            if stage < 3:
                shapes.update(apple_mixer(name, width, 3 * width, (7, 7), (3, 3), scale=True))
                continue
            shapes.update(apple_norm(f"{name}.norm", width))
            shapes[f"{name}.token_mixer.qkv.weight"] = (3 * width, width)
            shapes.update(
                {f"{name}.token_mixer.proj.weight": (width, width), f"{name}.token_mixer.proj.bias": (width,)}
            )
            shapes.update(apple_feed_forward(f"{name}.convffn", width, 3 * width, (7, 7)))
            shapes.update({f"{name}.layer_scale_{number}": (width, 1, 1) for number in (1, 2)})
        place += 1
    squeezed = 2 * last // 16
    shapes.update(apple_convolution("conv_exp", (2 * last, 1, 3, 3), scale=True, skip=False))
    shapes.update({"conv_exp.se.reduce.weight": (squeezed, 2 * last, 1, 1), "conv_exp.se.reduce.bias": (squeezed,)})
    shapes.update({"conv_exp.se.expand.weight": (2 * last, squeezed, 1, 1), "conv_exp.se.expand.bias": (2 * last,)})
    shapes["head.proj"] = (2 * last, embed_dim)
    return {f"image_encoder.model.{name}": shape for name, shape in shapes.items()}


def apple_attention(name: str, width: int) -> dict[str, tuple[int, ...]]:
    hidden = 4 * width
    return {
        f"{name}.pre_norm_mha.0.weight": (width,), f"{name}.pre_norm_mha.0.bias": (width,),
        f"{name}.pre_norm_mha.1.qkv_proj.weight": (3 * width, width),
        f"{name}.pre_norm_mha.1.qkv_proj.bias": (3 * width,),
        f"{name}.pre_norm_mha.1.out_proj.weight": (width, width), f"{name}.pre_norm_mha.1.out_proj.bias": (width,),
        f"{name}.pre_norm_ffn.0.weight": (width,), f"{name}.pre_norm_ffn.0.bias": (width,),
        f"{name}.pre_norm_ffn.1.weight": (hidden, width), f"{name}.pre_norm_ffn.1.bias": (hidden,),
        f"{name}.pre_norm_ffn.4.weight": (width, hidden), f"{name}.pre_norm_ffn.4.bias": (width,),
    }  # fmt: skip


def apple_text(width: int, layers: str, vocabulary: int, length: int, embed_dim: int) -> dict[str, tuple[int, ...]]:
    """`layers` has a letter a layer: c convolves, a attends."""
    shapes: dict[str, tuple[int, ...]] = {
        "embedding_layer.weight": (vocabulary, width),
        "positional_embedding.pos_embed.pos_embed": (1, 1, length, width),
    }
    for number, kind in enumerate(layers):
        if kind == "c":
            shapes.update(apple_mixer(f"transformer.{number}", width, 4 * width, (1, 11), (1, 11), scale=False))
        else:
            shapes.update(apple_attention(f"transformer.{number}", width))
    shapes.update({"final_layer_norm.weight": (width,), "final_layer_norm.bias": (width,)})
    shapes["projection_layer"] = (width, embed_dim)
    return {f"text_encoder.{name}": shape for name, shape in shapes.items()}


def apple_transformer(width: int, depth: int, embed_dim: int) -> dict[str, tuple[int, ...]]:
    """MobileCLIP-B's image tower."""
    quarter = width // 4
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed.pos_embed.pos_embed": (1, 1, 196, width),
    }
    for number, shape in enumerate(((quarter, 3, 4, 4), (quarter, quarter, 2, 2), (width, quarter, 2, 2))):
        shapes[f"patch_emb.{number}.block.conv.weight"] = shape
        if number < 2:
            shapes.update(apple_norm(f"patch_emb.{number}.block.norm", quarter))
    shapes["patch_emb.2.block.conv.bias"] = (width,)
    for number in range(depth):
        shapes.update(apple_attention(f"transformer.{number}", width))
    shapes.update({"post_transformer_norm.weight": (width,), "post_transformer_norm.bias": (width,)})
    shapes["classifier.proj"] = (width, embed_dim)
    return {f"image_encoder.model.{name}": shape for name, shape in shapes.items()}


def filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights that differ everywhere, and variances above 0."""
    random = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=random) / max(1, int(torch.tensor(shape[1:]).prod())) ** 0.5
        weights[name] = torch.tensor(7) if name.endswith("tracked") else value.abs() + 0.5 if "var" in name else value
    weights["logit_scale"] = torch.tensor(4.25)
    return weights
