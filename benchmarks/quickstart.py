"""What the quickstart scores and takes, with an empty feature cache and again with a full one.

    uv run python benchmarks/quickstart.py --write

Wall time of the whole command and its peak memory, imports included.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import arguments, finish

from pocketclip.records import EvalResult, read_records


def main() -> None:
    options = arguments(__doc__).parse_args()
    seconds = []
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "run"
        for _ in range(2):
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "pocketclip.cli.main", "quickstart", "--out", str(out)],
                check=True,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "POCKETCLIP_CACHE": f"{place}/cache"},
            )
            seconds.append(round(time.perf_counter() - started, 1))
        results = {record.split: record for record in read_records(out) if isinstance(record, EvalResult)}
        report_kib = (out / "report.html").stat().st_size / 1024
    test = results["test"].to_json()
    values = {
        "what": "pocketclip quickstart; scores on emoji of concepts never seen in training",
        "wall_seconds": seconds[0],
        "wall_seconds_cache_filled": seconds[1],
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "report_kib": round(report_kib),
        **{key: value for key, value in test.items() if "recall" in key or "rank" in key or key.startswith("num_")},
        "chance_recall@1": round(1 / results["test"].num_images, 5),
    }
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
