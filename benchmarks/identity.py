"""What it costs to know which pictures are the same: a source opened with and without the numbers of its pictures.

    uv run python benchmarks/identity.py

100,000 small JPEGs (about 6 kB, all different) with a caption each, as a folder with sidecars and as shards of 1,000.
"without" opens the source, reads every caption and the fingerprint, as each run does before its first step; "first"
does the same and reads every picture for its number, with an empty cache; "later" finds the numbers in the cache. The
sides take turns, each in a process of its own, and memory is what a process holds more than before it opened the
source, for each sample.
"""

import argparse
import io
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from record import arguments, finish, in_a_process

from pocketclip.data import open_source
from pocketclip.data.identity import picture_ids
from pocketclip.data.shards import add_sample, new_shard
from pocketclip.data.source import Sample, readable_captions

NUM_PICTURES, SHARD_SIZE, ROUNDS = 100_000, 1000, 3
SIDES = ("without", "first", "later")
FORMATS = ("folder", "webdataset")


def make_data(root: Path) -> None:
    """Pictures that differ in their last bytes, behind the end of the JPEG."""
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(100):
        small = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        output = io.BytesIO()
        small.resize((224, 168), Image.Resampling.BICUBIC).save(output, "JPEG", quality=75)
        pictures.append(output.getvalue())
    for first in range(0, NUM_PICTURES, SHARD_SIZE):
        folder = root / "photos" / f"{first // SHARD_SIZE:03d}"
        folder.mkdir(parents=True)
        with new_shard(root / f"data-{first // SHARD_SIZE:06d}.tar") as archive:
            for number in range(first, first + SHARD_SIZE):
                data, caption = pictures[number % 100] + number.to_bytes(4), f"a picture of the number {number}"
                (folder / f"{number:06d}.jpg").write_bytes(data)
                (folder / f"{number:06d}.txt").write_text(f"{caption}\n")
                add_sample(archive, Sample(f"{number:06d}", data, (caption,), "drawn"))


def held_bytes() -> int:
    """Memory of this process that no other shares."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("Private_Dirty"))


def measure(kind: str, side: str, root: Path) -> dict[str, float]:
    """Seconds, and bytes a sample."""
    place = str(root / "photos") if kind == "folder" else str(root / "data-*.tar")
    spec = {"kind": kind, "dir" if kind == "folder" else "shards": place}
    before, started = held_bytes(), time.perf_counter()
    source = open_source(spec)
    num_captions = sum(map(len, readable_captions(source)))
    source.fingerprint()
    held = held_bytes() - before
    if side != "without":
        assert len(np.unique(picture_ids(source))) == NUM_PICTURES
    seconds = time.perf_counter() - started
    assert num_captions == NUM_PICTURES
    numbers = (held_bytes() - before - held) / NUM_PICTURES
    return {"seconds": seconds, "index_bytes": held / NUM_PICTURES, "identity_bytes": numbers}


def main() -> None:
    """Measure all sides in turn, or one of them in a child."""
    parser = arguments(__doc__)
    parser.add_argument("child", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, side, root = options.child
        print(json.dumps(measure(kind, side, Path(root))))
        return
    results: dict[str, object] = {"num_pictures": NUM_PICTURES, "rounds": ROUNDS}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        make_data(root)
        os.environ["POCKETCLIP_CACHE"] = str(root / "cache")
        for kind in FORMATS:
            rounds: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
            for _ in range(ROUNDS):
                shutil.rmtree(root / "cache", ignore_errors=True)
                for side in SIDES:  # "later" comes behind "first", which fills the cache
                    rounds[side].append(in_a_process(__file__, kind, side, root))
            seconds = {side: statistics.median(one["seconds"] for one in rounds[side]) for side in SIDES}
            results[kind] = {
                "seconds": seconds,
                "first_to_without": seconds["first"] / seconds["without"],
                "later_to_without": seconds["later"] / seconds["without"],
                "index_bytes_a_sample": statistics.median(one["index_bytes"] for one in rounds["without"]),
                "identity_bytes_a_sample": statistics.median(one["identity_bytes"] for one in rounds["first"]),
            }
            print(kind, json.dumps(results[kind]), file=sys.stderr)
    finish(__file__, results, write=options.write)


if __name__ == "__main__":
    main()
