"""What an image tower can learn: it is trained on with a classifier, and so is the tower it started from."""

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data.batches import BatchPlan, DrawnCaptions, TrainingBatches, views_of
from pocketclip.data.labels import NO_LABEL, Classes
from pocketclip.data.pictures.augment import AugmentConfig, CropScale
from pocketclip.data.source import Sample, Source
from pocketclip.embedder import Embedder
from pocketclip.errors import Interrupted, UserError
from pocketclip.evaluate.task import TaskData
from pocketclip.evaluate.tower import (
    NOT_TRAINED,
    RANDOM_START,
    Asked,
    Hits,
    ImageExamples,
    Part,
    TowerTask,
    accuracies,
    class_counts,
    matched,
)
from pocketclip.models.bare import bare_tower
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.origin.start import same_weights, starting_image_encoder
from pocketclip.models.running.precision import Precision
from pocketclip.models.running.runner import Runner
from pocketclip.models.tower import ImageTower, TextTower
from pocketclip.objectives.classification import ClassificationObjective
from pocketclip.records import EvalResult
from pocketclip.stages.watch import SILENT, BrokenItems, Watch
from pocketclip.train import Trainer
from pocketclip.train.config import TrainConfig
from pocketclip.train.optimizer import AdamWConfig, LearningRates
from pocketclip.train.schedule import CosineScheduleConfig
from pocketclip.types import ImageTextBatch


class NoTexts(TextTower):
    """Stands in for a text tower where only images are classified."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(M, width) of zeros."""
        del mask
        return torch.zeros(len(tokens), self.width, device=tokens.device)


@dataclass(frozen=True)
class ClassNameCaptions(Source):
    """The samples of a source that have a class, with its name as their caption."""

    source: Source
    indices: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    """(N,) of them."""
    names: tuple[str, ...]
    name: str

    @classmethod
    def of(cls, source: Source, classes: Classes) -> "ClassNameCaptions":
        """Of the source to learn from."""
        indices = np.flatnonzero(classes.train != NO_LABEL)
        return cls(source, indices, classes.train[indices], classes.class_names, source.name)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return replace(self.source[int(self.indices[index])], captions=self.captions(index))

    def captions(self, index: int) -> tuple[str, ...]:
        """The name of the sample's class."""
        return (self.names[self.labels[index]],)

    def fingerprint(self) -> str:
        """Of the source."""
        return self.source.fingerprint()


class FineTuning(TowerTask):
    """Accuracy of the image tower trained on with a classifier, against the tower before training.

    The settings are the same for the trained tower and for its start, and chosen on no test data.
    """

    kind: Literal["fine_tuning"] = "fine_tuning"
    needs = frozenset({"classes", "training data"})
    heading = "Fine tuning"

    num_epochs: PositiveFloat = 5.0
    batch_size: PositiveInt = Field(default=64, ge=2)
    learning_rate: PositiveFloat = 1e-4
    """Of the tower."""
    head_learning_rate: PositiveFloat = 1e-3
    """Of the classifier, which starts at zero."""
    weight_decay: NonNegativeFloat = 0.05
    crop_scale: CropScale | None = (0.5, 1.0)
    flip: bool = True
    max_broken_share: float = Field(default=0.01, ge=0, le=1)
    precision: Precision = "auto"
    num_workers: NonNegativeInt | None = None
    seed: NonNegativeInt = 0

    def run(self, model: Embedder, data: TaskData, watch: Watch = SILENT) -> EvalResult:
        """See `Task`. The tower is a copy, and the test images are looked at once, after the last step."""
        if not isinstance(model, PretrainedModel):
            raise UserError(
                f"{model.name}: --task fine_tuning looks inside the towers of our own models; give a bundle or a run "
                "folder, or ask linear_probe."
            )
        train, test = (ImageExamples.of(part) for part in data.images)
        classes = matched(train, test)
        own = model.model.image_encoder
        start = starting_image_encoder(model.config) if self.against_start else None
        notes = [RANDOM_START] if self.against_start and start is None else []
        named = ClassNameCaptions.of(train.source, classes)
        correct, part = self._train(model, own, named, test, classes, watch, "fine-tuning")
        outcomes = {"": correct}
        if start is not None and same_weights(start, own):
            outcomes["_start"], notes = correct, [NOT_TRAINED]
        elif start is not None:
            outcomes["_start"], _ = self._train(model, start, named, test, classes, watch, "fine-tuning the start")
        nothing = np.zeros((0, 0), np.float32)
        parts = Part(nothing, named.labels, len(train.source) - len(named)), part
        return self.record(test, accuracies(outcomes) | class_counts(parts, len(classes.class_names)), notes, parts)

    def _train(
        self,
        model: PretrainedModel,
        tower: ImageTower,
        named: ClassNameCaptions,
        test: ImageExamples,
        classes: Classes,
        watch: Watch,
        name: str,
    ) -> tuple[Hits, Part]:
        """Whether each test image got its class from a copy of a tower that was trained on, and the test images."""
        scores = model.runner_for_scores()
        classifier = _classifier(bare_tower(model.model, copy.deepcopy(tower), "image"), len(classes.class_names))
        classifier = classifier.to(scores.device)
        settings, plan = self._training(), BatchPlan(len(named), self.batch_size, self.seed)
        views = views_of(named, settings.augment.build(model.preprocess))
        seen = TrainingBatches(named, plan, captions=DrawnCaptions(1), views=views, tokenizer=model.tokenizer)

        def batches(first: int) -> Iterator[ImageTextBatch]:
            for batch in seen.steps(
                first,
                settings.total_steps(plan.steps_per_epoch),
                num_workers=settings.num_workers,
                pin_memory=scores.device.type == "cuda",
            ):
                yield replace(batch, labels=torch.from_numpy(named.labels)[batch.image_ids])

        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                name,
                classifier,
                ClassificationObjective(),
                batches,
                settings,
                steps_per_epoch=plan.steps_per_epoch,
                evaluate=None,
                folder=Path(folder),
                seed=self.seed,
                watch=BrokenItems(len(named), self.max_broken_share, setting="--set max_broken_share", watch=watch),
            )
            try:
                trainer.run(resume=False)
            except Interrupted as stop:
                raise KeyboardInterrupt from stop  # its checkpoint goes with the folder, so nothing can go on
        size, precision = scores.image_size, scores.precision
        runner = Runner(classifier, device=scores.device, precision=precision, image_size=size)
        part = test.features(Asked(runner, model.preprocess, model.tokenizer), classes.test, "test", watch)
        return np.asarray(part.features.argmax(axis=1) == part.labels), part

    def _training(self) -> TrainConfig:
        """The settings of the training loop."""
        return TrainConfig(
            num_epochs=self.num_epochs,
            batch_size=self.batch_size,
            learning_rate=LearningRates(heads=self.head_learning_rate, image_encoder=self.learning_rate),
            augment=AugmentConfig(crop_scale=self.crop_scale, flip=self.flip),
            optimizer=AdamWConfig(weight_decay=self.weight_decay),
            schedule=CosineScheduleConfig(),
            precision=self.precision,
            evaluate_every=None,
            num_workers=self.num_workers,
        )


def _classifier(tower: ImageTower, num_classes: int) -> DualEncoder:
    """A tower with a linear layer of zeros behind it; the other half of the model has no part in it."""
    head = nn.Linear(tower.feature_dim, num_classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return DualEncoder(tower, NoTexts(num_classes), head, nn.Identity(), learn_temperature=False)
