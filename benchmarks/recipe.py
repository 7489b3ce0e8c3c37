"""What a recipe scores and takes: the records behind the README's table.

    uv run python benchmarks/recipe.py flickr/flickr8k_heads_cpu --seeds 0 1 2

Each seed starts in a new folder. The first run has an empty feature cache; recipes that use the cache run a second
time with it filled. Wall times are of the whole command, imports included; of finished `--runs`, from their records,
which begin behind the imports. The cost is that of the recipe's untrained model, on which weights have no influence;
`--cost` measures it again and leaves the rest of a record alone. With `--add` the record keeps its cost and its runs of
other seeds.
"""

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from record import RESULTS, arguments

from pocketclip.evaluate.intervals import seed_half_width
from pocketclip.hardware import describe_hardware
from pocketclip.recipe import Recipe, load_recipe
from pocketclip.records import code_version, now

PROGRAM = [sys.executable, "-m", "pocketclip.cli.main"]
MEANS = ("mean_recall", "corrected_mean_recall")
TAKEN = ("num_steps", "recipe_hash", "seconds", "seconds_per_epoch")
"""What a run's record says of its training."""


def command(words: list[str], cache: Path) -> tuple[float, dict[str, Any]]:
    """Wall seconds of a command and the last JSON line it prints."""
    started = time.perf_counter()
    done = subprocess.run(
        [*PROGRAM, *words, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "POCKETCLIP_CACHE": str(cache)},
    )
    seconds = time.perf_counter() - started
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seconds, values


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Metrics with their intervals, without the record's other fields."""
    return {key: value for key, value in values.items() if "recall" in key or "rank" in key or key.startswith("num_")}


def cost_of(name: str, recipe: Recipe) -> dict[str, Any]:
    """What `pocketclip cost` says of the model of a recipe, changes included."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / f"{name.rpartition('/')[2]}.yaml"
        file.write_text(recipe.model_dump_json(exclude_unset=True))
        values = command(["cost", str(file)], Path(place))[1]
    return {key: value for key, value in values.items() if key not in ("provenance", "kind")}


def finished(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """A run of the very recipe, of any seed, from its records."""
    record, scores = (
        json.loads((folder / "records" / f"{name}.json").read_text()) for name in ("run", "retrieval_val")
    )
    check_hash(record, recipe, folder)
    run = {"seed": record["seed"], "wall_seconds": round(record["seconds"]["total"], 1), **plain(scores)}
    return run | {key: record[key] for key in TAKEN} | {"other_load": record["provenance"]["other_load"]}


def check_hash(run: Mapping[str, Any], recipe: Recipe, place: Path) -> None:
    """Stop where a run is not of this recipe, whatever its seed."""
    expected = recipe.model_copy(update={"seed": run["seed"]}).fingerprint()
    assert run["recipe_hash"] == expected, f"{place} is of another recipe"


def earlier_record(recipe: Recipe, path: Path) -> dict[str, Any]:
    """What was measured of the very recipe on such a machine."""
    earlier: dict[str, Any] = json.loads(path.read_text())
    assert earlier["hardware"] == describe_hardware(), f"{path} is of {earlier['hardware']}"
    for run in earlier["runs"]:
        check_hash(run, recipe, path)
    return earlier


def joined(earlier: list[dict[str, Any]], runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """New runs beside earlier ones of other seeds."""
    kept = [run for run in earlier if run["seed"] not in {new["seed"] for new in runs}]
    return sorted([*kept, *runs], key=lambda run: int(run["seed"]))


def over_seeds(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean, with the half width over pictures, a mean of the seeds', and Student's over seeds in quadrature."""
    values = [score["value"] for score in scores]
    of_pictures = statistics.mean((score["high"] - score["low"]) / 2 for score in scores)
    half, mean = math.hypot(of_pictures, seed_half_width(values)), statistics.mean(values)
    return {name: round(value, 4) for name, value in (("value", mean), ("low", mean - half), ("high", mean + half))}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--name", help="of the results file; the recipe's by default")
    parser.add_argument("--cost", action="store_true", help="measure the cost alone again")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="finished runs, in the place of training")
    parser.add_argument("--add", action="store_true", help="keep the record's runs of other seeds")
    parser.add_argument("--set", action="append", default=[], dest="changes", metavar="KEY=VALUE")
    options = parser.parse_args()
    path = RESULTS / f"{options.name or options.recipe.rpartition('/')[2]}.json"
    recipe = load_recipe(options.recipe, options.changes)
    if options.cost:
        record = json.loads(path.read_text()) | {"cost": cost_of(options.recipe, recipe)}
        path.write_text(json.dumps(record, indent=2) + "\n")
        return
    changes = [word for change in options.changes for word in ("--set", change)]
    cached = recipe.train.cache is not None and not options.runs
    earlier = earlier_record(recipe, path) if options.add else None  # refused before hours of training
    runs = [finished(folder, recipe) for folder in options.runs]
    with tempfile.TemporaryDirectory() as place:
        for seed in [] if options.runs else options.seeds:
            cache, out = Path(place) / f"cache{seed}", Path(place) / f"run{seed}"
            words = ["train", options.recipe, *changes, "--set", f"seed={seed}"]
            first, scores = command([*words, "--out", str(out)], cache)
            run = {"seed": seed, "wall_seconds": round(first, 1), **plain(scores)}
            if cached:
                second, again = command([*words, "--out", f"{out}-again"], cache)
                assert plain(again) == plain(scores), "a filled cache changed the result"
                run["wall_seconds_cache_filled"] = round(second, 1)
            record = json.loads((out / "records" / "run.json").read_text())
            run |= {key: record[key] for key in TAKEN}
            runs.append(run)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    measured_by, cost = " ".join(["uv run python benchmarks/recipe.py", *sys.argv[1:]]), None
    if earlier is not None:
        runs = joined(earlier["runs"], runs)
        measured_by, cost = f"{earlier['measured_by']}; {measured_by}", earlier["cost"]
    recalls = [key for key in runs[0] if "_recall@" in key]
    text = json.dumps(
        {
            "kind": "recipe",
            "command": " ".join(["pocketclip train", options.recipe, *changes]),
            "measured_by": measured_by,
            "hardware": describe_hardware(),
            "other_load": max((run.get("other_load") or 0 for run in runs), default=None) if options.runs else None,
            "num_cores": os.cpu_count(),
            "date": now(),
            "code_version": code_version(),
            "recipe": options.recipe,
            "changes": options.changes,
            "split": "val",
            "num_images": runs[0]["num_images"],
            "num_captions": runs[0]["num_captions"],
            "mean_over_seeds": {key: round(statistics.mean(run[key]["value"] for run in runs), 4) for key in recalls}
            | {key: over_seeds([run[key] for run in runs]) for key in MEANS if key in runs[0]},
            "wall_seconds_median": statistics.median(run["wall_seconds"] for run in runs),
            "wall_seconds_cache_filled_median": (
                statistics.median(run["wall_seconds_cache_filled"] for run in runs) if cached else None
            ),
            "peak_memory_mib": None if options.runs else round(peak),
            "runs": runs,
            "cost": cost or cost_of(options.recipe, recipe),
        },
        indent=2,
    )
    print(text)
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        path.write_text(text + "\n")


if __name__ == "__main__":
    main()
