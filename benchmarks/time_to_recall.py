"""Time to 17 % text-to-image R@1 on Flickr8k's validation split: our recipe against the small-encoder study's loop.

    uv run python benchmarks/time_to_recall.py

Ours is `flickr/flickr8k_heads_cpu` from an empty feature cache, timed from the start of the process to the first
evaluation that reaches the goal; the median of three seeds. The other side is the loop of
https://github.com/moein-shariatnia/OpenAI-CLIP as its README has it, on the same pretrained towers: float32, 224 px
squashed and normalised as ImageNet, every caption an example with its image, captions padded to the longest of the data
set (at most 200 tokens), batch 32, AdamW with three rates, ReduceLROnPlateau on the validation loss after each epoch,
heads with dropout, soft targets.

A recall depends on the steps, not on how fast they are made. So the loop's seconds a step are measured as written, and
its curve is followed for as many steps as fit in 100 times our seconds, with what leaves the mathematics alone:
channels_last, keeping freed memory, and padding to the longest caption of a batch, which is checked to give the same
embeddings. Its start, its validation and our evaluations of it are not counted against the loop.

`--curve FILE` keeps the curve and resumes it; with `--follow` nothing is timed, so that it may run beside other work:

    nice -n 19 uv run python benchmarks/time_to_recall.py --follow --curve curve.json --max-pairs 60000
"""

import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from record import arguments, finish, in_a_process
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from pocketclip.data import open_source
from pocketclip.evaluate.ranks import retrieval_ranks
from pocketclip.evaluate.tasks.retrieval import point_metrics
from pocketclip.hardware import available_cores, keep_freed_memory
from pocketclip.losses.soft_target import soft_target_loss
from pocketclip.models.image.config import TimmImageEncoderConfig
from pocketclip.models.image.pixels import IMAGENET_MEAN, IMAGENET_STD
from pocketclip.models.joints import ResidualMlpHeadConfig
from pocketclip.models.text.config import HuggingFaceTextEncoderConfig
from pocketclip.train.metrics import read_metrics

GOAL, TIMES = 0.17, 100
RECIPE, SEEDS = "flickr/flickr8k_heads_cpu", (0, 1, 2)
TRAIN, VAL = "webdataset:flickr8k/flickr8k-train-{000000..000002}.tar", "webdataset:flickr8k/flickr8k-val-000000.tar"
BATCH, SIZE, MAX_TOKENS, EMBED_DIM, SEED = 32, 224, 200, 256, 42
EVALUATE_EVERY, SAVE_EVERY = 250, 25
R1 = "text_to_image_recall@1"


def our_run(seed: int) -> dict[str, float]:
    """Seconds until our recipe reaches the goal, and the recall by then."""
    with tempfile.TemporaryDirectory() as place, (Path(place) / "log").open("w+") as log:
        out = Path(place) / "run"
        words = ["train", RECIPE, "--out", str(out), "--set", f"seed={seed}"]
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "pocketclip.cli.main", *words],
            env={**os.environ, "POCKETCLIP_CACHE": str(Path(place) / "cache")},
            stdout=log,
            stderr=log,
        )
        while True:
            ended = process.poll() is not None
            seconds = time.perf_counter() - started
            rows = read_metrics(out) if (out / "metrics.jsonl").is_file() else []
            recall = max((row[R1] for row in rows if R1 in row), default=0.0)
            if recall >= GOAL:
                process.terminate()
                process.wait()
                return {"seed": seed, "seconds": round(seconds, 1), R1: recall}
            if ended:
                log.seek(0)
                sys.exit(f"{RECIPE} did not reach {GOAL:.0%} (best {recall:.1%}):\n{log.read()[-2000:]}")
            time.sleep(0.05)


