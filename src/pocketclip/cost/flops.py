"""Multiply-accumulates of one forward pass, attention included."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from pocketclip.asked import LibraryModel
from pocketclip.image_size import ImageSize, height_and_width
from pocketclip.models.dual_encoder import DualEncoder


@contextmanager
def counted_macs() -> Iterator[FlopCounterMode]:
    """Within, a counter of floating-point operations runs, two a multiply-accumulate.

    torch's counter does not see the fused attention kernels of the CPU (a ViT-B/16 would lose 4 % of its count, a
    ViT-Ti/16 14 %), so attention runs as plain matrix products here and the fast path of `nn.MultiheadAttention` is
    off. It also counts the gradient of a grouped convolution's weights as if there were one group, which makes a
    depthwise layer as dear as a full one; that is mended. Only matrix products and convolutions count, as in published
    numbers.
    """
    mended = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        fast_path = torch.backends.mha.get_fastpath_enabled()
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
        torch.backends.mha.set_fastpath_enabled(False)
        yield stack.enter_context(FlopCounterMode(display=False, custom_mapping=mended))


def _convolution_backward_flops(
    grad_shape: list[int], input_shape: list[int], weight_shape: list[int], *others: Any, **shapes: Any
) -> int:
    """Each of the two gradients costs what the forward pass did."""
    transposed, wanted = others[4], others[7]
    forward = conv_flop_count(input_shape, weight_shape, grad_shape, transposed=transposed)
    return int(forward * (bool(wanted[0]) + bool(wanted[1])))


@torch.no_grad()
def count_macs(run: Callable[[], object]) -> int:
    """MACs (1 MAC = 2 FLOPs) of whatever `run` computes; see `counted_macs`."""
    with counted_macs() as counter:
        run()
    return int(counter.get_total_flops()) // 2


def tower_macs(model: DualEncoder | LibraryModel, *, image_size: ImageSize, context_length: int) -> dict[str, int]:
    """MACs of one image and of one text of full length, heads included; of none where `image_size` or length is 0.

    A model of ours is left in evaluation mode.
    """
    images = torch.zeros(1, 3, *height_and_width(image_size))
    encode_texts: Callable[[Tensor, Tensor], Tensor]
    if isinstance(model, LibraryModel):
        images, encode_images, encode_texts = images.to(torch.uint8), model.embed_images, model.embed_tokens
    else:
        images = images.to(model.logit_scale.device)
        encode_images, encode_texts = model.eval().encode_image, model.encode_text
    macs = {"macs_image": count_macs(lambda: encode_images(images))} if image_size else {}
    if context_length:
        tokens = torch.ones(1, context_length, dtype=torch.int64, device=images.device)
        macs["macs_text"] = count_macs(lambda: encode_texts(tokens, torch.ones_like(tokens, dtype=torch.bool)))
    return macs
