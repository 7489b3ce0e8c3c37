"""Image towers with and without keeping freed memory (pocketclip.hardware.keep_freed_memory).

    uv run python benchmarks/memory_reuse.py

The setting holds for a whole process, so each side runs in processes of its own, in turns.
"""

import json
import statistics
import sys
import time

from record import arguments, finish, in_a_process

ROUNDS = 5
BATCHES = 12


def images_per_second(keep: bool) -> float:
    import numpy as np
    import torch

    from pocketclip.hardware import keep_freed_memory
    from pocketclip.models.build import build_model
    from pocketclip.models.running import runner as inference
    from pocketclip.recipe import load_recipe

    if keep:
        assert keep_freed_memory()
    else:
        inference.keep_freed_memory = lambda: False  # which a runner on a CPU does otherwise
    model = build_model(load_recipe("flickr/flickr8k_heads_cpu").model, load_pretrained=False)
    runner = inference.Runner(model, device=torch.device("cpu"), image_size=160, heads=False)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 160, 160, 3), dtype=np.uint8)
    for _ in range(3):
        runner.encode_images(pixels)
    started = time.perf_counter()
    for _ in range(BATCHES):
        runner.encode_images(pixels)
    return BATCHES * len(pixels) / (time.perf_counter() - started)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--side", choices=["keep", "default"])
    options = parser.parse_args()
    if options.side:
        print(json.dumps({"images_per_second": images_per_second(options.side == "keep")}))
        return
    rates: dict[str, list[float]] = {"default": [], "keep": []}
    for _ in range(ROUNDS):
        for side, found in rates.items():
            found.append(in_a_process(sys.argv[0], "--side", side)["images_per_second"])
    ratios = [keep / default for keep, default in zip(rates["keep"], rates["default"], strict=True)]
    values = {
        "what": "EfficientNet-Lite0, 160 px, batch 32, images per second",
        "default_median": round(statistics.median(rates["default"]), 1),
        "keep_median": round(statistics.median(rates["keep"]), 1),
        "ratio_median": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "rounds": ROUNDS,
    }
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
