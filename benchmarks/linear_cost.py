"""Whether cost grows linearly: 1,000, 10,000 and 100,000 drawn pairs through source, feature cache and evaluation.

    uv run python benchmarks/linear_cost.py

Each size runs in a process of its own with an empty cache, three times in turns; medians. Evaluation is retrieval in
folds of 1,000 images, as COCO's 1K protocol does it: one gallery of all N images would compare N x N pairs.
Memory is what the process itself holds (RssAnon), sampled while it works; mapped cache files are the kernel's to drop.
"""

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from record import arguments, finish, in_a_process

SIZES = (1_000, 10_000, 100_000)
FOLD = 1_000
ROUNDS = 3


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """The most MiB of anonymous memory seen inside."""
    peak, stop = {"mib": 0.0}, threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    peak["mib"] = max(peak["mib"], int(line.split()[1]) / 1024)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def measure(num_pairs: int) -> dict[str, float]:
    import numpy as np
    import torch

    from pocketclip.data import open_source
    from pocketclip.evaluate.ranks import retrieval_ranks
    from pocketclip.evaluate.tasks.retrieval import retrieval_metrics
    from pocketclip.features.cache import CacheConfig
    from pocketclip.features.towers import FrozenTowers
    from pocketclip.models.build import build_model
    from pocketclip.models.config import DualEncoderConfig
    from pocketclip.models.running.runner import project
    from pocketclip.stages.watch import BrokenItems
    from pocketclip.tokenizer import train_tokenizer

    settings = {
        "image_encoder": {"kind": "timm", "name": "mobilenetv3_small_050", "pretrained": "none", "image_size": 64},
        "text_encoder": {"kind": "huggingface", "name": "tiny-bert", "pretrained": "none", "tokenizer": "captions"},
        "image_head": {"kind": "linear"},
        "text_head": {"kind": "linear"},
        "embed_dim": 128,
    }
    torch.manual_seed(0)
    source = open_source(f"scenes:{num_pairs}")
    captions = [caption for index in range(500) for caption in source.captions(index)]
    tokenizer = train_tokenizer(captions, vocabulary_size=300, context_length=32)
    model = build_model(
        DualEncoderConfig.parse(settings, place="benchmark"), vocabulary_size=tokenizer.vocabulary_size
    ).eval()
    preprocess = model.image_encoder.preprocess
    seconds = {}

    def timed(name: str, started: float) -> None:
        seconds[name] = time.perf_counter() - started

    with peak_memory() as peak:
        started = time.perf_counter()
        num_bytes = sum(len(source[index].image) for index in range(num_pairs))
        timed("source", started)

        with tempfile.TemporaryDirectory() as root:
            towers = FrozenTowers(model, tokenizer, preprocess, root=Path(root), device=torch.device("cpu"))
            broken = BrokenItems(num_pairs, 0.0)
            towers.runner.encode_images(np.zeros((32, 64, 64, 3), np.uint8))  # folding is not part of the pairs' cost
            started = time.perf_counter()
            pairs = towers.features(source, CacheConfig(views=("centre",)), broken)
            timed("cache", started)

            started = time.perf_counter()
            recalls = []
            for first in range(0, num_pairs, FOLD):
                rows = slice(first, first + FOLD)
                counts = pairs.num_captions[rows]
                texts = slice(int(pairs.first_caption[first]), int(pairs.first_caption[first] + counts.sum()))
                images = project(model.image_head, pairs.images[rows, 0], towers.device)
                sentences = project(model.text_head, pairs.texts[texts], towers.device)
                ranks = retrieval_ranks(images, sentences, np.repeat(np.arange(len(counts)), counts))
                recalls.append(retrieval_metrics(ranks)["text_to_image_recall@1"])
            timed("evaluation", started)
    assert len(recalls) == num_pairs // FOLD
    assert num_bytes > 0
    total = sum(seconds.values())
    return {**{f"seconds_{name}": round(value, 3) for name, value in seconds.items()},
            "seconds": round(total, 3), "milliseconds_a_pair": round(1000 * total / num_pairs, 4),
            "peak_mib": round(peak["mib"], 1)}  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--pairs", type=int)
    options = parser.parse_args()
    if options.pairs:
        print(json.dumps(measure(options.pairs)))
        return
    rounds = [[in_a_process(sys.argv[0], "--pairs", size) for size in SIZES] for _ in range(ROUNDS)]
    sizes = {
        str(size): {key: statistics.median(one[number][key] for one in rounds) for key in rounds[0][number]}
        for number, size in enumerate(SIZES)
    }
    first, last = sizes[str(SIZES[0])], sizes[str(SIZES[-1])]
    middle = sizes[str(SIZES[1])]
    values = {
        "what": "scenes at 64 px, MobileNetV3-small-050, a tiny BERT; evaluation in folds of 1,000 images",
        "sizes": sizes,
        "ratio_per_pair_100k_to_10k": round(last["milliseconds_a_pair"] / middle["milliseconds_a_pair"], 3),
        "ratio_per_pair_100k_to_1k": round(last["milliseconds_a_pair"] / first["milliseconds_a_pair"], 3),
        "ratio_memory_100k_to_1k": round(last["peak_mib"] / first["peak_mib"], 3),
        "threads": os.cpu_count(),
    }
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
