"""What classes a model's vectors of images tell apart, by something learned from other images' vectors."""

from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from pocketclip.data import open_source
from pocketclip.data.labels import NO_LABEL, Classes
from pocketclip.data.source import Source, Subset
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError
from pocketclip.evaluate.classification import check_finite
from pocketclip.evaluate.encoded import EMBEDDING, MakeEncoder, whole
from pocketclip.evaluate.identities import pictures_of
from pocketclip.evaluate.intervals import join
from pocketclip.evaluate.statistics import resampled_ratios
from pocketclip.evaluate.task import Need, Task
from pocketclip.evaluate.task_data import TaskData
from pocketclip.evaluate.tower import Part, class_sizes, commonest_class, matched_classes
from pocketclip.features.encode import Embeddings, embed_source
from pocketclip.records import EvalResult, Interval
from pocketclip.stages.watch import Watch

Flags = npt.NDArray[np.bool_]


class Examples(NamedTuple):
    """What is learned from, and what is tested on."""

    learned: Part
    tested: Part
    classes: Classes
    reference: Part | None = None
    """Images like those learned from, of the classes that are answers, where a gap was asked for."""

    @property
    def notes(self) -> list[str]:
        """What a reader has to know of them."""
        left_out = [
            f"{part.num_left_out:,} {which} images without a class, or broken, left out"
            for which, part in (("training", self.learned), ("test", self.tested))
            if part.num_left_out
        ]
        return [*(f"classes matched by number: {name} names none" for name in self.classes.unnamed), *left_out]

    @property
    def sizes(self) -> dict[str, float]:
        """Metrics that a reader needs beside the scores."""
        commonest = commonest_class(self.learned.labels, self.classes)
        return {
            "commonest_class_accuracy": float((self.tested.labels == commonest).mean()),
            "chance": 1 / len(self.classes.candidates),
            **class_sizes(self.classes),
            "num_training_examples": float(len(self.learned.labels)),
        }


class FrozenTask(Task):
    """A task over embeddings of images with classes, some to learn from and others to be tested on."""

    needs: ClassVar[frozenset[Need]] = frozenset({"classes", "training data"})
    unit = "images"
    counted = "images"
    openings = {
        "top1_accuracy": "{} of 100 images get their class",
        "commonest_class_accuracy": "Always the commonest class would be right for {} of 100",
    }

    in_distribution: str = "none"
    """Images like those that are learned from, as KIND:PLACE, which the score is set beside: the gap of a variant."""

    def encoders(self, model: Embedder) -> dict[str, MakeEncoder]:
        del model
        return {EMBEDDING: whole}

    def examples(self, model: Embedder, data: TaskData, watch: Watch) -> Examples:
        """Embeddings of both parts, as exact as scores ask for.

        Raises:
            UserError: a part has no classes or no readable image, the classes do not fit, or embeddings are not finite.
        """
        sources = data.images
        classes = matched_classes(*sources)
        embedded = data.embedded_parts(model, watch)
        learned = part_with_classes(embedded[0], classes.train, sources[0], "training")
        tested = part_with_classes(embedded[1], classes.test, sources[1], "test")
        for part, source in zip((learned, tested), sources, strict=True):
            check_finite(part.features, model, source.name)
        return Examples(learned, tested, classes, self._reference(model, sources[0], classes, watch))

    def _reference(self, model: Embedder, train: Source, classes: Classes, watch: Watch) -> Part | None:
        """Embeddings of the images in distribution whose class is an answer, in the classes' own numbers."""
        if self.in_distribution == "none":
            return None
        part, labels = like_training(self.in_distribution, train, classes)
        embedded = embed_source(model.for_scores(), part, watch, with_texts=False)
        found = part_with_classes(embedded, labels, part, "in-distribution")
        check_finite(found.features, model, part.name)
        return found

    def sizes(self, result: EvalResult) -> dict[str, int]:
        return {"images": result.num_images}

    def chance(self, result: EvalResult) -> tuple[str, float] | None:
        return None if "chance" not in result.metrics else ("top-1", float(str(result.metrics["chance"])))


def like_training(place: str, train: Source, classes: Classes) -> tuple[Source, npt.NDArray[np.int64]]:
    """The images at a place whose class is an answer, with their classes in the numbers of `classes`."""
    source = open_source(place, place="--set in_distribution")
    labels = matched_classes(train, source).test
    chosen = np.flatnonzero(np.isin(labels, classes.candidates))
    if not len(chosen):
        raise UserError(f"--set in_distribution={place}: no image is of a class that is tested.")
    return Subset(source, chosen, source.name), labels[chosen]


def beside(name: str, hits: Flags, reference: Flags) -> dict[str, Interval]:
    """The score in distribution, and the gap of a test to it, each with its interval.

    Args:
        name: of the score.
        hits: (R, M), whether each test image was right in each of R draws.
        reference: (R, K), the same of K images in distribution, from the same draws.
    """
    own, theirs = (
        resampled_ratios([{"": (part.mean(axis=0), np.ones(part.shape[1]))}], {}, seed=seed)[""]
        for seed, part in enumerate((hits, reference))  # other seeds: the images have nothing to do with each other
    )
    values, gaps = reference.mean(axis=1), hits.mean(axis=1) - reference.mean(axis=1)
    return {
        f"{name}_in_distribution": join(float(values.mean()), theirs, values.tolist()),
        f"{name}_gap": join(float(gaps.mean()), own - theirs, gaps.tolist()),
    }


def part_with_classes(embedded: Embeddings, labels: npt.NDArray[np.int64], source: Source, which: str) -> Part:
    """The rows of one part that have a class; a UserError where there are none."""
    own = labels[embedded.indices]
    kept = own != NO_LABEL
    if not kept.any():
        raise UserError(f"{source.name}: none of the {which} images with a class can be read.")
    ids = pictures_of(embedded, source)[kept]
    return Part(embedded.images[kept], own[kept], len(source) - int(kept.sum()), ids)
