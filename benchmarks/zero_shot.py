"""Zero-shot scores of 50,000 images among 1,000 classes in 80 templates, from ready embeddings, against CLIP_benchmark.

    uv run python benchmarks/zero_shot.py

Both sides start from the same embeddings of images and of 80,000 sentences, and give top-1, top-5 and the mean over
classes, and a table of the classes; the time of our intervals, which the other side has not, stands apart.
CLIP_benchmark holds all logits at once; its side goes through the same steps here. Each side runs in a process of its
own, which reads the embeddings from a file; times begin when they are read, and the memory is the process's peak above
what it was then. The whole peak, with libraries and embeddings, stands beside it. Measure on a machine that is free:
torch's threads wait for each other where other work takes a core.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from record import arguments, finish, in_a_process

NUM_IMAGES, NUM_CLASSES, NUM_TEMPLATES, WIDTH, ROUNDS = 50_000, 1_000, 80, 512, 3
Arrays = dict[str, np.ndarray]


def make(folder: Path) -> dict[str, object]:
    """Embeddings of images around those of their classes, of unit length."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((NUM_CLASSES, 1, WIDTH), dtype=np.float32)
    prompts = centres + 2 * random.standard_normal((NUM_CLASSES, NUM_TEMPLATES, WIDTH), dtype=np.float32)
    labels = random.integers(0, NUM_CLASSES, NUM_IMAGES)
    images = centres[labels, 0] + 8 * random.standard_normal((NUM_IMAGES, WIDTH), dtype=np.float32)
    for name, rows in (("prompts", prompts), ("images", images)):
        np.save(folder / f"{name}.npy", rows / np.linalg.norm(rows, axis=-1, keepdims=True))
    np.save(folder / "labels.npy", labels)
    return {}


def ours(arrays: Arrays) -> tuple[dict[str, float], Callable[[], object]]:
    from pocketclip.evaluate.classification import accuracies, class_scores, classify
    from pocketclip.evaluate.prompts import ensemble
    from pocketclip.evaluate.statistics import mean_of_classes

    labels, names = arrays["labels"], [f"class {number}" for number in range(NUM_CLASSES)]
    blocks = np.array_split(arrays["prompts"], 20)  # as they are encoded
    answers = classify(arrays["images"], np.concatenate([ensemble(block) for block in blocks]), labels, names)
    metrics = {f"top{k}_accuracy": float((answers.ranks < k).mean()) for k in (1, 5)}
    metrics["mean_class_accuracy"] = mean_of_classes((answers.ranks == 0).astype(np.float64), labels)
    class_scores(labels, answers.predicted, names)
    return metrics, lambda: accuracies(answers.ranks, labels, NUM_CLASSES)


def theirs(arrays: Arrays) -> tuple[dict[str, float], Callable[[], object]]:
    """As `clip_benchmark.metrics.zeroshot_classification.evaluate` goes on from its embeddings.

    Its `accuracy` turns an array into a float, which numpy 2.4 refuses: the same is computed here from its top-k.
    """
    import torch
    from sklearn.metrics import balanced_accuracy_score, classification_report
    from torch.nn import functional as F

    images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
    columns = []
    for prompts in torch.from_numpy(arrays["prompts"]):
        column = F.normalize(prompts, dim=-1).mean(dim=0)
        columns.append(column / column.norm())
    classifier = torch.stack(columns, dim=1)
    logits = [(100.0 * F.normalize(part, dim=-1) @ classifier).float() for part in images.split(64)]
    scores = torch.cat(logits)
    found = scores.topk(5, 1, True, True)[1].t().eq(labels.view(1, -1))
    top1, top5 = (found[:k].reshape(-1).float().sum().item() / len(labels) for k in (1, 5))
    predicted = scores.argmax(dim=1)
    mean_class = balanced_accuracy_score(labels, predicted)
    classification_report(labels, predicted, digits=3)
    return {"top1_accuracy": top1, "top5_accuracy": top5, "mean_class_accuracy": float(mean_class)}, lambda: None


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(side: str, folder: Path) -> dict[str, object]:
    """One side, in this process, warmed up on a few images, so that libraries are there."""
    run = {"pocketclip": ours, "clip_benchmark": theirs}[side]
    few = np.eye(NUM_CLASSES, 8, dtype=np.float32) + 0.1
    run({"prompts": np.stack([few, few], axis=1), "images": few[:8], "labels": np.arange(8)})
    arrays = {name: np.load(folder / f"{name}.npy") for name in ("prompts", "images", "labels")}
    before, started = peak_mib(), time.perf_counter()
    metrics, intervals = run(arrays)
    seconds = time.perf_counter() - started
    intervals()
    whole = {"with_intervals_seconds": time.perf_counter() - started, "whole_mib": peak_mib()}
    return {"seconds": seconds, "mib": peak_mib() - before, **whole, **metrics}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        made = make(options.folder) if options.side == "make" else measure(options.side, options.folder)
        print(json.dumps(made))
        return
    with tempfile.TemporaryDirectory() as name:
        in_a_process(sys.argv[0], "--side", "make", "--folder", name)  # whose memory its children do not inherit
        runs: dict[str, list[dict[str, float]]] = {"clip_benchmark": [], "pocketclip": []}
        for _ in range(ROUNDS):
            for side, found in runs.items():
                found.append(in_a_process(sys.argv[0], "--side", side, "--folder", name))
    metrics = ("top1_accuracy", "top5_accuracy", "mean_class_accuracy")
    mine, other = runs["pocketclip"][0], runs["clip_benchmark"][0]
    difference = max(abs(mine[metric] - other[metric]) for metric in metrics)
    assert difference < 5 / NUM_IMAGES, (mine, other)  # a tie within 1e-6 counts against the model here
    middle = {
        (side, what): statistics.median(run[what] for run in found)
        for side, found in runs.items()
        for what in ("seconds", "with_intervals_seconds", "mib", "whole_mib")
        if (side, what) != ("clip_benchmark", "with_intervals_seconds")  # it has none
    }
    values = {
        "what": f"{NUM_IMAGES} images, {NUM_CLASSES} classes, {NUM_TEMPLATES} templates, width {WIDTH}",
        **{f"{side}_{what}": round(value, 2) for (side, what), value in middle.items()},
        "ratio": round(middle["clip_benchmark", "seconds"] / middle["pocketclip", "seconds"], 1),
        "memory_ratio": round(middle["clip_benchmark", "mib"] / middle["pocketclip", "mib"], 1),
        "largest_difference": round(difference, 6),
        "accuracies": {metric: round(mine[metric], 4) for metric in metrics},
    }
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
