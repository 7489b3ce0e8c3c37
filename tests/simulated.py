"""Runs of a study that take no time: they leave what a run leaves, and are counted."""

import json
import os
import shutil
from pathlib import Path

import numpy as np

from pocketclip.data import open_source
from pocketclip.evaluate.items import Items, write_items
from pocketclip.evaluate.tasks import Retrieval
from pocketclip.features.encode import Embeddings
from pocketclip.files import write_atomically
from pocketclip.records import RunRecord, write_record
from pocketclip.stages.watch import Watch
from pocketclip.study.runs import ANSWERS, PARAMETERS, PlannedRun


class Simulated:
    """Stands for training. Every try of a run is a line of `log`; a rung is reached with the score of the cell."""

    def __init__(self, place: Path, scores: dict[str, float] | None = None) -> None:
        self.log, self.pattern = place / "log.txt", place / "pattern"
        self.scores = scores or {}
        self.problems: dict[str, str] = {}
        random = np.random.default_rng(0)
        images, texts = (random.normal(size=(8, 4)).astype(np.float32) for _ in range(2))
        same = np.arange(8)
        embeddings, source = Embeddings(images, texts, same, same, []), open_source({"kind": "scenes", "count": 8})
        result = Retrieval().result(embeddings, source, split="val")
        items = Items(result, Retrieval().answers(embeddings, source), None, "simulated")
        if not self.pattern.is_dir():
            write_record(result, self.pattern, "retrieval_val")
            write_items(self.pattern / ANSWERS, items)
        self.provenance = result.provenance

    def __call__(self, run: PlannedRun, watch: Watch) -> str | None:
        """Leave what a run leaves, at once."""
        with self.log.open("a") as file:
            file.write(f"{os.getpid()} {run.key}\n")
        run.folder.mkdir(parents=True, exist_ok=True)
        if run.name in self.problems:
            return self.problems[run.name]
        if run.rung is not None:
            values = {"share": run.rung.share, "step": 1, "scores": {"mean_recall": self.scores[run.row]}}
            write_atomically(run.folder / run.rung.file, json.dumps(values))
            return None
        shutil.copytree(self.pattern, run.folder, dirs_exist_ok=True)
        record = RunRecord(
            name=run.name, seed=run.seed, recipe_hash=run.recipe.fingerprint(), num_steps=2, num_images=24,
            num_captions=48, seconds={"total": 1.0}, provenance=self.provenance,
        )  # fmt: skip
        (run.folder / "records" / "run.json").write_text(json.dumps(record.to_json()))
        write_atomically(run.folder / PARAMETERS, '{"parameters_total": 1}')  # last and whole, as a run's: others look
        return None

    def tries(self) -> list[str]:
        """Of each try the key of its run, in their order."""
        return [line.split()[1] for line in self.log.read_text().splitlines()] if self.log.is_file() else []

    def processes(self) -> set[str]:
        """Who tried."""
        return {line.split()[0] for line in self.log.read_text().splitlines()}
