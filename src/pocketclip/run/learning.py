"""Tells the user, early and at the end, where a run learns nothing; what that is, `train/diagnosis.py` says."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pocketclip import distributed
from pocketclip.objectives.uninformed import uninformed_loss
from pocketclip.run.scores import EvaluatedSplit, validation_captions
from pocketclip.run.state import Run
from pocketclip.train.budget import StepPlan
from pocketclip.train.causes import Settings, likely_causes
from pocketclip.train.config import ENDLESS, TrainConfig
from pocketclip.train.diagnosis import Stage, findings, within_chance
from pocketclip.train.metrics import read_metrics
from pocketclip.train.schedule import warmup_steps
from pocketclip.types import ImageTextBatch

LOOKS = (100, 200, 300, 500)
"""Steps after which the losses are looked at, beside every evaluation."""


class Learning:
    """What one stage makes of its data; rank 0 looks and tells, the others do nothing."""

    def __init__(self, run: Run, name: str, config: TrainConfig, num_steps: int) -> None:
        self.run, self.name, self.schedule = run, name, config.schedule
        run.tried = _settings(run, name, config, num_steps)
        self.stage = _stage(run, name, config, run.tried) if distributed.is_main() else None

    def expect(self, plan: StepPlan) -> None:
        """The stage's number of steps, where its budget says it as the stage goes on."""
        if self.stage is None or plan.num_steps in (self.stage.settings.num_steps, ENDLESS):
            return
        settings = replace(self.stage.settings, num_steps=plan.num_steps)
        warmup = warmup_steps(self.schedule, plan.num_steps)
        self.run.tried, self.stage = settings, replace(self.stage, settings=settings, warmup_steps=warmup)

    def looked_at(self, batches: Iterator[ImageTextBatch], start: int) -> Iterator[ImageTextBatch]:
        """The batches from a step on, with a look at the losses after some of the first steps."""
        for step, batch in enumerate(batches, start):
            if step in LOOKS:
                self.look()
            yield batch

    def look(self, scores: Mapping[str, float] | None = None) -> None:
        """Tell what is wrong so far; `scores` are those of an evaluation that no file has yet."""
        if self.stage is not None and (rows := self._rows()):
            now = [] if scores is None else [{**scores, "step": rows[-1]["step"]}]
            for kind, message in findings(self.stage, [*rows, *now], over=False).items():
                _tell(self.run, f"{self.name} {kind}", message)

    def finish(self) -> None:
        """Tell and note what is wrong at the end of the stage."""
        if self.stage is not None:
            for kind, message in findings(self.stage, self._rows(), over=True).items():
                _tell(self.run, f"{self.name} {kind}", message)
                self.run.notes["train"].append(message)

    def _rows(self) -> list[dict[str, Any]]:
        if not (self.run.folder / "metrics.jsonl").is_file():
            return []
        return [row for row in read_metrics(self.run.folder) if row.get("stage") == self.name]


def note_chance(run: Run, splits: Mapping[str, EvaluatedSplit]) -> None:
    """Tell and note of which splits the final scores, by their intervals, are those of guessing."""
    for split, evaluated in splits.items():
        result = evaluated.result
        units = _units(result.num_images, evaluated.source.images_per_example)
        by_chance = run.task.guessing_on(evaluated.source, result.num_images)
        guessed = within_chance(result.metrics, by_chance, units)
        if distributed.is_main() and guessed and run.tried is not None:
            message = f"{split}: {guessed}"
            if not any("Likely causes" in note for note in run.notes["train"]):
                message += f". {likely_causes('failed', run.tried, diverged=False)}"
            _tell(run, f"{split} chance", message)
            run.notes["train"].append(message)


def _tell(run: Run, kind: str, message: str) -> None:
    """On the terminal, once of each kind."""
    if kind not in run.told:
        run.told.add(kind)
        run.watch.note(message)


def _stage(run: Run, name: str, config: TrainConfig, settings: Settings) -> Stage:
    objective, val = run.recipe.objective, run.val_source
    num_captions = config.captions_per_image + config.synthetic_captions_per_image
    val_batch = min(config.batch_size, len(val))
    return Stage(
        name=name.replace("_", " "),
        settings=settings,
        warmup_steps=warmup_steps(config.schedule, settings.num_steps),
        uninformed=uninformed_loss(objective, config.batch_size, num_captions),
        uninformed_validation=uninformed_loss(objective.validation, val_batch, validation_captions(run, config)),
        by_chance=run.task.guessing_on(val, len(val)),
        num_tested=_units(len(val), val.images_per_example),
        score="mean_recall" if "mean_recall" in run.task.means else run.task.scores[0],
        keeps_best=config.keep == "best",
        loss_grows=objective.needs.queue is not None,
    )


def _units(num_images: int, images_per_example: int) -> int:
    return num_images // images_per_example


def _settings(run: Run, name: str, config: TrainConfig, num_steps: int) -> Settings:
    """Those that a training fails by."""
    model, stages = run.recipe.model, run.recipe.stages
    until_now = [stages[stage].learning_rate for stage in list(stages)[: list(stages).index(name) + 1]]
    random = []
    if model.bundle is None and model.pretrained == "none":
        towers = {"image_encoder": model.image_encoder, "text_encoder": model.text_encoder}
        random = [part for part, one in towers.items() if one.pretrained == "none" and one.inherit is None]
    return Settings(
        rates=config.learning_rate.trained,
        num_steps=num_steps,
        batch_size=config.batch_size,
        temperature=float(1 / run.model.logit_scale.detach().exp()),
        random_and_frozen=tuple(part for part in random if all(getattr(rate, part) is None for rate in until_now)),
        shared_captions="captions" in run.told,
    )
