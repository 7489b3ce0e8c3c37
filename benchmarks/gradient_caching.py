"""Exact large batches through the towers: peak memory of batch 4,096 in chunks of 64 against a plain batch of 64.

    uv run python benchmarks/gradient_caching.py

A training step (forward, backward, AdamW) of EfficientNet-Lite0 at 96 px and MiniLM-L6, everything trained, in
processes of their own. Memory is the most the process itself held (RssAnon) over what it held before the first step.
The large batch's bytes, tokens and features are part of it: they are what a large batch adds.
"""

import json
import sys
import time

from record import PeakMemory, arguments, finish, in_a_process

CHUNK, LARGE, SIDE, TOKENS = 64, 4096, 96, 16


def measure(batch_size: int) -> dict[str, float]:
    import torch

    from pocketclip.hardware import keep_freed_memory
    from pocketclip.models.build import build_model
    from pocketclip.models.running.precision import autocast
    from pocketclip.objectives.config import ContrastiveObjectiveConfig
    from pocketclip.recipe import load_recipe
    from pocketclip.train.optimizer import build_optimizer
    from pocketclip.train.parallel import Alone
    from pocketclip.train.rates import AdamWConfig, LearningRates
    from pocketclip.train.step import train_step
    from pocketclip.types import ImageTextBatch

    keep_freed_memory()
    torch.manual_seed(0)
    changes = [f"model.image_encoder.image_size={SIDE}", "model.image_encoder.frozen_layers=0"]
    recipe = load_recipe("flickr/flickr8k_finetune_cpu", [*changes, "model.text_encoder.frozen_layers=0"])
    model = build_model(recipe.model, load_pretrained=False).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    rates = LearningRates(heads=1e-3, image_encoder=1e-4, text_encoder=1e-5)
    optimizer = build_optimizer(model, AdamWConfig(), rates)
    objective, parallel = ContrastiveObjectiveConfig().build(), Alone(model)
    with PeakMemory() as memory:
        batch = ImageTextBatch(
            images=torch.randint(0, 256, (batch_size, SIDE, SIDE, 3), dtype=torch.uint8).permute(0, 3, 1, 2),
            tokens=torch.randint(1000, 20000, (batch_size, TOKENS)),
            token_mask=torch.ones(batch_size, TOKENS, dtype=torch.bool),
            image_ids=torch.arange(batch_size),
            caption_ids=torch.arange(batch_size),
        )
        started = time.perf_counter()
        for _ in range(3 if batch_size == CHUNK else 1):
            train_step(
                parallel,
                objective,
                batch,
                optimizer,
                autocast=lambda: autocast("auto", torch.device("cpu")),
                max_grad_norm=1.0,
                chunk_size=CHUNK,
            )
        seconds = time.perf_counter() - started
    return {"mib": memory.mebibytes, "seconds": seconds}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--batch", type=int)
    options = parser.parse_args()
    if options.batch:
        print(json.dumps(measure(options.batch)))
        return
    small, large = (in_a_process(sys.argv[0], "--batch", size) for size in (CHUNK, LARGE))
    inputs = LARGE * (3 * SIDE * SIDE + 9 * TOKENS + 16) / 2**20
    values = {
        "what": f"batch {LARGE} in chunks of {CHUNK} against a batch of {CHUNK}, {SIDE} px, {TOKENS} tokens",
        "small_mib": round(small["mib"]),
        "large_mib": round(large["mib"]),
        "of_which_the_inputs_mib": round(inputs),
        "memory_ratio": round(large["mib"] / small["mib"], 3),
        "large_seconds": round(large["seconds"], 1),
    }
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
