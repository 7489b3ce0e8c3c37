"""What the sizes one can name weigh, from a stored table: building each of them takes many seconds.

The table is made anew with `python -m pocketclip.cost.sizes > src/pocketclip/cost/sizes.json`; a test builds the sizes
and compares.
"""

import json
from importlib import resources

from pydantic import NonNegativeInt, PositiveInt

from pocketclip.config import Config
from pocketclip.image_size import ImageSize


class SizeCounts(Config):
    """Learned values of a size, each tower with its head."""

    image: PositiveInt
    text: PositiveInt
    text_embeddings: PositiveInt
    """Of the text's, those that are word embeddings."""
    shared: NonNegativeInt = 0
    """Of an encoder that both towers share; counted in neither."""
    image_size: ImageSize
    """Pixels a side of its pictures, or their height and width."""


def size_table() -> dict[str, SizeCounts]:
    """The stored counts by the name of the size."""
    values = json.loads((resources.files("pocketclip.cost") / "sizes.json").read_text(encoding="utf-8"))
    return {name: SizeCounts.parse(entry, place=f"sizes.json: {name}") for name, entry in values.items()}


def count_size(name: str) -> SizeCounts:
    """Builds a size, without memory for its weights, and counts."""
    import torch

    from pocketclip.cost.parameters import count_parameters, parameters_by_part
    from pocketclip.models.build import build_model
    from pocketclip.models.config import DualEncoderConfig

    config = DualEncoderConfig.parse(name, place=name)
    with torch.device("meta"):  # shapes are enough to count
        model = build_model(config, load_pretrained=False)
    parts = parameters_by_part(model)
    return SizeCounts(
        image=count_parameters(model.image_encoder) + count_parameters(model.image_head),
        text=count_parameters(model.text_encoder) + count_parameters(model.text_head),
        text_embeddings=parts["parameters_text_embeddings"],
        shared=parts.get("parameters_shared", 0),
        image_size=config.image_encoder.image_size,
    )


if __name__ == "__main__":
    from pocketclip.models.sizes import list_sizes

    print(json.dumps({name: count_size(name).model_dump() for name in list_sizes()}, indent=2))  # noqa: T201
