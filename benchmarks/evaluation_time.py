"""Where the time of an evaluation goes, and what prompts cost that data sets share, beside CLIP_benchmark's way.

    pocketclip train flickr/flickr8k_heads_cpu --out runs/heads
    uv run --group bench python benchmarks/evaluation_time.py runs/heads --write

Retrieval on 5,000 photos of Flickr8k's training split with their 25,000 captions: seconds from opening the pictures to
the scores with intervals, and the share of them in which a thread was inside a tower. CLIP_benchmark's way is the same
model through its own steps: pictures by a DataLoader of two workers in batches of 64 and every batch's captions after
it, then recall at 1, 5 and 10 both ways, without intervals; its own transform is the model's preprocessing.
ImageNet's 1,000 names in CLIP's seven templates are encoded for three data sets: here once, there for each set, a class
at a time.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from record import arguments, finish
from torch.utils.data import DataLoader

from pocketclip.asked import open_model
from pocketclip.data import open_source
from pocketclip.data.pictures.augment import AugmentConfig, fixed_views, shortest_side
from pocketclip.data.pictures.decode import decode_picture
from pocketclip.data.source import Source, Subset
from pocketclip.embedder import Embedder
from pocketclip.evaluate.class_sets import class_set, read_templates
from pocketclip.evaluate.prompts import class_embeddings, ensemble
from pocketclip.evaluate.task import TaskData
from pocketclip.evaluate.tasks.retrieval import Retrieval
from pocketclip.models.running.runner import Runner
from pocketclip.models.running.threads import THREADS

NUM_IMAGES, BATCH, ROUNDS, NUM_SETS = 5000, 64, 3, 3
DATA = "webdataset:flickr8k/flickr8k-train-{000000..000002}.tar"


class Inside:
    """Seconds that threads spend in the towers."""

    def __init__(self) -> None:
        self.seconds = 0.0
        Runner.encode_images = self._timed(Runner.encode_images)  # type: ignore[method-assign]
        Runner.encode_tokens = self._timed(Runner.encode_tokens)  # type: ignore[method-assign]

    def _timed(self, encode: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any) -> Any:
            started = time.perf_counter()
            try:
                return encode(*given)
            finally:
                self.seconds += time.perf_counter() - started  # of all threads

        return timed


def ours(model: Embedder, source: Source, inside: Inside) -> tuple[float, float, dict[str, float]]:
    """Seconds, the share of them in towers, and recalls."""
    inside.seconds, started = 0.0, time.perf_counter()
    result = Retrieval().run(model, TaskData(source))
    seconds = time.perf_counter() - started
    values = {name: getattr(value, "value", value) for name, value in result.metrics.items() if "recall@" in name}
    return seconds, inside.seconds / (seconds * THREADS.most), values


def theirs(model: Embedder, source: Source) -> tuple[float, dict[str, float]]:
    """As `clip_benchmark.metrics.zeroshot_retrieval.evaluate` goes."""
    from clip_benchmark.metrics.zeroshot_retrieval import batchify, recall_at_k

    reader, shortest = model.text_reader(), shortest_side(model.preprocess, AugmentConfig())

    class Pictures(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(source)

        def __getitem__(self, index: int) -> tuple[np.ndarray, tuple[str, ...]]:
            sample = source[index]
            picture = decode_picture(sample.image, place=sample.place, shortest=shortest)
            return fixed_views(picture, ("centre",), model.preprocess, (1, 1), [0])[0], tuple(sample.captions)

    def collate(items: list[Any]) -> tuple[np.ndarray, list[tuple[str, ...]]]:
        return np.stack([picture for picture, _ in items]), [captions for _, captions in items]

    started, images, texts, owners, first = time.perf_counter(), [], [], [], 0
    for pictures, captions in DataLoader(Pictures(), batch_size=BATCH, num_workers=2, collate_fn=collate):
        images.append(model.encode_images(pictures))
        texts.append(model.encode_texts(*reader.encode([text for group in captions for text in group])))
        owners += [first + row for row, group in enumerate(captions) for _ in group]
        first += len(pictures)
    scores = torch.from_numpy(np.concatenate(texts)) @ torch.from_numpy(np.concatenate(images)).T
    positives = torch.zeros_like(scores, dtype=torch.bool)
    positives[torch.arange(len(scores)), torch.tensor(owners)] = True
    metrics = {}
    for k in (1, 5, 10):
        for name, table, right in (("text_to_image", scores, positives), ("image_to_text", scores.T, positives.T)):
            found = batchify(recall_at_k, table, right, BATCH, "cpu", k=k)
            metrics[f"{name}_recall@{k}"] = (found > 0).float().mean().item()
    return time.perf_counter() - started, metrics


def prompts(model: Embedder) -> dict[str, float]:
    """Seconds of the names in templates, for three data sets that share them."""
    chosen = class_set("imagenet")
    names, templates = chosen.class_names, read_templates("seven")
    reader, started = model.text_reader(), time.perf_counter()
    for _ in range(NUM_SETS):
        made = class_embeddings(model, names, templates)
    mine, started = time.perf_counter() - started, time.perf_counter()
    for _ in range(NUM_SETS):
        rows = [
            model.encode_texts(*reader.encode([template.replace("{}", name) for template in templates]))
            for name in names
        ]
        other = ensemble(np.stack(rows))
    assert np.abs(made - other).max() < 1e-4, np.abs(made - other).max()
    other_seconds = time.perf_counter() - started
    return {
        "prompts_seconds": round(mine, 1),
        "prompts_clip_benchmark_seconds": round(other_seconds, 1),
        "prompts_ratio": round(other_seconds / mine, 1),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("model", help="one of ours, such as a run of flickr/flickr8k_heads_cpu")
    options = parser.parse_args()
    whole = open_source(DATA)
    source = Subset(whole, np.arange(NUM_IMAGES), "flickr8k")
    model, inside = open_model(options.model, precision="float32").for_scores(), Inside()
    runs: dict[str, list[float]] = {"ours": [], "share": [], "theirs": []}
    for _ in range(ROUNDS):
        seconds, share, mine = ours(model, source, inside)
        runs["ours"].append(seconds)
        runs["share"].append(share)
        seconds, other = theirs(model, source)
        runs["theirs"].append(seconds)
    difference = max(abs(mine[name] - value) for name, value in other.items())
    assert difference < 2e-3, (mine, other)
    middle = {name: statistics.median(values) for name, values in runs.items()}
    values = {
        "command": "uv run --group bench python benchmarks/evaluation_time.py runs/heads --write",
        "what": f"{NUM_IMAGES:,} photos and {sum(len(source.captions(i)) for i in range(len(source))):,} captions",
        "seconds_with_intervals": round(middle["ours"], 1),
        "share_in_towers": round(middle["share"], 3),
        "clip_benchmark_seconds": round(middle["theirs"], 1),
        "ratio": round(middle["theirs"] / middle["ours"], 2),
        "largest_difference": round(difference, 5),
        **prompts(model),
    }
    finish(sys.argv[0], values, write=options.write, group="bench")


if __name__ == "__main__":
    main()
