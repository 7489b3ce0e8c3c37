"""Samples a second of a training step against open_clip's own modules and loss, on the same towers, on a CPU.

    uv run --group bench python benchmarks/training_step.py

EfficientNet-Lite0 at 160 px and a text tower of MiniLM-L6's shape, everything trained, linear projections to 512,
AdamW. "Default" is what each side does when nothing is said: open_clip float32 and captions padded to 77 tokens; ours
picks its number types and pads to the longest caption. "Best" gives open_clip bfloat16 autocast or float32 with
channels_last, fused AdamW and our short padding, of which the fastest counts. The sides take turns, each in a process
of its own.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from record import arguments, finish, in_a_process

ROUNDS = {64: 3, 256: 1}  # by batch size; a large batch takes half a minute a step
STEPS = 1
SIDES = ("ours", "open_clip", "open_clip_bf16", "open_clip_best_fp32", "open_clip_best_bf16")


def captions(batch_size: int, length: int | None) -> tuple[Any, Any]:
    """Ids and mask of captions as long as Flickr8k's, padded to `length` or to the longest."""
    import torch

    lengths = torch.randint(8, 31, (batch_size,), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(length or int(lengths.max())) < lengths[:, None]
    return torch.randint(1000, 20000, mask.shape) * mask, mask


def our_step(batch_size: int) -> Callable[[], object]:
    import torch

    from pocketclip.hardware import keep_freed_memory
    from pocketclip.models.build import build_model
    from pocketclip.models.running.precision import autocast
    from pocketclip.objectives.config import ContrastiveObjectiveConfig
    from pocketclip.recipe import load_recipe
    from pocketclip.train.optimizer import build_optimizer
    from pocketclip.train.rates import AdamWConfig, LearningRates
    from pocketclip.train.step import train_step
    from pocketclip.types import ImageTextBatch

    keep_freed_memory()
    linear = ["model.image_head={kind: linear}", "model.text_head={kind: linear}"]
    bare = ["model.image_encoder.joined_stages=[]", "model.text_encoder.joined_layers=[]"]
    trained = ["model.image_encoder.frozen_layers=0", "model.text_encoder.frozen_layers=0"]
    model = build_model(
        load_recipe("flickr/flickr8k_finetune_cpu", [*linear, *bare, *trained]).model, load_pretrained=False
    )
    model.train()
    rates = LearningRates(heads=1e-4, image_encoder=1e-4, text_encoder=1e-4)
    optimizer = build_optimizer(model, AdamWConfig(), rates)
    objective = ContrastiveObjectiveConfig().build()
    tokens, mask = captions(batch_size, None)
    ids = torch.arange(batch_size)
    pixels = torch.randint(0, 256, (batch_size, 160, 160, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    batch = ImageTextBatch(pixels, tokens, mask, ids, ids)

    def step() -> object:
        precision = lambda: autocast("auto", torch.device("cpu"))  # noqa: E731
        return train_step(model, objective, batch, optimizer, autocast=precision, max_grad_norm=None)

    return step


def their_step(batch_size: int, *, best: bool, half: bool) -> Callable[[], object]:
    import torch
    import transformers
    from open_clip.hf_model import HFTextEncoder
    from open_clip.loss import ClipLoss
    from open_clip.timm_model import TimmModel

    shape = transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    image_tower = TimmModel(
        "tf_efficientnet_lite0", 512, image_size=160, pool="", proj="linear", pretrained=False
    ).train()
    text_tower = HFTextEncoder("", 512, config=shape, pooler_type="mean_pooler", proj_type="linear", pretrained=False)
    text_tower.train()
    scale = torch.nn.Parameter(torch.tensor(2.66))
    parameters = [*image_tower.parameters(), *text_tower.parameters(), scale]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True if best else None)
    loss_of = ClipLoss()
    tokens, _ = captions(batch_size, None if best else 77)
    images = torch.randn(batch_size, 3, 160, 160)
    if best:
        image_tower.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)

    def step() -> object:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            image = torch.nn.functional.normalize(image_tower(images), dim=-1)
            text = torch.nn.functional.normalize(text_tower(tokens), dim=-1)
            loss = loss_of(image, text, scale.exp())
        loss.backward()
        optimizer.step()
        return loss

    return step


def measure(side: str, batch_size: int) -> float:
    import torch

    torch.manual_seed(0)
    if side == "ours":
        step = our_step(batch_size)
    else:
        step = their_step(batch_size, best="best" in side, half=side.endswith("bf16"))
    step()
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    return STEPS * batch_size / (time.perf_counter() - started)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--measure", nargs=2, metavar=("SIDE", "BATCH"))
    options = parser.parse_args()
    if options.measure:
        print(json.dumps({"rate": measure(options.measure[0], int(options.measure[1]))}))
        return
    values: dict[str, Any] = {"what": "samples per second of a whole step, medians", "rounds": ROUNDS}
    for batch_size, num_rounds in ROUNDS.items():
        rates: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(num_rounds):
            for side, found in rates.items():
                found.append(in_a_process(sys.argv[0], "--measure", side, batch_size)["rate"])
        middle = {side: statistics.median(found) for side, found in rates.items()}
        best = max(rate for side, rate in middle.items() if side != "ours")
        values[f"batch_{batch_size}"] = {
            **{side: round(rate, 1) for side, rate in middle.items()},
            "ratio_default_to_default": round(middle["ours"] / middle["open_clip"], 2),
            "ratio_best_to_best": round(middle["ours"] / best, 2),
        }
    finish(sys.argv[0], values, write=options.write, group="bench")


if __name__ == "__main__":
    main()
