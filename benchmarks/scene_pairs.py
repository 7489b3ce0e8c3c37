"""True or false of two drawn scenes: what a model trained from nothing by two recipes gets right, and what it takes.

    uv run python benchmarks/scene_pairs.py --write

The two runs are `runs/scenes_cpu` and `runs/scene_pairs_cpu`; one that was interrupted goes on, and one that is done is
not trained again. The test pairs are read once, at the end. CPU seconds count all processes of a command, whatever else
the machine did.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from record import arguments, finish

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.data.sources.scene_pairs import BLOCK, ScenePairsSource, kind_of_block
from pocketclip.evaluate.tasks.nlvr2 import judge_examples, pair_metrics
from pocketclip.features.encode import embed_source
from pocketclip.recipe import load_recipe

RECIPES = ("s_smke/scenes_cpu", "s_smke/scene_pairs_cpu")


def run(recipe: str, folder: Path, changes: Sequence[str]) -> dict[str, Any]:
    """Train what is not trained yet; the seconds it took, over all interruptions, stay beside the run."""
    place = folder / "benchmark.json"
    taken = json.loads(place.read_text()) if place.exists() else {"wall": 0.0, "cpu": 0.0}
    if not (folder / "bundle").exists():
        before, started = _cpu_seconds(), time.perf_counter()
        settings = [word for change in changes for word in ("--set", change)]
        resume = ["--resume"] if (folder / "recipe.yaml").exists() else []
        words = ["train", recipe, "--out", str(folder), *settings, *resume]
        done = subprocess.run([sys.executable, "-m", "pocketclip.cli.main", *words], check=False, stdout=sys.stderr)
        taken["wall"] += time.perf_counter() - started
        taken["cpu"] += _cpu_seconds() - before
        if folder.exists():
            place.write_text(json.dumps(taken))
        if done.returncode:
            sys.exit(f"{recipe} ended with code {done.returncode}; the same command goes on from its last checkpoint.")
    record = json.loads((folder / "records" / "run.json").read_text())
    kept = {key: record[key] for key in ("num_steps", "recipe_hash")}
    return {"recipe": recipe, "wall_seconds": round(taken["wall"]), "cpu_seconds": round(taken["cpu"]), **kept}


def _cpu_seconds() -> float:
    """Of all processes started from here that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def by_kind(correct: npt.NDArray[np.bool_], source: ScenePairsSource) -> dict[str, Any]:
    """Accuracy of each form of sentence and, of those about single images, of each aspect."""
    kinds = [kind_of_block(number // BLOCK) for number in range(source.settings.count)]
    found: dict[str, Any] = {}
    for form in dict.fromkeys(form for form, _ in kinds):
        found[form] = [form == own for own, _ in kinds]
    for aspect in dict.fromkeys(aspect for _, aspect in kinds):
        found[aspect] = [aspect == own and form != "total" for form, own in kinds]
    return {
        name: pair_metrics(correct[chosen], source.pairs.sentences[chosen])["accuracy"].model_dump()
        for name, chosen in found.items()
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the two runs")
    options = parser.parse_args()
    pictures, pairs = (options.runs / recipe.rpartition("/")[2] for recipe in RECIPES)
    stages = [run(RECIPES[0], pictures, []), run(RECIPES[1], pairs, [f"model.bundle={pictures}"])]
    test = load_recipe(RECIPES[1]).data.test
    assert test is not None, "the recipe has test pairs"
    source = open_source(test)
    assert isinstance(source, ScenePairsSource)
    model = PretrainedModel.from_pretrained(pairs)
    assert model.judge_pairs is not None, "the second recipe trains a pair head"
    examples, logits = judge_examples(model.judge_pairs, embed_source(model.for_scores(), source))
    assert len(examples) == source.settings.count, "a drawn picture can always be read"
    correct = (logits > 0) == source.labels
    metrics = pair_metrics(correct, source.sentences)
    values = {
        "source": test.model_dump(mode="json"),
        **{key: value if isinstance(value, float) else value.model_dump() for key, value in metrics.items()},
        "accuracy_by_kind": by_kind(correct, source),
        "stages": stages,
    }
    finish(__file__, values, write=options.write)


if __name__ == "__main__":
    main()
