"""What an image tower can learn: it is trained on with a classifier, and so is the tower it started from."""

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pocketclip.data.labels import NO_LABEL
from pocketclip.data.pictures.augment import AugmentConfig, CropScale
from pocketclip.data.source import Sample, Subset
from pocketclip.embedder import Embedder
from pocketclip.errors import Interrupted, UserError
from pocketclip.evaluate.task_data import TaskData
from pocketclip.evaluate.tower import Asked, Part, TowerTask, encode_examples, hits_by_score, matched_classes
from pocketclip.models.running.precision import Precision
from pocketclip.records import EvalResult
from pocketclip.stages.watch import SILENT, BrokenItems, Watch
from pocketclip.train.config import TrainConfig
from pocketclip.train.rates import AdamWConfig, CosineScheduleConfig, LearningRates

if TYPE_CHECKING:
    from pocketclip.asked.bundle import PretrainedModel
    from pocketclip.models.dual_encoder import DualEncoder
    from pocketclip.models.tower import ImageTower
    from pocketclip.types import ImageTextBatch


@dataclass(frozen=True)
class ClassNameCaptions(Subset):
    """The samples of a source that have a class, with its name as their caption, seen in fresh views."""

    labels: npt.NDArray[np.int64]
    """(N,) of them."""
    names: tuple[str, ...]
    """Of the classes."""
    stored = None

    def sample(self, index: int) -> Sample:
        return replace(super().sample(index), captions=self.captions(index))

    def captions(self, index: int) -> tuple[str, ...]:
        return (self.names[self.labels[index]],)


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
        from pocketclip.asked.bundle import PretrainedModel
        from pocketclip.models.origin.start import starting_image_encoder

        if not isinstance(model, PretrainedModel):
            raise UserError(
                f"{model.name}: --task fine_tuning looks inside the towers of our own models; give a bundle or a run "
                "folder, or ask linear_probe."
            )
        train, test = data.images
        classes = matched_classes(train, test)
        own = model.model.image_encoder
        start = starting_image_encoder(model.config) if self.against_start else None
        chosen = np.flatnonzero(classes.train != NO_LABEL)
        named = ClassNameCaptions(train, chosen, train.name, classes.train[chosen], classes.class_names)
        no_features = np.zeros((0, 0), np.float32)
        learned = Part(no_features, named.labels, len(train) - len(named), np.zeros(0, np.int64))

        def tested(tower: "ImageTower") -> Part:
            name = "fine-tuning" if tower is own else "fine-tuning the start"
            trained = self._train(model, tower, named, watch, name)
            return encode_examples(Asked.of(trained, model, model.tokenizer), test, classes.test, "test", watch)

        outcomes, notes = self.before_and_after(own, start, tested)
        correct = {ending: part.features.argmax(axis=1) == part.labels for ending, part in outcomes.items()}
        data.keep(hits_by_score(correct), outcomes[""].ids)
        return self.record(test, correct, (learned, outcomes[""]), classes, notes)

    def _train(
        self, model: "PretrainedModel", tower: "ImageTower", named: ClassNameCaptions, watch: Watch, name: str
    ) -> "DualEncoder":
        """A classifier on a copy of a tower, both trained on."""
        from torch import from_numpy

        from pocketclip.data.batches import BatchPlan, DrawnCaptions, TrainingBatches, views_of
        from pocketclip.evaluate.classifier import with_classifier
        from pocketclip.models.bare import bare_tower
        from pocketclip.objectives.classification import classification
        from pocketclip.train.loop import Trainer

        classifier = with_classifier(bare_tower(model.model, copy.deepcopy(tower), "image"), len(named.names))
        classifier = classifier.to(model.device)
        settings, plan = self._training(), BatchPlan(len(named), self.batch_size, self.seed, "batch_size")
        views = views_of(named, settings.augment, model.preprocess)
        seen = TrainingBatches(named, plan, captions=DrawnCaptions(1), views=views, tokenizer=model.tokenizer)

        def batches(first: int) -> "Iterator[ImageTextBatch]":
            num_steps = settings.total_steps(plan.steps_per_epoch)
            for batch in seen.steps(first, num_steps, num_workers=self.num_workers, pin_memory=model.is_on_gpu):
                assert batch.indices is not None
                yield replace(batch, labels=from_numpy(named.labels)[batch.indices])

        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                name,
                classifier,
                classification,
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
        return classifier

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
