"""What filtering 10 million scored rows takes: `data filter rows:` beside DataComp's way without pandas.

    uv run python benchmarks/filter_rows.py [--rows 10_000_000] [--write]

The rows look like DataComp's metadata: a uid of 32 hex digits, a caption, the picture's size and two scores, in ten
Parquet files. Both sides keep the 30 % with the highest score and write their uids as a sorted `u8,u8` file, which have
to be equal byte for byte; ours also applies DataComp's basic filter, which is slower since captions are read. The
reference is what `baselines.py` does, with a Python loop over the uids, in place of pandas with pyarrow's own columns.
Every side runs in a process of its own: seconds from the first import to the file, seconds of all its threads on a
processor, which other work beside it hardly changes and the ratio is of, and the most memory it held (VmHWM).
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from record import arguments, finish, in_a_process

FILES = 10
TEXT = (
    "a the dog cat red bike on in snow with photo of new vintage blue dress house for sale free shipping wedding "
    "ring portrait mountain lake sunset der und mit une avec para con les"
)


def make(folder: Path, num_rows: int) -> None:
    """Write the table; the same numbers every time."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(0)
    vocabulary = np.array([f"{word} " for word in TEXT.split()], object)
    for number in range(FILES):
        size = num_rows // FILES
        digits = np.frombuffer(b"0123456789abcdef", np.uint8)[random.integers(0, 16, (size, 32), np.uint8)]
        captions = vocabulary[random.integers(0, len(vocabulary), (size, 8))].sum(axis=1)
        columns = {
            "uid": pa.array(digits.view("S32").ravel().tolist(), pa.binary()).cast(pa.string()),
            "text": pa.array(captions, pa.string()),
            "original_width": pa.array(random.integers(50, 2000, size)),
            "original_height": pa.array(random.integers(50, 2000, size)),
            "clip_b32_similarity_score": pa.array(random.normal(0.25, 0.06, size)),
            "clip_l14_similarity_score": pa.array(random.normal(0.2, 0.06, size)),
        }
        pq.write_table(pa.table(columns), folder / f"{number:08d}.parquet", row_group_size=100_000)


def ours(folder: Path, out: Path, name: str) -> None:
    from pocketclip.curate.baselines import BaselineFiles, baseline
    from pocketclip.curate.row_filter import filter_rows
    from pocketclip.data.ids import write_ids

    verdict = filter_rows(folder, baseline(name, BaselineFiles()))
    write_ids(out, verdict.ids())


def reference(folder: Path, out: Path) -> None:
    import numpy as np
    import pyarrow.parquet as pq

    key, files = "clip_l14_similarity_score", sorted(folder.glob("*.parquet"))
    scores = np.concatenate([pq.read_table(file, columns=[key]).column(0).to_numpy() for file in files])
    threshold = -np.sort(-scores)[int(len(scores) * 0.3)]
    parts = []
    for file in files:
        table = pq.read_table(file, columns=["uid", key])
        kept = table.column("uid").filter(table.column(key).to_numpy() >= threshold).to_pylist()
        parts.append(np.array([(int(uid[:16], 16), int(uid[16:32], 16)) for uid in kept], np.dtype("u8,u8")))
    uids = np.concatenate(parts)
    uids.sort()
    np.save(out, uids)


def measured(side: str, folder: Path, out: Path) -> dict[str, float]:
    started = time.perf_counter()
    if side == "reference":
        reference(folder, out)
    else:
        ours(folder, out, side)
    seconds = time.perf_counter() - started
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(time.process_time(), 2),
        "peak_mib": round(int(peak.split()[1]) / 1024),
    }


def main() -> None:
    parser: argparse.ArgumentParser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        side, folder, out = given.side
        print(json.dumps(measured(side, Path(folder), Path(out))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder, score = Path(temporary) / "rows", "clip_score_l14_30_percent"
        folder.mkdir()
        make(folder, given.rows)
        outs = {side: Path(temporary) / f"{side}.npy" for side in (score, "basic_filter", "reference")}
        values = {side: in_a_process(__file__, "--side", side, folder, out) for side, out in outs.items()}
        if outs[score].read_bytes() != outs["reference"].read_bytes():
            sys.exit("The two subset files differ.")
        counts = {side: (out.stat().st_size - 128) // 16 for side, out in outs.items()}
    sides = {side: {**numbers, "kept": counts[side]} for side, numbers in values.items()}
    ratio = sides["reference"]["cpu_seconds"] / sides[score]["cpu_seconds"]
    finish(__file__, {"num_rows": given.rows, **sides, "times_faster": round(ratio, 2)}, write=given.write)


if __name__ == "__main__":
    main()
