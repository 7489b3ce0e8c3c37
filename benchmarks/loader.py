"""Samples a second of our training loader against webdataset + Pillow + torchvision as open_clip 3.3 builds it.

    uv run --group bench python benchmarks/loader.py

The same shards for both: 500 x 375 JPEGs of quality 88 with a caption each, put together from Flickr8k's photos where
they lie in data/, drawn (smooth noise and edges) where not. Batches of 64, views of 224 px, "train": random resized
crop of 0.9 to 1 of the area and a flip, "evaluate": shorter side to 224 and centre crop. Theirs are `get_wds_dataset`
and `image_transform` of open_clip, with torchvision's flip added in training; they deliver normalised float32. Ours
delivers bytes, which a model normalises on its device: here that is done on the CPU for each batch and counted. The
sides take turns, each in a process of its own.
"""

import argparse
import io
import json
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from record import arguments, finish, in_a_process

NUM_SHARDS, SHARD_SIZE, BATCH_SIZE, IMAGE_SIZE = 4, 512, 64, 224
ROUNDS, WARM_UP = 3, 4
SIDES = ("ours", "open_clip")
PHOTOS = Path(__file__).parents[1] / "data" / "flickr8k" / "flickr8k-train-000000.tar"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # open_clip's


def flickr_photos() -> list[Image.Image]:
    """Small real photos; none where the data is absent."""
    if not PHOTOS.is_file():
        return []
    with tarfile.open(PHOTOS) as archive:
        files = [archive.extractfile(member) for member in archive if member.name.endswith(".jpg")]
        return [Image.open(io.BytesIO(file.read())).convert("RGB") for file in files[:1000] if file is not None]


