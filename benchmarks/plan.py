"""What `pocketclip plan` says a run will take, beside what the run takes; and how exactly a budget is met.

    POCKETCLIP_DATA=DATA uv run python benchmarks/plan.py --write

`scaling_down/laptop` on Flickr8k with each strategy in turn, and heads over the frozen towers of
`flickr/flickr8k_heads_cpu`. Every command is a process of its own with an empty cache; seconds are those of the whole
command, from its record. The tokenizer is learned by the run and by the plan alike.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import arguments, finish

LAPTOP = "scaling_down/laptop"
STEPS = ["train.num_epochs=null", "train.num_steps=60"]
LOW = "{heads: 0.001, image_encoder: 0.001, text_encoder: 0.001}"
STRATEGIES: dict[str, tuple[str, list[str]]] = {
    "CLIP": (LAPTOP, STEPS),
    "SLIP": (LAPTOP, [*STEPS, "objective.simclr={hidden_width: 256}", "train.augment={crop_scale: [0.5, 1.0]}"]),
    "FLIP": (LAPTOP, [*STEPS, "train.keep_patches=0.5", "train.batch_size=512"]),
    "CLIP + augmentation": (LAPTOP, [*STEPS, "train.augment={crop_scale: [0.5, 1.0], flip: true}"]),
    "stacked RandAugment": (LAPTOP, [*STEPS, "train.augment={rand_augment: {num_ops: 4, magnitude: 9}}"]),
    "LiT": (LAPTOP, [*STEPS, "train.learning_rate={heads: 0.001, text_encoder: 0.001}"]),
    "sigmoid": (LAPTOP, [*STEPS, "objective.loss={kind: sigmoid}", "model.logit_bias=-10"]),
    "multi-caption": (LAPTOP, [*STEPS, "train.captions_per_image=2", "objective.loss={kind: multi_positive}"]),
    "CLIPA": (
        LAPTOP,
        [*STEPS, f"early_stages=[{{name: low, image_size: 24, num_steps: 60, batch_size: 256, learning_rate: {LOW}}}]"],
    ),
    "cached heads": ("flickr/flickr8k_heads_cpu", []),
}
BUDGETS = {"CLIP": 45, "FLIP": 45, "cached heads": 90}
"""Seconds at the least; a third more than the run took where that is longer, so that a budget has room for caches."""


def run(folder: Path, *words: str) -> dict[str, Any]:
    """The first JSON line that a command prints."""
    command, environment = (
        [sys.executable, "-m", "pocketclip", "-q", *words],
        {**os.environ, "POCKETCLIP_CACHE": str(folder)},
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[0])
    return values


def taken(recipe: str, changes: list[str]) -> float:
    """Seconds of a run."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run(Path(folder) / "cache", "train", recipe, *changes, "--json", "--out", str(out))
        seconds: float = json.loads((out / "records" / "run.json").read_text())["seconds"]["total"]
    return seconds


def planned(recipe: str, changes: list[str]) -> float:
    """Seconds that the plan says."""
    with tempfile.TemporaryDirectory() as folder:
        hours: float = run(Path(folder) / "cache", "plan", recipe, *changes, "--hardware", "this", "--json")["hours"]
    return 3600 * hours


def main() -> None:
    options = arguments(__doc__).parse_args()
    plans, budgets = {}, {}
    for name, (recipe, settings) in STRATEGIES.items():
        changes = [word for setting in settings for word in ("--set", setting)]
        said, took = planned(recipe, changes), taken(recipe, changes)
        plans[name] = {"planned_s": round(said, 1), "took_s": round(took, 1), "planned_to_took": round(said / took, 3)}
        print(name, plans[name], file=sys.stderr)
    for name, least in BUDGETS.items():
        seconds = max(least, round(4 / 3 * plans[name]["took_s"]))
        recipe, settings = STRATEGIES[name]
        words = ["--set", f"train.budget.seconds={seconds}"]
        changes = [word for setting in settings if setting not in STEPS for word in ("--set", setting)]
        took = taken(recipe, [*changes, *words])
        budgets[name] = {"budget_s": seconds, "took_s": round(took, 2), "took_to_budget": round(took / seconds, 3)}
        print(name, budgets[name], file=sys.stderr)
    finish(sys.argv[0], {"plans": plans, "budgets": budgets}, write=options.write)


if __name__ == "__main__":
    main()
