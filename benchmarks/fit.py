"""What `pocketclip fit` makes of a source in a time: the scores, the seconds of the whole command, and what it chose.

    uv run python benchmarks/fit.py photos=folder:photos@2min flickr8k=flickr8k-train-{000000..000002}.tar@5min

Each is a command of its own, with a cache of its own. Scores are of the pictures that fit holds out of the source; with
`--data NAME=SOURCE` those of another one are beside them.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from record import arguments, finish

SCORES = [f"{way}_recall@{k}" for way in ("text_to_image", "image_to_text") for k in (1, 5, 10)]


def run(*words: str, cache: str) -> tuple[list[dict[str, Any]], str, float]:
    """The records a command prints, what it tells, and its seconds."""
    started = time.perf_counter()
    command, environment = [sys.executable, "-m", "pocketclip", *words], {**os.environ, "POCKETCLIP_CACHE": cache}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr, time.perf_counter() - started


def measure(source: str, budget: str, data: str | None, folder: Path) -> dict[str, Any]:
    """One fit."""
    out, cache = str(folder / "run"), str(folder / "cache")
    records, told, seconds = run("fit", source, "--budget", budget, "--out", out, "--json", cache=cache)
    lines = [line for line in told.splitlines() if line.startswith(("Here", "Choice", "Takes"))]
    values = {"source": source, "budget": budget, "seconds": round(seconds, 1), "told": lines}
    values["held_out"] = {name: records[0][name] for name in ("num_images", "num_captions", *SCORES)}
    if data is not None:
        (found, *_), _, _ = run("evaluate", out, "--data", data, "--task", "retrieval", "--json", cache=cache)
        values["data"] = {"source": data, **{name: found[name] for name in ("num_images", "num_captions", *SCORES)}}
    return values


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("fits", nargs="+", metavar="NAME=SOURCE@BUDGET")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=SOURCE")
    options = parser.parse_args()
    others, found = dict(each.split("=", 1) for each in options.data), {}
    for each in options.fits:
        name, _, rest = each.partition("=")
        source, _, budget = rest.rpartition("@")
        with tempfile.TemporaryDirectory() as folder:
            found[f"{name}, {budget}"] = measure(source, budget, others.get(name), Path(folder))
        print(json.dumps(found[f"{name}, {budget}"]), file=sys.stderr)
    command = f"uv run python benchmarks/fit.py {' '.join(sys.argv[1:])}"
    finish(sys.argv[0], {"command": command, "fits": found}, write=options.write)


if __name__ == "__main__":
    main()