def draw_picture(random: np.random.Generator) -> Image.Image:
    """Smooth noise of several scales with edges over it."""
    levels = np.full((375, 500, 3), 120, np.float32)
    for cells, strength in ((4, 90), (12, 40), (40, 20), (120, 10), (250, 6)):
        noise = random.normal(0, strength, (3, cells * 3 // 4, cells)).astype(np.float32)
        for channel in range(3):
            levels[..., channel] += Image.fromarray(noise[channel]).resize((500, 375), Image.Resampling.BICUBIC)
    picture = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(12):
        ends = [tuple(point) for point in (random.random((3, 2)) * (500, 375)).tolist()]
        pen.line(ends, fill=tuple(random.integers(0, 256, 3).tolist()), width=int(random.integers(1, 6)))
    return picture


def join_photos(photos: list[Image.Image], random: np.random.Generator) -> Image.Image:
    """Twelve photos side by side: a large picture with the detail of real ones."""
    picture = Image.new("RGB", (500, 375))
    for number, photo in enumerate(random.choice(len(photos), 12, replace=False)):
        picture.paste(photos[photo], (number % 4 * 160, number // 4 * 160))
    return picture


def write_shards(folder: Path) -> str:
    """Shards that both sides read; returns what their pictures are."""
    photos, random = flickr_photos(), np.random.default_rng(0)
    for shard in range(NUM_SHARDS):
        with tarfile.open(folder / f"data-{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for number in range(SHARD_SIZE):
                picture = join_photos(photos, random) if photos else draw_picture(random)
                output = io.BytesIO()
                picture.save(output, "JPEG", quality=88)
                caption = f"a photo of {number % 7} dogs that run over the wet grass in shard {shard}"
                for suffix, data in (("jpg", output.getvalue()), ("txt", caption.encode())):
                    member = tarfile.TarInfo(f"{shard}-{number:04d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return "Flickr8k photos joined to 500 x 375" if photos else "drawn, 500 x 375"


def our_batches(shards: str, *, train: bool, num_workers: int) -> Iterator[int]:
    """The size of each batch, once it is normalised."""
    import torch

    from pocketclip.data import open_source
    from pocketclip.data.batches import BatchPlan, DrawnCaptions, TrainingBatches, views_of
    from pocketclip.data.pictures.augment import AugmentConfig
    from pocketclip.preprocess import PreprocessConfig
    from pocketclip.tokenizer import train_tokenizer

    source = open_source(f"webdataset:{shards}")
    augment = AugmentConfig(crop_scale=(0.9, 1.0), flip=True) if train else AugmentConfig()
    texts = [source.captions(number)[0] for number in range(200)]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (MEAN, STD))
    batches = TrainingBatches(
        source,
        BatchPlan(len(source), BATCH_SIZE, seed=0),
        captions=DrawnCaptions(1),
        views=views_of(source, augment, PreprocessConfig(image_size=IMAGE_SIZE)),
        tokenizer=train_tokenizer(texts, vocabulary_size=1000, context_length=77),
    )
    for batch in batches.steps(0, len(source) // BATCH_SIZE, num_workers=num_workers):
        batch.images.float().sub_(mean).div_(std)
        yield len(batch)


def their_batches(shards: str, *, train: bool, num_workers: int) -> Iterator[int]:
    import open_clip
    import open_clip_train.data
    import webdataset
    from open_clip.transform import image_transform
    from torchvision.transforms import RandomHorizontalFlip

    transform = image_transform(IMAGE_SIZE, is_train=train)
    if train:
        transform.transforms.insert(1, RandomHorizontalFlip())
    num_samples = NUM_SHARDS * SHARD_SIZE
    options = argparse.Namespace(
        train_data=shards, val_data=shards, train_num_samples=num_samples, val_num_samples=num_samples, seed=0,
        train_data_upsampling_factors=None, batch_size=BATCH_SIZE, workers=num_workers, world_size=1,
    )  # fmt: skip
    # Its reader of training shards fails with webdataset 1.0; this is what it names as its equal
    reader = webdataset.tarfile_to_samples(handler=open_clip_train.data.log_and_continue)
    open_clip_train.data.tarfile_to_samples_nothrow = reader
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    data = open_clip_train.data.get_wds_dataset(options, transform, is_train=train, tokenizer=tokenizer)
    for images, _ in data.dataloader:
        yield len(images)


def measure(side: str, shards: str) -> dict[str, float]:
    """Samples a second once the loader runs, by task."""
    batches: Callable[..., Iterator[int]] = our_batches if side == "ours" else their_batches
    rates = {}
    for train in (True, False):
        for num_workers in (1, 2):
            sizes = batches(shards, train=train, num_workers=num_workers)
            for _ in range(WARM_UP):
                next(sizes)
            started = time.perf_counter()
            count = sum(sizes)
            name = f"{'train' if train else 'evaluate'}, {num_workers} worker{'s' * (num_workers > 1)}"
            rates[name] = count / (time.perf_counter() - started)
    return rates


def mean_difference(shards: str) -> float:
    """Between both evaluation views of the first 500 pictures, in levels of 255."""
    from open_clip.transform import image_transform

    from pocketclip.data import open_source
    from pocketclip.data.pictures.decode import centre_view, decode_picture
    from pocketclip.preprocess import PreprocessConfig

    source, config = open_source(f"webdataset:{shards}"), PreprocessConfig(image_size=IMAGE_SIZE)
    theirs = image_transform(IMAGE_SIZE, is_train=False, mean=(0.0,) * 3, std=(1.0,) * 3)
    differences = []
    for number in range(500):
        data = source[number].image
        ours = centre_view(decode_picture(data, place="", shortest=IMAGE_SIZE), config)
        wanted = theirs(Image.open(io.BytesIO(data))).permute(1, 2, 0).numpy() * 255
        differences.append(float(np.abs(ours - wanted).mean()))
    return statistics.mean(differences)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--measure", nargs=2, metavar=("SIDE", "SHARDS"))
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    with tempfile.TemporaryDirectory() as folder:
        pictures = write_shards(Path(folder))
        shards = f"{folder}/data-{{000000..{NUM_SHARDS - 1:06d}}}.tar"
        rounds: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(ROUNDS):
            for side, found in rounds.items():
                found.append(in_a_process(sys.argv[0], "--measure", side, shards))
        difference = mean_difference(shards)
    values: dict[str, Any] = {
        "what": f"samples per second, batches of {BATCH_SIZE}, medians of {ROUNDS} rounds",
        "pictures": f"{pictures}, JPEG quality 88",
        "delivered": "ours bytes, normalisation on the CPU counted; open_clip normalised float32",
    }
    for task in rounds["ours"][0]:
        middle = {side: statistics.median(rates[task] for rates in found) for side, found in rounds.items()}
        values[task] = {
            **{side: round(rate, 1) for side, rate in middle.items()},
            "ratio": round(middle["ours"] / middle["open_clip"], 2),
        }
    values["mean_difference_of_255"] = round(difference, 3)
    finish(sys.argv[0], values, write=options.write, group="bench")


if __name__ == "__main__":
    main()
