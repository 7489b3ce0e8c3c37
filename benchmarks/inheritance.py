"""Steps and seconds to the same validation loss on Flickr8k: a text tower begun from a larger one, and from nothing.

    uv run python benchmarks/inheritance.py

The larger tower is all-MiniLM-L6-v2 (6 layers, width 384); the smaller ones take every second of its layers, and half
of its width and heads too. Image features are frozen (EfficientNet-Lite0 at 160 px). The text tower and both heads
train on one caption an image with the softmax loss, at a constant rate after a warm-up. Both sides see the same batches
in the same order, and each has the better of two rates for its tower. The goal is the lowest loss that the side from
nothing reaches on 1,000 images it is not trained on, one caption each; evaluations are not counted as time.
"""

import sys
import time
from typing import Any

import torch
from record import arguments, finish
from torch import Tensor, nn

from pocketclip.data import Source, open_source
from pocketclip.data.source import readable_captions
from pocketclip.features.encode import NO_IMAGES, image_blocks
from pocketclip.hardware import keep_freed_memory
from pocketclip.losses.clip import clip_loss
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.joints import ResidualMlpHeadConfig
from pocketclip.models.running.precision import autocast
from pocketclip.models.running.runner import Runner
from pocketclip.models.text.config import HuggingFaceTextEncoderConfig
from pocketclip.models.text.huggingface import HuggingFaceTextEncoder
from pocketclip.models.tower import CachedTower
from pocketclip.stages.store import Block
from pocketclip.tokenizer import Tokenizer
from pocketclip.vocabulary import keep_occurring

TRAIN, VAL = "webdataset:flickr8k/flickr8k-train-{000000..000002}.tar", "webdataset:flickr8k/flickr8k-val-000000.tar"
LARGE = "all-MiniLM-L6-v2"
SIZES = {
    "half the layers": {"num_hidden_layers": 3},
    "half the layers and width": {
        "num_hidden_layers": 3,
        "hidden_size": 192,
        "num_attention_heads": 6,
        "intermediate_size": 768,
    },
}
STARTS = ("nothing", "inherited")
RATES = (3e-4, 1e-3)
BATCH, EMBED_DIM, WARM_UP, EVALUATE_EVERY, SEED = 128, 256, 20, 20, 0
CPU = torch.device("cpu")
Data = tuple[Tensor, list[tuple[str, ...]]]
"""Image features and captions."""


def image_features(source: Source) -> Data:
    """Features of a frozen tower in bfloat16 where the processor has it."""
    config = DualEncoderConfig.parse(
        {
            "image_encoder": {
                "name": "tf_efficientnet_lite0",
                "pretrained": "package",
                "image_size": 160,
                "kind": "timm",
            },
            "text_encoder": {"name": "tiny-bert", "pretrained": "none", "kind": "huggingface"},
            "image_head": {"kind": "linear"},
            "text_head": {"kind": "linear"},
        },
        place="benchmark",
    )
    model = build_model(config)
    preprocess = model.image_encoder.preprocess
    runner = Runner(model, device=CPU, precision="auto", image_size=preprocess.image_size, heads=False)
    images = Block.join(image_blocks(source, runner.encode_images, preprocess), NO_IMAGES)
    features = torch.as_tensor(images["features"][:, 0], dtype=torch.float32)
    captions = list(readable_captions(source))
    return features, [captions[int(index)] for index in images["indices"]]


def text_tower(size: dict[str, int], start: str, train: Data) -> tuple[Tokenizer, HuggingFaceTextEncoder]:
    """A smaller MiniLM with the tokens that occur."""
    inherit = {"tower": {"name": LARGE, "pretrained": "package"}} if start == "inherited" else None
    config = HuggingFaceTextEncoderConfig.parse(
        {"name": LARGE, "pretrained": "none", "architecture": size, "inherit": inherit}, place="benchmark"
    )
    torch.manual_seed(SEED)
    encoder = config.build()
    texts = [text for captions in train[1] for text in captions]
    tokenizer, kept = keep_occurring(config.build_tokenizer(), texts, also=encoder.needed_tokens())
    encoder.keep_tokens(kept)
    return tokenizer, encoder


