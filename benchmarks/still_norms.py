"""Steps of a tower whose batch norms stand still: computed with the convolution before them, or as layers of their own.

    uv run python benchmarks/still_norms.py

A training step (forward, backward, AdamW) of EfficientNet-Lite2 at 224 px and of heads, as `flickr/flickr8k_best_cpu`
trains them, the text tower frozen; each side in processes of its own, in turns. Memory is the most that a process held
(RssAnon) over what it held before its first step.
"""

import json
import statistics
import sys
import time

from record import PeakMemory, arguments, finish, in_a_process

ROUNDS, STEPS, BATCH = 5, 3, 64


def measure(side: str) -> dict[str, float]:
    import torch

    from pocketclip.hardware import keep_freed_memory
    from pocketclip.models.build import build_model
    from pocketclip.models.running.precision import autocast
    from pocketclip.objectives.config import ContrastiveObjectiveConfig
    from pocketclip.recipe import load_recipe
    from pocketclip.train.modes import set_modes
    from pocketclip.train.optimizer import build_optimizer
    from pocketclip.train.parallel import Alone
    from pocketclip.train.step import train_step
    from pocketclip.train.still_norms import StillNorms
    from pocketclip.types import ImageTextBatch

    keep_freed_memory()
    torch.manual_seed(0)
    recipe = load_recipe("flickr/flickr8k_best_cpu", ["train.learning_rate.text_encoder=null"])
    model = build_model(recipe.model, load_pretrained=False)
    set_modes(model, recipe.train)
    optimizer = build_optimizer(model, recipe.train.optimizer, recipe.train.learning_rate)
    objective, parallel = ContrastiveObjectiveConfig().build(), Alone(model)
    if side == "plain":
        parallel.still_norms = StillNorms()
    batch = ImageTextBatch(
        images=torch.randint(0, 256, (BATCH, 224, 224, 3), dtype=torch.uint8).permute(0, 3, 1, 2),
        tokens=torch.randint(1000, 20000, (BATCH, 8)),
        token_mask=torch.ones(BATCH, 8, dtype=torch.bool),
        image_ids=torch.arange(BATCH),
        caption_ids=torch.arange(BATCH),
    )

    def step() -> None:
        precision = lambda: autocast("auto", torch.device("cpu"))  # noqa: E731
        train_step(parallel, objective, batch, optimizer, autocast=precision, max_grad_norm=1.0)

    with PeakMemory() as memory:
        step()
        started = time.perf_counter()
        for _ in range(STEPS):
            step()
        seconds = (time.perf_counter() - started) / STEPS
    return {"images_per_second": BATCH / seconds, "mebibytes": memory.mebibytes}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--side", choices=["plain", "folded"])
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side)))
        return
    found: dict[str, list[dict[str, float]]] = {"plain": [], "folded": []}
    for _ in range(ROUNDS):
        for side, results in found.items():
            results.append(in_a_process(sys.argv[0], "--side", side))
    values: dict[str, object] = {"what": f"steps of EfficientNet-Lite2, 224 px, batch {BATCH}, medians of {ROUNDS}"}
    for name, digits in {"images_per_second": 1, "mebibytes": 0}.items():
        pairs = list(zip(*([result[name] for result in found[side]] for side in ("plain", "folded")), strict=True))
        ratios = [folded / plain for plain, folded in pairs]
        values[name] = {
            "plain": round(statistics.median(plain for plain, _ in pairs), digits),
            "folded": round(statistics.median(folded for _, folded in pairs), digits),
            "ratio": round(statistics.median(ratios), 2),
            "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        }
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
