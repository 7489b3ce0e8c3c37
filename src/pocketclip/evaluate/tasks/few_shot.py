"""Few-shot classification: a linear classifier of a handful of images a class."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from pocketclip.data.labels import NO_LABEL
from pocketclip.embedder import Embedder, Floats
from pocketclip.errors import UserError
from pocketclip.evaluate.frozen import Examples, FrozenTask, beside
from pocketclip.evaluate.intervals import join
from pocketclip.evaluate.least_squares import Ridge, fit_ridge
from pocketclip.evaluate.ranked import TIE
from pocketclip.evaluate.statistics import resampled_ratios
from pocketclip.evaluate.task_data import TaskData
from pocketclip.evaluate.tower import Part, among
from pocketclip.records import EvalResult, Interval, percent
from pocketclip.stages.watch import SILENT, Watch

Ids = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
_ROWS_A_PASS = 1 << 14


class FewShot(FrozenTask):
    """Accuracy of a linear classifier fitted to 1, 2, 4, 5, 8, 10 and 16 images a class, over several draws of them."""

    kind: Literal["few_shot"] = "few_shot"
    heading = "Few-shot classification"
    unit = "images, and of the draws of shots,"
    columns = ("images a class", "top-1 accuracy")
    meaning = (
        "A ridge regression is fitted to so many embeddings of each class and to nothing else; its penalty is chosen "
        "by leaving each of them out in turn. The mean over several draws; ties count against the model."
    )

    shots: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2, 4, 5, 8, 10, 16)
    """Images of each class that are learned from."""
    num_draws: PositiveInt = 5
    """How often they are drawn anew."""
    seed: NonNegativeInt = 0
    """Of the draws."""

    @field_validator("shots", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        if isinstance(value, int):
            return (value,)
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("shots")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(value)))

    def run(self, model: Embedder, data: TaskData, watch: Watch = SILENT) -> EvalResult:
        whole = self.examples(model, data, watch)
        given, small = large_classes(whole, max(self.shots))
        if len(given.classes.class_names) < 2 or not len(given.tested.labels):
            raise UserError(self._too_few(whole, data.images[0].name))
        hits, of_known = self._hits(given, watch)
        data.keep({name_of(shots): correct.mean(axis=0) for shots, correct in hits.items()}, given.tested.ids)
        metrics: dict[str, Interval | float] = {}
        for shots, correct in hits.items():
            of_images = correct.mean(axis=0), np.ones(correct.shape[1])
            value = float(correct.mean())
            resamples = resampled_ratios([{"": of_images}], {})[""]
            metrics[name_of(shots)] = join(value, resamples, correct.mean(axis=1).tolist())
            if given.reference is not None:
                metrics |= beside(name_of(shots), correct, of_known[shots])
        return EvalResult(
            task=self.kind,
            dataset=data.images[1].name,
            split="all",
            num_images=len(given.tested.labels),
            num_captions=0,
            metrics={**metrics, **given.sizes, "num_draws": float(self.num_draws), "draw_seed": float(self.seed)},
            notes=[*whole.notes, *small],
        )

    def _hits(self, given: Examples, watch: Watch) -> tuple[dict[int, Flags], dict[int, Flags]]:
        """By the number of shots (R, M), whether each test image got its class after each of R draws.

        And the same of images in distribution, of which there may be none.
        """
        (learned, labels, *_), (tested, right, *_), classes, reference = given
        known, known_right = (tested[:0], right[:0]) if reference is None else reference[:2]
        of_known = {shots: np.zeros((self.num_draws, len(known)), np.bool_) for shots in self.shots}
        num_classes = len(classes.class_names)
        hits = {shots: np.zeros((self.num_draws, len(right)), np.bool_) for shots in self.shots}
        for draw in range(self.num_draws):
            order = drawn(labels, max(self.shots), [self.seed, draw])
            for number, shots in enumerate(self.shots):
                rows = order[:, :shots].ravel()
                classify = fit_ridge(learned[rows], labels[rows], num_classes)
                hits[shots][draw] = first_and_alone(classify, tested, right, classes.candidates)
                of_known[shots][draw] = first_and_alone(classify, known, known_right, classes.candidates)
                watch.work("fitting shots", draw * len(self.shots) + number + 1, self.num_draws * len(self.shots))
        return hits, of_known

    def _too_few(self, whole: Examples, place: str) -> str:
        sizes = np.sort(np.bincount(whole.learned.labels))[::-1]
        most = int(sizes[1])  # so that two classes have them
        enough = [shots for shots in self.shots if shots <= most] or [most]
        return (
            f"{place}: fewer than two classes have {max(self.shots)} training images, or no test image is of them; "
            f"bring more, or --set shots={','.join(map(str, enough))}"
        )

    def title(self, result: EvalResult) -> str:
        draws = result.metrics["num_draws"]
        return (
            f"{self.heading} on {self.counts(result)} {among(result)}; mean of {draws:g} "
            f"draw{'' if draws == 1 else 's'}, percent [95 % interval]"
        )

    def rows(self, result: EvalResult) -> list[list[str]]:
        """A row for each number of shots, then what guessing and always giving one answer would score."""
        scores = {name: score for name, score in result.metrics.items() if "_shot" in name}
        rows = [
            [name.removeprefix("top1_accuracy_").replace("_shot", "").replace("_", " "), percent(score)]
            for name, score in scores.items()
        ]
        others = {"chance": "guessing", "commonest_class_accuracy": "always the commonest class"}
        return [*rows, *([label, percent(result.metrics[key])] for key, label in others.items())]


def name_of(shots: int) -> str:
    """The metric of so many shots."""
    return f"top1_accuracy_{shots}_shot"


def drawn(labels: Ids, shots: int, seed: Sequence[int]) -> Ids:
    """(C, S), the numbers of S examples of each class, which has at least as many; the first of them serve for less."""
    random = np.random.default_rng(seed)
    return np.stack([random.permutation(np.flatnonzero(labels == own))[:shots] for own in range(labels.max() + 1)])


def first_and_alone(classify: Ridge, features: Floats, right: Ids, candidates: Ids) -> Flags:
    """(M,), whether the right class of each image has the highest score of the candidates, by more than rounding."""
    right = np.searchsorted(candidates, right)
    hits = np.zeros(len(right), np.bool_)
    for start in range(0, len(right), _ROWS_A_PASS):
        part = slice(start, start + _ROWS_A_PASS)
        scores, own = classify(features[part])[:, candidates], right[part, None]
        score = np.take_along_axis(scores, own, axis=1)
        np.put_along_axis(scores, own, -np.inf, axis=1)
        hits[part] = score[:, 0] > scores.max(axis=1) + TIE
    return hits


def large_classes(given: Examples, shots: int) -> tuple[Examples, list[str]]:
    """What is left of the examples where each class has so many to learn from, and a note on the other classes."""
    names = given.classes.class_names
    counts = np.bincount(given.learned.labels, minlength=len(names))
    large = counts >= shots
    if large.all():
        return given, []
    number = np.where(large, np.cumsum(large) - 1, NO_LABEL)

    def kept(part: Part) -> Part:
        own = number[part.labels]
        there = own != NO_LABEL
        return Part(part.features[there], own[there], part.num_left_out, part.ids[there])

    small = [f"{name} ({count})" for name, count in zip(names, counts.tolist(), strict=True) if count < shots]
    shown = ", ".join(small[:5]) + (f" and {len(small) - 5:,} more" if len(small) > 5 else "")
    learned, tested = kept(given.learned), kept(given.tested)
    reference = None if given.reference is None else kept(given.reference)
    lost = len(given.tested.labels) - len(tested.labels)
    candidates = number[given.classes.candidates]
    left = tuple(name for name, own in zip(names, large, strict=True) if own)
    classes = replace(given.classes, class_names=left, candidates=candidates[candidates != NO_LABEL])
    note = (
        f"{len(small):,} class(es) with fewer than {shots} training images left out, and {lost:,} test images of them: "
        f"{shown}"
    )
    return Examples(learned, tested, classes, reference), [note]