class Pairs(Dataset[dict[str, Tensor]]):
    """Every caption of every image is an item; all captions are tokenised at the start, as the study does it."""

    def __init__(self, source: str, pad_to: int = 0) -> None:
        self.source = open_source(source)
        texts = [self.source.captions(index) for index in range(len(self.source))]
        self.owners = np.repeat(np.arange(len(texts)), [len(captions) for captions in texts])
        tokenizer = text_config().build_tokenizer()
        tokens, mask = tokenizer.encode(list(itertools.chain.from_iterable(texts)))
        missing = max(0, pad_to - tokens.shape[1])
        self.tokens = torch.from_numpy(np.pad(tokens, ((0, 0), (0, missing))))
        self.mask = torch.from_numpy(np.pad(mask, ((0, 0), (0, missing)))).long()

    def __len__(self) -> int:
        return len(self.owners)

    def image(self, index: int) -> Tensor:
        with Image.open(io.BytesIO(self.source[index].image)) as image:
            resized = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        pixels = (np.asarray(resized) / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
        return torch.tensor(pixels).permute(2, 0, 1).float()

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {
            "image": self.image(int(self.owners[row])),
            "input_ids": self.tokens[row],
            "attention_mask": self.mask[row],
        }


def text_config() -> HuggingFaceTextEncoderConfig:
    return HuggingFaceTextEncoderConfig(name="all-MiniLM-L6-v2", pretrained="package", context_length=MAX_TOKENS)


class Study(nn.Module):
    """The study's model over pretrained towers; `short` cuts padding and sets channels_last."""

    def __init__(self, *, short: bool) -> None:
        super().__init__()
        torch.manual_seed(SEED)
        image = TimmImageEncoderConfig(name="tf_efficientnet_lite0", pretrained="package", image_size=SIZE).build()
        text = text_config().build()
        layout = torch.channels_last if short else torch.contiguous_format
        self.image_encoder, self.text_encoder = image.tower.to(memory_format=layout), text.tower
        self.image_projection = ResidualMlpHeadConfig().build(image.feature_dim, EMBED_DIM)
        self.text_projection = ResidualMlpHeadConfig().build(text.feature_dim, EMBED_DIM)
        self.short, self.layout = short, layout

    def encode_image(self, images: Tensor) -> Tensor:
        return self.image_projection(self.image_encoder(images.contiguous(memory_format=self.layout)))

    def encode_text(self, tokens: Tensor, mask: Tensor) -> Tensor:
        if self.short:
            longest = int(mask.sum(1).max())
            tokens, mask = tokens[:, :longest], mask[:, :longest]
        states = self.text_encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        return self.text_projection(states[:, 0])

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        images, texts = self.encode_image(batch["image"]), self.encode_text(batch["input_ids"], batch["attention_mask"])
        return soft_target_loss(images, texts, torch.tensor(1.0))


def study_optimizer(model: Study) -> torch.optim.AdamW:
    heads = itertools.chain(model.image_projection.parameters(), model.text_projection.parameters())
    groups = [
        {"params": model.image_encoder.parameters(), "lr": 1e-4},
        {"params": model.text_encoder.parameters(), "lr": 1e-5},
        {"params": heads, "lr": 1e-3, "weight_decay": 1e-3},
    ]
    return torch.optim.AdamW(groups, weight_decay=0.0)


def train_step(model: Study, optimizer: torch.optim.AdamW, batch: dict[str, Tensor]) -> float:
    loss = model(batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def time_study(num_steps: int, pad_to: int) -> dict[str, float | int]:
    """Seconds a step of the loop as written."""
    data, model = Pairs(TRAIN, pad_to), Study(short=False)
    optimizer, warm_up = study_optimizer(model.train()), 3
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=min(4, available_cores()))
    started = 0.0
    for step, batch in enumerate(itertools.islice(loader, warm_up + num_steps)):
        if step == warm_up:
            started = time.perf_counter()
        train_step(model, optimizer, batch)
    seconds = (time.perf_counter() - started) / num_steps
    return {"seconds_a_step": seconds, "pairs_a_second": BATCH / seconds, "padded_to": data.tokens.shape[1]}


@torch.inference_mode()
def evaluate(model: Study, val: Pairs) -> dict[str, float]:
    """Recalls, each image in the gallery once, and the study's validation loss."""
    model.eval()
    images = torch.cat(
        [
            model.encode_image(torch.stack([val.image(index) for index in part.tolist()]))
            for part in torch.arange(len(val.source)).split(BATCH)
        ]
    )
    texts = torch.cat(
        [model.encode_text(*part) for part in zip(val.tokens.split(BATCH), val.mask.split(BATCH), strict=True)]
    )
    rows = images[torch.from_numpy(val.owners)]  # in evaluation mode an image looks the same with every caption
    losses = [
        float(soft_target_loss(image, text, torch.tensor(1.0))) * len(image)
        for image, text in zip(rows.split(BATCH), texts.split(BATCH), strict=True)
    ]
    unit = [F.normalize(one, dim=1).numpy() for one in (images, texts)]
    model.train()
    return {**point_metrics(retrieval_ranks(*unit, val.owners)), "val_loss": sum(losses) / len(rows)}


@torch.inference_mode()
def check_short(model: Study, data: Pairs) -> float:
    """How far short padding and channels_last move an embedding; more than rounding ends the program."""
    plain = Study(short=False).eval()
    plain.load_state_dict(model.state_dict())
    model.eval()
    tokens, mask = data.tokens[:BATCH], data.mask[:BATCH]
    images = torch.stack([data.image(index) for index in range(4)])
    apart = max(
        float((model.encode_text(tokens, mask) - plain.encode_text(tokens, mask)).abs().max()),
        float((model.encode_image(images) - plain.encode_image(images)).abs().max()),
    )
    if apart > 1e-4:
        sys.exit(f"Short padding or channels_last moves embeddings by {apart:.1e}.")
    return apart


class Curve:
    """The loop's recalls by steps in a file, with its state beside it: stopped at any moment, it goes on."""

    def __init__(self, path: Path) -> None:
        keep_freed_memory()
        self.path, self.state_path = path, path.with_suffix(".state.pt")
        self.train, self.val, self.model = Pairs(TRAIN), Pairs(VAL), Study(short=True)
        self.optimizer = study_optimizer(self.model)
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, patience=1, factor=0.8)
        self.step, self.points = 0, list[dict[str, float]]()
        self.apart = check_short(self.model, self.train)
        self.model.train()
        if self.state_path.is_file():
            state = torch.load(self.state_path, weights_only=True)
            self.step, self.points = state["step"], state["points"]
            for name in ("model", "optimizer", "schedule"):
                getattr(self, name).load_state_dict(state[name])
            torch.set_rng_state(state["random"])

    def follow(self, max_pairs: int) -> list[dict[str, float]]:
        """The points up to the goal, or to the first at or behind some pairs."""
        num_steps = max_pairs // BATCH
        batches = [] if self._reached() else self._batches(num_steps)
        data = DataLoader(self.train, batch_sampler=batches, generator=torch.Generator())
        seconds, first, started = 0.0, self.step, time.perf_counter()
        for batch in data:
            train_step(self.model, self.optimizer, batch)
            self.step += 1
            epoch_ends = self.step % self._steps_per_epoch == 0
            if epoch_ends or self.step % EVALUATE_EVERY == 0 or self.step == num_steps:
                seconds += time.perf_counter() - started
                metrics = evaluate(self.model, self.val)
                if epoch_ends:
                    self.schedule.step(metrics["val_loss"])
                self.points.append({"steps": self.step, "pairs": self.step * BATCH, **metrics})
                self._save()
                speed = BATCH * (self.step - first) / seconds
                print(f"{json.dumps(self.points[-1])}  {speed:.1f} pairs/s", file=sys.stderr, flush=True)
                if self._reached():
                    break
                started = time.perf_counter()
            elif self.step % SAVE_EVERY == 0:
                self._save()
        places = (place for place, point in enumerate(self.points) if point["steps"] >= num_steps)
        return self.points[: next(places, len(self.points)) + 1]

    @property
    def _steps_per_epoch(self) -> int:
        return -(-len(self.train) // BATCH)

    def _batches(self, num_steps: int) -> list[list[int]]:
        """The rows of each step still to make, which depend on the epoch alone."""
        rows: list[list[int]] = []
        for epoch in range(-(-num_steps // self._steps_per_epoch)):
            order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(SEED + epoch))
            rows.extend(part.tolist() for part in order.split(BATCH))
        return rows[self.step : num_steps]

    def _reached(self) -> bool:
        return any(point[R1] >= GOAL for point in self.points)

    def _save(self) -> None:
        state = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "schedule")}
        state |= {"step": self.step, "points": self.points, "random": torch.get_rng_state()}
        text = json.dumps({"steps": self.step, "embeddings_apart_at_most": self.apart, "points": self.points}, indent=2)
        torch.save(state, f"{self.state_path}.partial")
        Path(f"{self.state_path}.partial").replace(self.state_path)
        self.path.write_text(text + "\n")


