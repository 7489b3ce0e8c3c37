"""A step of reinforced training against plain training on the same shards, and against a teacher that sees every batch.

    uv run python benchmarks/reinforced_step.py

Shards as `pocketclip reinforce` writes them: 500 x 375 JPEGs (Flickr8k's photos joined where they lie in data/, drawn
where not), two captions, five synthetic ones, 30 views of RandomResizedCrop and RandAugment, and the features of two
teachers of width 768 in bfloat16, 114 kB a sample. The student is EfficientNet-Lite0 at 160 px with a text tower of
MiniLM-L6's shape, everything trained, batches of 64. A step is the wait for the loader and the update. "plain" is CLIP
on one real caption, "plain_two_captions" on two, "reinforced" MobileCLIP's loss on a real and a synthetic one: the text
tower sees as many captions in the last two. The live sides give the same loss a live teacher in place of what is
stored, with random weights: ViT-B/32, and ViT-B/16, from which CLIP-KD's smallest student learned most. MobileCLIP's
own are two ViT-L/14, each nearly five times a ViT-B/16. The sides take turns, each in a process of its own.
"""

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from loader import draw_picture, flickr_photos, join_photos
from record import arguments, finish, in_a_process

COUNT, BATCH_SIZE, STEPS, WARM_UP, ROUNDS = 384, 64, 5, 1, 3
SIDES = ("plain", "plain_two_captions", "reinforced", "live_vit_b_32", "live_vit_b_16")


def write_shards(folder: Path) -> str:
    """A reinforced folder whose features are random, which costs the same; returns what its pictures are."""
    from pocketclip.data.pictures.augment import AugmentConfig, draw_view
    from pocketclip.data.pictures.rand_augment import RandAugmentConfig
    from pocketclip.data.source import Sample
    from pocketclip.data.sources.reinforced import ReinforcedSample, write_shard
    from pocketclip.data.sources.reinforcement import Manifest, StoredTeacher, write_manifest

    photos, random = flickr_photos(), np.random.default_rng(0)
    teachers = tuple(
        StoredTeacher(name=name, kind="open_clip", width=768, scale=100, image_size=224, mark=name * 16)
        for name in "ab"
    )
    augment = AugmentConfig(crop_scale=(0.08, 1.0), flip=True, rand_augment=RandAugmentConfig())
    manifest = Manifest(teachers=teachers, num_views=30, num_synthetic=5, augment=augment)

    def sample(number: int) -> ReinforcedSample:
        picture = join_photos(photos, random) if photos else draw_picture(random)
        output = io.BytesIO()
        picture.save(output, "JPEG", quality=88)
        captions = tuple(f"a photo of {number % 7} dogs that run over the wet {place}" for place in ("grass", "sand"))
        synthetic = tuple(f"dogs play outside near {number % 11} people in picture {line}" for line in range(5))
        views = [draw_view(augment, (500, 375), [number, view]) for view in range(manifest.num_views)]
        features = random.normal(size=(len(views) + 7, manifest.width)).astype(np.float32)
        return ReinforcedSample(
            Sample(f"{number:06d}", output.getvalue(), captions, "made"), views, features, synthetic
        )

    shard = write_shard(folder / "reinforced-000000.tar", map(sample, range(COUNT)), manifest)
    write_manifest(folder, manifest, [shard])
    return "Flickr8k photos joined to 500 x 375" if photos else "drawn, 500 x 375"


def student() -> Any:
    from pocketclip.models.build import build_model
    from pocketclip.recipe import load_recipe

    linear = ["model.image_head={kind: linear}", "model.text_head={kind: linear}"]
    bare = ["model.image_encoder.joined_stages=[]", "model.text_encoder.joined_layers=[]"]
    trained = ["model.image_encoder.frozen_layers=0", "model.text_encoder.frozen_layers=0"]
    model = build_model(
        load_recipe("flickr/flickr8k_finetune_cpu", [*linear, *bare, *trained]).model, load_pretrained=False
    )
    return model.train()


