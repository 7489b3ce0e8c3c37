"""How many numbers a model holds."""

from collections.abc import Iterable

from torch import nn

from pocketclip.asked import LibraryModel
from pocketclip.models.dual_encoder import PARTS, DualEncoder


def count_parameters(module: nn.Module) -> int:
    """Learned values, each shared one once; buffers such as batch-norm statistics do not count."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_by_part(model: DualEncoder) -> dict[str, int]:
    """Learned values of each of `PARTS`."""
    return {part: sum(value.numel() for _, value in model.part_parameters(part)) for part in PARTS}


def parameters_by_side(model: LibraryModel) -> dict[str, int]:
    """Of another library's model: what an image and what a text passes, each with its projection, and the whole."""
    sides = {"image": 0, "text": 0}
    for name, parameter in model.module.named_parameters():
        if not name.rpartition(".")[2].startswith("logit_"):
            sides["image" if name.startswith(model.image_parts) else "text"] += parameter.numel()
    counts = {"parameters_image": sides["image"]} if model.knows_images else {}
    if model.tokenizer is not None:
        modules = (part for name, part in model.module.named_modules() if not name.startswith(model.image_parts))
        counts |= {"parameters_text": sides["text"], "parameters_text_embeddings": _embeddings(modules)}
    return {**counts, "parameters_total": model.num_parameters}


def _embeddings(modules: Iterable[nn.Module]) -> int:
    return sum({id(m.weight): m.weight.numel() for m in modules if isinstance(m, nn.Embedding)}.values())


def parameters_by_part(model: DualEncoder) -> dict[str, int]:
    """Towers without heads, the heads, the text tower's embedding table, and the whole.

    Of a model whose towers share an encoder also that one, which counts neither as a tower nor as a head.
    """
    counts = count_by_part(model)
    shared_encoder = model.shared_encoder
    shared = {} if shared_encoder is None else {"parameters_shared": count_parameters(shared_encoder)}
    return {
        "parameters_image": counts["image_encoder"],
        "parameters_text": counts["text_encoder"],
        "parameters_text_embeddings": _embeddings(model.text_encoder.modules()),
        **shared,
        "parameters_heads": counts["heads"] - sum(shared.values()),
        "parameters_total": sum(counts.values()),
    }
