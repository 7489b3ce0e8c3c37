"""A training pass of each tower in float32 and under bfloat16 autocast, and captions together or by length.

    uv run python benchmarks/training_precision.py

Forward and backward of the towers of flickr8k_finetune_cpu, everything trained, 64 images and 256 captions; the two
sides take turns.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from record import arguments, finish

from pocketclip.hardware import keep_freed_memory
from pocketclip.models.build import build_model
from pocketclip.models.text import huggingface
from pocketclip.recipe import load_recipe

ROUNDS = 7


def in_turns(sides: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median seconds of each side."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for run in sides.values():
        run()
    for _ in range(ROUNDS):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(found) for name, found in seconds.items()}


def main() -> None:
    options = arguments(__doc__).parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    model = build_model(load_recipe("flickr/flickr8k_finetune_cpu").model, load_pretrained=False).train()
    images = torch.randint(0, 256, (64, 3, 160, 160), dtype=torch.uint8).to(memory_format=torch.channels_last)
    lengths = torch.randint(8, 31, (256,))
    mask = torch.arange(30) < lengths[:, None]
    tokens = torch.randint(1000, 20000, mask.shape) * mask
    image_tower, text_tower = model.image_encoder, model.text_encoder

    def image_pass(half: bool) -> Callable[[], None]:
        def run() -> None:
            image_tower.is_depthwise = not half  # what makes the tower keep its own convolutions in float32
            with torch.autocast("cpu", dtype=torch.bfloat16):
                features = image_tower(images)
            features.float().sum().backward()

        return run

    def text_pass(half: bool, texts_a_pass: int) -> Callable[[], None]:
        def run() -> None:
            huggingface.TEXTS_A_PASS = texts_a_pass
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                features = text_tower(tokens, mask)
            features.float().sum().backward()

        return run

    image = in_turns({"float32": image_pass(False), "bfloat16": image_pass(True)})
    text = in_turns(
        {"float32": text_pass(False, 64), "bfloat16": text_pass(True, 64), "together": text_pass(True, 512)}
    )
    values = {
        "what": "medians of forward and backward; images or captions per second",
        "image_float32": round(64 / image["float32"], 1),
        "image_bfloat16": round(64 / image["bfloat16"], 1),
        "image_ratio_float32_to_bfloat16": round(image["bfloat16"] / image["float32"], 2),
        "text_float32": round(256 / text["float32"], 1),
        "text_bfloat16": round(256 / text["bfloat16"], 1),
        "text_ratio_bfloat16_to_float32": round(text["float32"] / text["bfloat16"], 2),
        "text_bfloat16_together": round(256 / text["together"], 1),
        "text_ratio_by_length_to_together": round(text["together"] / text["bfloat16"], 2),
        "rounds": ROUNDS,
    }
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