def verdict(ours: float, seconds_a_step: float, points: list[dict[str, float]]) -> dict[str, object]:
    """The ratio, or how far the loop came."""
    best = max(points, key=lambda point: point[R1])
    found = {"best_recall": best[R1], "best_recall_steps": best["steps"], "steps": points[-1]["steps"]}
    reached = next((point for point in points if point[R1] >= GOAL), None)
    if reached is not None:
        seconds = reached["steps"] * seconds_a_step
        return {**found, "seconds": round(seconds), "ratio": round(seconds / ours, 1), "verdict": "reached"}
    seconds = points[-1]["steps"] * seconds_a_step
    text = (
        f"not reached: best R@1 {best[R1]:.1%} after {points[-1]['steps']:,} steps = {seconds:,.0f} seconds, "
        f"{seconds / ours:.0f} times ours"
    )
    return {**found, "seconds": round(seconds), "ratio": None, "verdict": text}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--timed-steps", type=int, default=30, help="of the study's loop")
    parser.add_argument("--pad-to", type=int, default=0, help="tokens in the timed steps at least")
    parser.add_argument("--max-pairs", type=int, help="of the curve; as many as fit by default")
    parser.add_argument("--curve", type=Path, metavar="FILE.json", help="keep the curve here and go on from it")
    parser.add_argument("--follow", action="store_true", help="follow the curve to --max-pairs, and time nothing")
    parser.add_argument("--measure", choices=("ours", "study"), help="one side in this process")
    parser.add_argument("--seed", type=int, default=0, help="of --measure ours")
    options = parser.parse_args()
    if options.measure == "ours":
        print(json.dumps(our_run(options.seed)))
        return
    if options.measure == "study":
        print(json.dumps(time_study(options.timed_steps, options.pad_to)))
        return
    if options.follow:
        if not (options.curve and options.max_pairs):
            parser.error("--follow needs --curve and --max-pairs")
        print(json.dumps(Curve(options.curve).follow(options.max_pairs)))
        return
    runs = [in_a_process(sys.argv[0], "--measure", "ours", "--seed", seed) for seed in SEEDS]
    ours = statistics.median(run["seconds"] for run in runs)
    timed = ("--timed-steps", options.timed_steps, "--pad-to", options.pad_to)
    study = in_a_process(sys.argv[0], "--measure", "study", *timed)
    fitting = int(TIMES * ours / study["seconds_a_step"]) * BATCH
    with tempfile.TemporaryDirectory() as place:
        curve = Curve(options.curve or Path(place) / "curve.json")
        points = curve.follow(min(fitting, options.max_pairs or fitting))
    values = {
        "goal": GOAL,
        "ours": {"recipe": RECIPE, "seconds": ours, "runs": runs},
        "study": {
            **{name: round(value, 3) for name, value in study.items()},
            "timed_steps": options.timed_steps,
            "embeddings_apart_at_most": curve.apart,
            "curve": [{name: round(point[name], 4) for name in ("steps", "pairs", R1, "val_loss")} for point in points],
        },
        **verdict(ours, study["seconds_a_step"], points),
    }
    print(values["verdict"], file=sys.stderr)
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
