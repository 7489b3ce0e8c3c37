"""What a sample of each strategy is accounted to cost, what torch counts of a real step, and what its time says.

    uv run python benchmarks/training_cost.py

EfficientNet-Lite0 at 160 px, or a ViT-Ti/16 where a strategy drops patches, and MiniLM-L6 with random weights, batches
of 32 drawn pictures with captions of 16 tokens.
`counted` is torch's counter over one training step, with its mistake on grouped convolutions mended
(`pocketclip/cost/flops.py`). `seconds` is of a step, the median, the strategies taking turns; time does not follow MACs
alone, since layers that fit a processor badly take longer for each, so `time_to_clip` stands beside `macs_to_clip`.
A strategy is a row of `STRATEGIES`: the changes of a recipe that it is.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from record import arguments, finish

BASE = "flickr/flickr8k_finetune_cpu"
COMMON = ["heads_first=null", "train.batch_size=32", "train.captions_per_image=1", "objective={kind: contrastive}",
          "model.image_encoder.pretrained=none", "model.image_encoder.frozen_layers=0",
          "model.text_encoder.pretrained=none", "model.text_encoder.frozen_layers=0"]  # fmt: skip
CACHED = ["train.augment={}", "train.batch_norm=train"]
VIT = ["model.image_encoder={kind: timm, name: vit_tiny_patch16_224, pretrained: none, image_size: 160}"]
ALL = "learning_rate: {heads: 0.0005, image_encoder: 0.0002, text_encoder: 0.00005}"
STRATEGIES: dict[str, list[str]] = {
    "clip": [],
    "frozen_layers": ["model.image_encoder.frozen_layers=4", "model.text_encoder.frozen_layers=3"],
    "multi_caption": ["train.captions_per_image=2", "objective.loss={kind: multi_positive}"],
    "sigmoid": ["objective.loss={kind: sigmoid}", "model.logit_bias=-10"],
    "lit": ["train.learning_rate={heads: 0.0005, text_encoder: 0.00005}"],
    "cached_images": ["train.cache={}", "train.learning_rate={heads: 0.0005, text_encoder: 0.00005}", *CACHED],
    "cached_heads": ["train.cache={}", "train.learning_rate={heads: 0.0005}", *CACHED],
    "gradient_cache": ["train.chunk_size=8"],
    "low_resolution": ["model.image_encoder.image_size=112"],
    "slip": ["objective.simclr={}"],
    "fewer_tokens": ["train.text_tokens={kind: truncate, keep: 8}"],
    "vit": VIT,
    "slip_vit": [*VIT, "objective.simclr={}"],
    "flip": [*VIT, "train.keep_patches=0.5"],
    "smaller_pictures_first": [
        *VIT,
        f"early_stages=[{{name: low, image_size: 96, num_steps: 1, batch_size: 32, {ALL}}}]",
    ],
}
TOKENS, ROUNDS = 16, 3


def step_of(changes: list[str]) -> tuple[Callable[[], object], float]:
    """One training step, and the MACs that its batch is accounted."""
    import torch

    from pocketclip.cost.training import sample_macs
    from pocketclip.models.build import build_model
    from pocketclip.models.running.precision import autocast
    from pocketclip.recipe import load_recipe
    from pocketclip.run.spending import sample_work
    from pocketclip.run.strategies import tower_of_stage
    from pocketclip.train.modes import set_modes
    from pocketclip.train.optimizer import build_optimizer
    from pocketclip.train.parallel import Alone
    from pocketclip.train.step import learned_part, train_step
    from pocketclip.types import ImageTextBatch

    recipe = load_recipe(BASE, [*COMMON, *changes])
    stage, whole = next(iter(recipe.stages.values())), build_model(recipe.model)
    num_tokens = TOKENS if stage.text_tokens is None else stage.text_tokens.keep
    work = sample_work(recipe, stage, num_tokens)
    objective = recipe.objective.build(embed_dim=recipe.model.embed_dim, feature_dim=whole.width_of_views)
    run: Any = SimpleNamespace(model=whole)
    with tower_of_stage(run, stage):
        accounted = sample_macs(whole, work, objective).total * stage.batch_size
    model = whole.heads_only() if stage.is_heads_only else whole.without_image_tower() if stage.cache else whole
    others = list(learned_part(objective).parameters())
    optimizer = build_optimizer(model, stage.optimizer, stage.learning_rate, others)
    set_modes(model, stage)
    count, texts = stage.batch_size, stage.batch_size * work.captions
    size = work.image_size
    images = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    tokens, mask = torch.randint(1000, 20000, (texts, num_tokens)), torch.ones(texts, num_tokens, dtype=torch.bool)
    if "image" in work.cached:
        images = torch.randn(count, whole.image_encoder.feature_dim)
    if "text" in work.cached:
        tokens, mask = torch.randn(texts, whole.text_encoder.feature_dim), mask[:, :0]
    views = tuple(images for _ in range(work.views - 1))
    batch = ImageTextBatch(images, tokens, mask, torch.arange(count), torch.arange(texts), views=views)
    number_type = lambda: autocast("auto", torch.device("cpu"))  # noqa: E731
    chunk, parallel = stage.chunk_size, Alone(model)

    def step() -> object:
        with tower_of_stage(run, stage):
            return train_step(
                parallel, objective, batch, optimizer, autocast=number_type, max_grad_norm=1.0, chunk_size=chunk
            )

    return step, accounted


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    options = parser.parse_args()

    from pocketclip.cost.flops import counted_macs
    from pocketclip.hardware import keep_freed_memory

    keep_freed_memory()
    steps, rows = {}, {}
    for name in options.only:
        steps[name], accounted = step_of(STRATEGIES[name])
        with counted_macs() as counter:
            steps[name]()
        rows[name] = {"accounted": accounted, "counted": counter.get_total_flops() / 2}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - started)
    values: dict[str, Any] = {"what": "MACs of a sample, forward and backward; seconds of a step of 32", "rows": {}}
    for name, row in rows.items():
        first = next(iter(rows))
        values["rows"][name] = {
            "macs_per_sample": round(row["accounted"] / 32),
            "accounted_to_counted": round(row["accounted"] / row["counted"], 4),
            "seconds": round(statistics.median(seconds[name]), 4),
            f"macs_to_{first}": round(row["accounted"] / rows[first]["accounted"], 3),
            f"time_to_{first}": round(statistics.median(seconds[name]) / statistics.median(seconds[first]), 3),
        }
        print(name, json.dumps(values["rows"][name]), file=sys.stderr)
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
