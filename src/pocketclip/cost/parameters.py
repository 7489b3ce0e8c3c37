"""How many numbers a model holds."""

from torch import nn

from pocketclip.asked import LibraryModel
from pocketclip.models.dual_encoder import PARTS, DualEncoder, SharedDualEncoder


def count_parameters(module: nn.Module) -> int:
    """Learned values, each shared one once; buffers such as batch-norm statistics do not count."""
    return sum(parameter.numel() for parameter in module.parameters())


def parameters_by_side(model: LibraryModel) -> dict[str, int]:
    """Of another library's model: what an image and what a text passes, each with its projection, and the whole."""
    sides = {"image": 0, "text": 0}
    for name, parameter in model.module.named_parameters():
        if not name.startswith("logit_"):
            sides["image" if name.startswith(model.image_parts) else "text"] += parameter.numel()
    tables = {
        id(module.weight): module.weight.numel()
        for name, module in model.module.named_modules()
        if isinstance(module, nn.Embedding) and not name.startswith(model.image_parts)
    }
    counts = {"parameters_image": sides["image"]}
    if model.tokenizer is not None:
        counts |= {"parameters_text": sides["text"], "parameters_text_embeddings": sum(tables.values())}
    return {**counts, "parameters_total": model.num_parameters}


def parameters_by_part(model: DualEncoder) -> dict[str, int]:
    """Towers without heads, the heads, the text tower's embedding table, and the whole.

    Of a model whose towers share an encoder also that one, which counts neither as a tower nor as a head.
    """
    counts = {part: sum(value.numel() for _, value in model.part_parameters(part)) for part in PARTS}
    tables = {id(m.weight): m.weight.numel() for m in model.text_encoder.modules() if isinstance(m, nn.Embedding)}
    shared = {}
    if isinstance(model, SharedDualEncoder):
        shared["parameters_shared"] = count_parameters(model.shared_encoder)
    return {
        "parameters_image": counts["image_encoder"],
        "parameters_text": counts["text_encoder"],
        "parameters_text_embeddings": sum(tables.values()),
        **shared,
        "parameters_heads": counts["heads"] - sum(shared.values()),
        "parameters_total": sum(counts.values()),
    }
