"""What models know of clothes that they were not trained on: clothing-small, ten classes, its own test split.

    uv run python benchmarks/clothing_small.py heads_lite0=runs/heads lite0=timm:tf_efficientnet_lite0 --write

Zero-shot with one, seven and eighty templates, a linear probe, nearest neighbours and few shots, learned from the
training split; models of images alone have no zero-shot. Writes results/clothing_small.json, and the records of each
model for `pocketclip board results/clothing_small`. The data are not ours to give: shards in
$POCKETCLIP_DATA/clothing-small.
"""

import json
import subprocess
import sys
from typing import Any

from record import RESULTS, arguments, finish

DATA = "webdataset:clothing-small/clothing-small-{split}-000000.tar"
LEARNED = ("linear_probe", "knn", "few_shot")
TEMPLATES = ("one", "seven", "eighty")


def evaluate(place: str, tasks: tuple[str, ...], *words: str) -> list[dict[str, Any]]:
    """The records of some tasks."""
    asked = [word for task in tasks for word in ("--task", task)]
    command = [sys.executable, "-m", "pocketclip", "-q", "evaluate", place, "--json", *asked, *words]
    done = subprocess.run([*command, "--data", DATA.format(split="test")], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for name, _, place in (model.partition("=") for model in options.models):
        records = []
        if not place.startswith("timm:"):
            for templates in TEMPLATES:
                records += evaluate(place, ("zero_shot",), "--set", f"templates={templates}")
        records += evaluate(place, LEARNED, "--train-data", DATA.format(split="train"))
        for record in records:
            record["model"] = name
        found[name] = {_called(record): _scores(record) for record in records}
        print(name, json.dumps(found[name]), file=sys.stderr)
        if options.write:
            folder = RESULTS / "clothing_small"
            folder.mkdir(exist_ok=True)
            (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    what = "clothing-small, test split; fractions with 95 % intervals over images"
    command = f"uv run python benchmarks/clothing_small.py {' '.join(options.models)} --write"
    finish(sys.argv[0], {"command": command, "what": what, "models": found}, write=options.write)


def _called(record: dict[str, Any]) -> str:
    templates = (record.get("protocol") or {}).get("templates")
    return record["task"] if templates is None else f"{record['task']}, {templates}"


def _scores(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if isinstance(value, dict) and "low" in value}


if __name__ == "__main__":
    main()
