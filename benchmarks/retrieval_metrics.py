"""Retrieval metrics of 5,000 images and 25,000 captions against CLIP_benchmark's own functions, on the same vectors.

    uv run --group bench python benchmarks/retrieval_metrics.py

Both sides start from ready embeddings and give recall at 1, 5 and 10 in both directions; ours without its intervals,
which the other side has not. The two take turns. Ours counts scores within 1e-6 as ties, and ties against the model: of
25,000 queries, one or two may differ for that, and no more.
"""

import statistics
import sys
import time

import numpy as np
import torch
from clip_benchmark.metrics.zeroshot_retrieval import batchify, recall_at_k
from record import arguments, finish
from torch.nn import functional as F

from pocketclip.evaluate.ranks import retrieval_ranks
from pocketclip.evaluate.tasks.retrieval import point_metrics

NUM_IMAGES, CAPTIONS, WIDTH, ROUNDS = 5000, 5, 512, 3


def theirs(images: torch.Tensor, texts: torch.Tensor, owners: torch.Tensor) -> dict[str, float]:
    """As `clip_benchmark.metrics.zeroshot_retrieval.evaluate` goes on from its embeddings."""
    scores = texts @ images.T
    positives = torch.zeros_like(scores, dtype=torch.bool)
    positives[torch.arange(len(texts)), owners] = True
    metrics = {}
    for k in (1, 5, 10):
        found = batchify(recall_at_k, scores, positives, 64, "cpu", k=k)
        metrics[f"text_to_image_recall@{k}"] = (found > 0).float().mean().item()
        found = batchify(recall_at_k, scores.T, positives.T, 64, "cpu", k=k)
        metrics[f"image_to_text_recall@{k}"] = (found > 0).float().mean().item()
    return metrics


def main() -> None:
    options = arguments(__doc__).parse_args()
    random = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(NUM_IMAGES, WIDTH, generator=random), dim=1)
    owners = torch.arange(NUM_IMAGES).repeat_interleave(CAPTIONS)
    texts = F.normalize(images[owners] + 0.26 * torch.randn(len(owners), WIDTH, generator=random), dim=1)
    arrays = images.numpy(), texts.numpy(), owners.numpy().astype(np.int64)
    seconds: dict[str, list[float]] = {"clip_benchmark": [], "pocketclip": []}
    for _ in range(ROUNDS):
        started = time.perf_counter()
        expected = theirs(images, texts, owners)
        seconds["clip_benchmark"].append(time.perf_counter() - started)
        started = time.perf_counter()
        found = point_metrics(retrieval_ranks(*arrays))
        seconds["pocketclip"].append(time.perf_counter() - started)
    difference = max(abs(found[name] - value) for name, value in expected.items())
    assert difference < 2.5 / len(texts), (found, expected)
    middle = {side: statistics.median(times) for side, times in seconds.items()}
    values = {
        "what": f"{NUM_IMAGES} images, {len(texts)} captions, width {WIDTH}",
        "clip_benchmark_seconds": round(middle["clip_benchmark"], 2),
        "pocketclip_seconds": round(middle["pocketclip"], 2),
        "ratio": round(middle["clip_benchmark"] / middle["pocketclip"], 1),
        "largest_difference": round(difference, 6),
        "recalls": {name: round(value, 4) for name, value in expected.items()},
    }
    finish(sys.argv[0], values, write=options.write, group="bench")


if __name__ == "__main__":
    main()
