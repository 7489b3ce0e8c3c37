"""The files that BEiT's self-supervised training leaves behind, in the form of a tower."""

from collections.abc import Mapping

from torch import Tensor

SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"
"""One for all blocks, in pre-training; each block of a tower has its own."""
OF_PRETRAINING = ("mask_token", "lm_head.", "cls_pt_layers.", "decoder.", "rel_pos_bias.")
"""What predicts the masked patches."""


def tower_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A tower's weights without what only pre-training needs; those of any other tower are returned as they are.

    The table of relative positions that all blocks share goes to each of them, which computes the same. A file with
    one is BEiT v2's `beitv2_base_patch16_224_pt1k.pth`, https://arxiv.org/abs/2208.06366.
    """
    if SHARED_TABLE not in weights:
        return dict(weights)
    kept = {
        name: value
        for name, value in weights.items()
        if not name.startswith(OF_PRETRAINING) and not name.endswith("relative_position_index")
    }
    blocks = sorted({name.split(".")[1] for name in kept if name.startswith("blocks.")})
    tables = {f"blocks.{block}.attn.relative_position_bias_table": weights[SHARED_TABLE] for block in blocks}
    return {**kept, **tables}