def live_teacher(size: str) -> Any:
    """One with random weights, through a bundle as a recipe names it."""
    import torch

    from pocketclip.asked.bundle import PretrainedModel
    from pocketclip.asked.config import BundleModelConfig
    from pocketclip.distill import build_teachers
    from pocketclip.models.build import build_model
    from pocketclip.models.config import DualEncoderConfig
    from pocketclip.models.sizes import with_size
    from pocketclip.run.teaching import LiveTeachers
    from pocketclip.tokenizer import train_tokenizer

    words = {"tokenizer": "captions", "pooling": "last"}  # CLIP's own vocabulary needs a download
    config = DualEncoderConfig.model_validate(with_size({"size": size, "text_encoder": words}))
    tokenizer = train_tokenizer(["a photo of dogs"], vocabulary_size=100, context_length=77)
    model = build_model(config, vocabulary_size=tokenizer.vocabulary_size)
    with tempfile.TemporaryDirectory() as folder:
        PretrainedModel(model, config, tokenizer, model.image_encoder.preprocess).save_pretrained(Path(folder), card="")
        return LiveTeachers(build_teachers([BundleModelConfig(path=folder)], torch.device("cpu")))


def seconds_of_steps(side: str, folder: str) -> Iterator[float]:
    """Of each step: the wait for its batch, the teachers and the update."""
    import torch

    from pocketclip.data import open_source
    from pocketclip.data.batches import BatchPlan, DrawnCaptions, Teachers, TrainingBatches, views_of
    from pocketclip.data.pictures.augment import AugmentConfig
    from pocketclip.hardware import keep_freed_memory
    from pocketclip.models.running.precision import autocast
    from pocketclip.objectives.config import ContrastiveObjectiveConfig, ReinforcedObjectiveConfig
    from pocketclip.tokenizer import train_tokenizer
    from pocketclip.train.optimizer import build_optimizer
    from pocketclip.train.rates import AdamWConfig, LearningRates
    from pocketclip.train.step import train_step

    keep_freed_memory()
    torch.manual_seed(0)
    source, device = open_source(f"reinforced:{folder}"), torch.device("cpu")
    model = student()
    optimizer = build_optimizer(model, AdamWConfig(), LearningRates(heads=1e-4, image_encoder=1e-4, text_encoder=1e-4))
    contrastive = ContrastiveObjectiveConfig.parse(
        {"loss": {"kind": "multi_positive" if side == "plain_two_captions" else "clip"}}, place="benchmark"
    )
    objective = contrastive.build() if side.startswith("plain") else ReinforcedObjectiveConfig().build()
    live = live_teacher(side.removeprefix("live_")) if side.startswith("live") else None
    texts = [caption for number in range(64) for caption in source.captions(number)]
    brought = Teachers() if live is None else Teachers(readers=live.readers)
    batches = TrainingBatches(
        source,
        BatchPlan(len(source), BATCH_SIZE, seed=0),
        captions=DrawnCaptions(2 if side == "plain_two_captions" else 1, 0 if side.startswith("plain") else 1),
        views=views_of(source, AugmentConfig(), model.image_encoder.preprocess),
        tokenizer=train_tokenizer(texts, vocabulary_size=1000, context_length=64),
        teachers=Teachers(source.stored.teachers) if side == "reinforced" else brought,
    ).steps(0, WARM_UP + STEPS)
    started = time.perf_counter()
    for batch in batches:
        if live is not None:
            with torch.no_grad():
                batch = live(batch, None)
        train_step(model, objective, batch, optimizer, autocast=lambda: autocast("auto", device), max_grad_norm=1.0)
        yield time.perf_counter() - started
        started = time.perf_counter()


def measure(side: str, folder: str) -> float:
    """Pairs a second."""
    seconds = list(seconds_of_steps(side, folder))[WARM_UP:]
    return BATCH_SIZE / statistics.median(seconds)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--measure", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps({"rate": measure(*options.measure)}))
        return
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        pictures = write_shards(Path(folder))
        num_bytes = sum(file.stat().st_size for file in Path(folder).iterdir())
        for _ in range(options.rounds):
            for side, found in rates.items():
                found.append(in_a_process(sys.argv[0], "--measure", side, folder)["rate"])
    middle = {side: statistics.median(found) for side, found in rates.items()}
    values: dict[str, Any] = {
        "what": "pairs a second of loader and step, median of the rounds",
        "batch_size": BATCH_SIZE,
        "rounds": options.rounds,
        "pictures": pictures,
        "kilobytes_per_sample": round(num_bytes / COUNT / 1000, 1),
        **{side: round(rate, 2) for side, rate in middle.items()},
        "ratio_to_plain_two_captions": round(middle["reinforced"] / middle["plain_two_captions"], 3),
        "ratio_to_plain": round(middle["reinforced"] / middle["plain"], 3),
        "ratio_to_live_vit_b_32": round(middle["reinforced"] / middle["live_vit_b_32"], 2),
        "ratio_to_live_vit_b_16": round(middle["reinforced"] / middle["live_vit_b_16"], 2),
        "every_round": {side: [round(rate, 2) for rate in found] for side, found in rates.items()},
    }
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
