"""What a study of many cells takes beside the training: planning, carrying out, resuming and reporting of 10,000.

    uv run python benchmarks/study_grid.py

The grid has five axes of 10, 10, 10, 5 and 2 levels over a recipe on drawn scenes, and one seed. A cell is not
trained: in its place its run's records, answers to the questions of 200 pictures and parameters are written. "plan"
reads the study and its recipes, "first" carries all cells out and reports, "resume" does so with all of them finished.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from record import arguments, finish

from pocketclip.data import open_source
from pocketclip.evaluate.items import Items, write_items
from pocketclip.evaluate.tasks import Retrieval
from pocketclip.features.encode import Embeddings
from pocketclip.records import RunRecord
from pocketclip.stages.watch import SILENT, Watch
from pocketclip.study.grid import load_study
from pocketclip.study.runner import run_study
from pocketclip.study.runs import ANSWERS, PARAMETERS, PlannedRun

NUM_PICTURES, NUM_OUTCOMES, LIMIT_SECONDS = 200, 10, 60
AXES: dict[str, Any] = {
    "rate": {"key": "train.learning_rate.heads", "values": [round(0.001 * step, 4) for step in range(1, 11)]},
    "steps": {"key": "train.num_steps", "values": [100 * step for step in range(1, 11)]},
    "pictures": {f"{200 * n}": {"data.train": f"scenes:{200 * n}"} for n in range(1, 11)},
    "batch": {"key": "train.batch_size", "values": [8, 16, 32, 64, 128]},
    "flips": {"off": {}, "on": {"train.augment.flip": True}},
}
TINY: dict[str, Any] = {
    "data": {"train": "scenes:200", "val": {"kind": "scenes", "count": NUM_PICTURES, "seed": 1}},
    "model": {
        "image_encoder": {"kind": "timm", "name": "test_efficientnet", "pretrained": "none", "image_size": 32},
        "text_encoder": {"kind": "huggingface", "name": "tiny-bert", "pretrained": "none", "tokenizer": "captions",
                         "vocabulary_size": 300, "context_length": 16},
        "image_head": {"kind": "linear"},
        "text_head": {"kind": "linear"},
        "embed_dim": 16,
    },
    "objective": {"kind": "contrastive"},
    "train": {"num_steps": 100, "batch_size": 8, "learning_rate": {"heads": 0.001, "image_encoder": 0.001}},
}  # fmt: skip


class Simulated:
    """Stands for training: writes what a run leaves, one of some outcomes."""

    def __init__(self, place: Path) -> None:
        self.count, random = 0, np.random.default_rng(0)
        source, task, same = open_source(TINY["data"]["val"]), Retrieval(), np.arange(NUM_PICTURES)
        self.outcomes = []
        for number in range(NUM_OUTCOMES):
            images = random.normal(size=(NUM_PICTURES, 16)).astype(np.float32)
            texts = images + (0.2 + 0.05 * number) * random.normal(size=images.shape).astype(np.float32)
            embeddings = Embeddings(images, texts, same, same, [])
            result = task.result(embeddings, source, split="val")
            items = Items(result, task.answers(embeddings, source), task.identities(embeddings, source), "simulated")
            self.outcomes.append((json.dumps(result.to_json()), write_items(place / "items.npz", items).read_bytes()))
        self.provenance = result.provenance

    def __call__(self, run: PlannedRun, watch: Watch) -> str | None:
        """The files of a run."""
        result, items = self.outcomes[self.count % NUM_OUTCOMES]
        self.count += 1
        (run.folder / "records").mkdir(parents=True)
        record = RunRecord(
            name=run.name, seed=run.seed, recipe_hash=run.recipe.fingerprint(), num_steps=100, num_images=100,
            num_captions=100, seconds={"total": 60.0, "caches": 0.0}, provenance=self.provenance,
        )  # fmt: skip
        (run.folder / "records" / "run.json").write_text(json.dumps(record.to_json()))
        (run.folder / "records" / "retrieval_val.json").write_text(result)
        (run.folder / ANSWERS).write_bytes(items)
        (run.folder / PARAMETERS).write_text('{"parameters_total": 1000000}\n')
        return None


def main() -> None:
    """Time the three."""
    options = arguments(__doc__).parse_args()
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        (place / "tiny.yaml").write_text(json.dumps(TINY))
        path, out = place / "grid.study.yaml", place / "out"
        path.write_text(json.dumps({"base": "tiny.yaml", "axes": AXES, "seeds": [0]}))
        simulated = Simulated(place)
        started = time.perf_counter()
        study = load_study(str(path))
        seconds["plan"] = time.perf_counter() - started
        for name in ("first", "resume"):
            started = time.perf_counter()
            record = run_study(study, out, watch=SILENT, resume=name == "resume", carry_out=simulated)
            seconds[name] = time.perf_counter() - started
    assert record.num_finished == record.num_runs == simulated.count == 10_000
    total = seconds["plan"] + seconds["resume"]
    values = {
        "num_cells": len(record.rows),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "plan_resume_report_seconds": round(total, 2),
        "limit_seconds": LIMIT_SECONDS,
    }
    finish(__file__, values, write=options.write)


if __name__ == "__main__":
    main()