def build(encoder: HuggingFaceTextEncoder, width: int) -> DualEncoder:
    torch.manual_seed(SEED)
    heads = [ResidualMlpHeadConfig().build(features, EMBED_DIM) for features in (width, encoder.feature_dim)]
    return DualEncoder(CachedTower(), encoder, *heads)


def loss_of(model: DualEncoder, images: Tensor, texts: list[str], tokenizer: Tokenizer) -> Tensor:
    tokens, mask = (torch.from_numpy(array) for array in tokenizer.encode(texts))
    with autocast("auto", CPU):
        image, text = model.encode_image(images), model.encode_text(tokens, mask)
    unit = [nn.functional.normalize(features.float(), dim=1) for features in (image, text)]
    return clip_loss(*unit, model.logit_scale.exp())


def run(size: dict[str, int], start: str, rate: float, train: Data, val: Data, num_steps: int) -> dict[str, Any]:
    """The curve of one side: steps, seconds of training, validation loss."""
    tokenizer, encoder = text_tower(size, start, train)
    model = build(encoder, train[0].shape[1])
    tower = list(encoder.parameters())
    others = [value for name, value in model.named_parameters() if not name.startswith("text_encoder.")]
    groups = [{"params": tower, "lr": rate}, {"params": others, "lr": 1e-3}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARM_UP))
    random = torch.Generator().manual_seed(SEED)
    seconds, points = 0.0, []
    for step in range(1, num_steps + 1):
        chosen = torch.randperm(len(train[0]), generator=random)[:BATCH]
        picks = torch.randint(0, 1 << 30, (BATCH,), generator=random).tolist()
        texts = [train[1][row][pick % len(train[1][row])] for row, pick in zip(chosen.tolist(), picks, strict=True)]
        started = time.perf_counter()
        loss = loss_of(model.train(), train[0][chosen], texts, tokenizer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        model.clamp_logit_scale()
        seconds += time.perf_counter() - started
        if step % EVALUATE_EVERY == 0:
            with torch.inference_mode():
                held_out = float(loss_of(model.eval(), val[0], [captions[0] for captions in val[1]], tokenizer))
            points.append({"steps": step, "seconds": round(seconds, 2), "val_loss": round(held_out, 4)})
    print(f"{start:9s} rate {rate:g}: {points[-1]}", file=sys.stderr, flush=True)
    parameters = sum(value.numel() for value in tower)
    return {"start": start, "rate": rate, "parameters": parameters, "curve": points}


def best(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return min(runs, key=lambda run: min(point["val_loss"] for point in run["curve"]))


def compare(sides: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Both ways to the lowest loss that the side from nothing reaches."""
    goal = min(point["val_loss"] for point in sides["nothing"]["curve"])
    reached = {
        start: next((point for point in side["curve"] if point["val_loss"] <= goal), None)
        for start, side in sides.items()
    }
    ours, theirs = reached["inherited"], reached["nothing"]
    assert theirs is not None
    ratios = {what: ours and round(theirs[what] / ours[what], 1) for what in ("steps", "seconds")}
    return {
        "goal": goal,
        "nothing": theirs,
        "inherited": ours,
        "ratio_steps": ratios["steps"],
        "ratio_seconds": ratios["seconds"],
        "lowest_loss": {start: min(point["val_loss"] for point in side["curve"]) for start, side in sides.items()},
        "rates": {start: side["rate"] for start, side in sides.items()},
        "parameters": sides["nothing"]["parameters"],
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--num-steps", type=int, default=300, help="of each run")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="of the text tower")
    options = parser.parse_args()
    keep_freed_memory()
    train, val = (image_features(open_source(place)) for place in (TRAIN, VAL))
    found = {}
    for name, size in SIZES.items():
        runs = [run(size, start, rate, train, val, options.num_steps) for rate in options.rates for start in STARTS]
        found[name] = compare({start: best([one for one in runs if one["start"] == start]) for start in STARTS})
        found[name]["curves"] = [{key: one[key] for key in ("start", "rate", "curve")} for one in runs]
    values = {"num_steps": options.num_steps, "batch_size": BATCH, "sizes": found}
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
