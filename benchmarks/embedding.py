"""Embedding 5,000 images and their 25,000 captions against an eager float32 loop as open_clip's users write it.

    uv run python benchmarks/embedding.py --source webdataset:flickr8k/flickr8k-train-{000000..000002}.tar

Both sides have the same weights, those of the recipe flickr/flickr8k_heads_cpu, which is trained first unless --model
names a bundle of it. Ours is what `pocketclip embed` does. The other side is a plain loop: PIL and torchvision
transforms in a DataLoader with two workers, batches of 64, float32 in NCHW, captions padded to 77 tokens, in the order
of the source and repeated ones too. The clock runs from the first picture read to the last embedding; imports and the
loading of the model are left out of both. Sides take turns, each in a process of its own; with --images fewer are
embedded by both.
"""

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from record import arguments, finish, in_a_process

RECIPE = "flickr/flickr8k_heads_cpu"
BATCH, TOKENS, WORKERS = 64, 77, 2


def ours(model: str, source_text: str, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    from pocketclip.asked.bundle import PretrainedModel
    from pocketclip.data import open_source
    from pocketclip.features.encode import embed_source
    from pocketclip.hardware import keep_freed_memory
    from pocketclip.stages.watch import Watch

    keep_freed_memory()
    loaded, source = PretrainedModel.from_pretrained(model).to("cpu"), open_source(source_text, place="--source")
    ends: list[float] = []

    class Ends(Watch):
        def work(self, name: str, done: int, total: int, broken: Sequence[str] = ()) -> None:
            ends.append(time.perf_counter())

    started = time.perf_counter()
    found = embed_source(loaded, source, Ends(), stop=count)
    finished = time.perf_counter()
    runner = loaded.runner
    values = {
        "images_seconds": ends[-1] - started,
        "captions_seconds": finished - ends[-1],
        "backends": runner.backend,
        "precision": runner.precision,
    }
    return values, {"images": found.images, "texts": found.texts, "owners": found.text_images}


def theirs(model: str, source_text: str, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    import io

    import torch
    from PIL import Image
    from torch.nn import functional as F
    from torchvision import transforms

    from pocketclip.asked.bundle import PretrainedModel
    from pocketclip.data import open_source

    loaded, source = PretrainedModel.from_pretrained(model), open_source(source_text, place="--source")
    network, settings = loaded.model.eval(), loaded.preprocess
    assert settings.resize == "squash"
    network.image_encoder.tower.to(memory_format=torch.contiguous_format)
    size = (settings.image_size, settings.image_size)
    kind = transforms.InterpolationMode(settings.interpolation)
    normalize = transforms.Normalize(settings.mean, settings.std)
    prepare = transforms.Compose([transforms.Resize(size, kind), transforms.ToTensor(), normalize])

    class Pictures(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> torch.Tensor:
            picture: torch.Tensor = prepare(Image.open(io.BytesIO(source[index].image)).convert("RGB"))
            return picture

    images, texts = [], []
    with torch.inference_mode():
        started = time.perf_counter()
        for pixels in torch.utils.data.DataLoader(Pictures(), batch_size=BATCH, num_workers=WORKERS):
            features = network.image_encoder._features(pixels)  # its forward would turn the pixels channels last
            images.append(F.normalize(network.image_head(features), dim=1))
        middle = time.perf_counter()
        captions = [list(source.captions(index)) for index in range(count)]
        every = list(itertools.chain.from_iterable(captions))
        for first in range(0, len(every), BATCH):
            tokens, mask = (
                torch.from_numpy(np.pad(array, ((0, 0), (0, TOKENS - array.shape[1]))))
                for array in loaded.tokenizer.encode(every[first : first + BATCH])
            )
            features = network.text_encoder._pass(tokens, mask)
            texts.append(F.normalize(network.text_head(features), dim=1))
        finished = time.perf_counter()
    owners = np.repeat(np.arange(count), [len(group) for group in captions])
    arrays = {"images": torch.cat(images).numpy(), "texts": torch.cat(texts).numpy(), "owners": owners}
    return {"images_seconds": middle - started, "captions_seconds": finished - middle}, arrays


def measure(side: str, model: str, source: str, count: int, out: Path) -> None:
    values, arrays = {"ours": ours, "theirs": theirs}[side](model, source, count)
    np.savez(out, **arrays)
    print(json.dumps(values))


def recalls(path: Path) -> dict[str, float]:
    from pocketclip.evaluate.ranks import retrieval_ranks
    from pocketclip.evaluate.tasks.retrieval import point_metrics

    arrays = np.load(path)
    metrics = point_metrics(retrieval_ranks(arrays["images"], arrays["texts"], arrays["owners"]))
    return {name: round(100 * value, 2) for name, value in metrics.items() if name.rpartition("_")[2] == "recall@1"}


def trained(folder: Path) -> str:
    command = [sys.executable, "-m", "pocketclip", "train", RECIPE, "--out", str(folder / "run")]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return str(folder / "run")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--source", default="webdataset:flickr8k/flickr8k-train-{000000..000002}.tar")
    parser.add_argument("--model", help="a bundle of the recipe; trained anew by default")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--side", choices=["ours", "theirs"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.side:
        measure(options.side, options.model, options.source, options.images, options.out)
        return
    rounds: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = options.model or trained(folder)
        words = ["--model", model, "--source", options.source, "--images", options.images]
        for _, (side, found) in itertools.product(range(options.rounds), rounds.items()):
            path = folder / f"{side}.npz"
            found.append(in_a_process(sys.argv[0], "--side", side, "--out", path, *words))
        scores = {side: recalls(folder / f"{side}.npz") for side in rounds}
        with np.load(folder / "ours.npz") as arrays:
            num_images, num_captions = len(arrays["images"]), len(arrays["texts"])
    parts = ("images_seconds", "captions_seconds")
    seconds = {
        side: {part: statistics.median(values[part] for values in found) for part in parts}
        for side, found in rounds.items()
    }
    totals = {side: sum(values.values()) for side, values in seconds.items()}
    values = {
        "what": f"{num_images} images and {num_captions} captions of {options.source}, EfficientNet-Lite0 at 160 px "
        "and all-MiniLM-L6-v2, seconds from the first picture to the last embedding, median",
        "ours": {**rounds["ours"][0], **{part: round(seconds["ours"][part], 2) for part in parts}},
        "theirs": {part: round(seconds["theirs"][part], 2) for part in parts},
        "seconds": {side: round(value, 2) for side, value in totals.items()},
        "ratio": round(totals["theirs"] / totals["ours"], 2),
        "ratio_images": round(seconds["theirs"]["images_seconds"] / seconds["ours"]["images_seconds"], 2),
        "ratio_captions": round(seconds["theirs"]["captions_seconds"] / seconds["ours"]["captions_seconds"], 2),
        "recall_percent": scores,
        "recall_difference_points": {
            name: round(scores["ours"][name] - scores["theirs"][name], 2) for name in scores["ours"]
        },
        "rounds": options.rounds,
    }
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
