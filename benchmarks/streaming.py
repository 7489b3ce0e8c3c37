"""Memory while streaming 1,000,000 synthetic samples from WebDataset shards: flat within 5 % after warm-up.

    uv run python benchmarks/streaming.py

Shards of 10,000 samples, a 32 x 32 JPEG and a caption each, are written to a temporary folder (2.4 GiB for 1,000,000)
and removed afterwards. One epoch of shuffled batches of 256 goes through `TrainingBatches` with one worker process.
Memory is what the main process and its workers hold of their own and share, each page counted once (Pss of anonymous
and shared memory; the kernel's copies of files are not in it), after every 20 batches. The first tenth is warm-up.
"""

import io
import json
import multiprocessing
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from record import arguments, finish, in_a_process

SAMPLES, SAMPLES_PER_SHARD, SIDE, BATCH, EVERY, WORKERS, WARM_UP = 1_000_000, 10_000, 32, 256, 20, 1, 0.1


def write_samples(folder: Path, num_samples: int) -> int:
    """Shards of numbered samples; returns their size in bytes."""
    import numpy as np
    from PIL import Image

    random, pictures = np.random.default_rng(0), []
    for _ in range(1000):
        output = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((SIDE, SIDE)).save(output, "JPEG")
        pictures.append(output.getvalue())
    for first in range(0, num_samples, SAMPLES_PER_SHARD):
        path = folder / f"samples-{first // SAMPLES_PER_SHARD:06d}.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for number in range(first, min(first + SAMPLES_PER_SHARD, num_samples)):
                caption = f"picture {number % len(pictures)} as sample {number}".encode()
                for suffix, data in (("jpg", pictures[number % len(pictures)]), ("txt", caption)):
                    member = tarfile.TarInfo(f"{number:09d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return sum(path.stat().st_size for path in folder.iterdir())


def memory_mib() -> float:
    """Of this process and its workers."""
    total = 0
    for process in ("self", *(child.pid for child in multiprocessing.active_children())):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                total += int(line.split()[1])
    return total / 1024


def stream(folder: Path) -> dict[str, float | int]:
    import torch

    from pocketclip.data import open_source
    from pocketclip.data.batches import BatchPlan, DrawnCaptions, TrainingBatches, views_of
    from pocketclip.data.pictures.augment import AugmentConfig
    from pocketclip.preprocess import PreprocessConfig
    from pocketclip.tokenizer import train_tokenizer

    torch.set_num_threads(1)
    before, started = memory_mib(), time.perf_counter()
    source = open_source(f"webdataset:{folder}/*.tar")
    index_seconds, index_mib = time.perf_counter() - started, memory_mib() - before
    captions = [caption for index in range(1000) for caption in source.captions(index)]
    plan = BatchPlan(len(source), BATCH, seed=0)
    batches = TrainingBatches(
        source,
        plan,
        captions=DrawnCaptions(1),
        views=views_of(source, AugmentConfig(flip=True), PreprocessConfig(image_size=SIDE)),
        tokenizer=train_tokenizer(captions, vocabulary_size=300, context_length=16),
    ).steps(0, plan.steps_per_epoch, num_workers=WORKERS)
    held: list[float] = []
    num_samples, started = 0, time.perf_counter()
    for step, batch in enumerate(batches):
        assert not batch.broken
        num_samples += len(batch)
        if step % EVERY == EVERY - 1:
            held.append(memory_mib())
    seconds = time.perf_counter() - started
    after = held[int(WARM_UP * len(held)) :]
    return {
        "streamed": num_samples,
        "index_seconds": round(index_seconds, 1),
        "index_mib": round(index_mib, 1),
        "samples_per_second": round(num_samples / seconds),
        "measurements": len(after),
        "memory_mib_after_warm_up": round(after[0], 1),
        "memory_mib_least": round(min(after), 1),
        "memory_mib_most": round(max(after), 1),
        "memory_mib_at_the_end": round(after[-1], 1),
        "growth_percent": round(100 * (max(after) / min(after) - 1), 2),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--stream", type=Path, metavar="FOLDER", help="stream what is there")
    options = parser.parse_args()
    if options.stream:
        print(json.dumps(stream(options.stream)))
        return
    with tempfile.TemporaryDirectory() as place:
        size = write_samples(Path(place), options.samples)
        print(f"{options.samples:,} samples take {size / 2**30:.2f} GiB in {place}", file=sys.stderr)
        values = in_a_process(sys.argv[0], "--stream", place)
    settings = {"samples": options.samples, "shards_gib": round(size / 2**30, 2), "batch": BATCH, "workers": WORKERS}
    finish(sys.argv[0], {**settings, **values}, write=options.write)


if __name__ == "__main__":
    main()
