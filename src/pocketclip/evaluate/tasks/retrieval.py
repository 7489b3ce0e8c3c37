"""Image-text retrieval as the papers measure it.

Every caption is a query over all images, each of which stands in the gallery once. An image is found when any of its
captions is. Ties count against the model.
"""

from abc import abstractmethod
from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from pocketclip.data.source import Source
from pocketclip.embedder import JudgePairs
from pocketclip.errors import UserError
from pocketclip.evaluate.identities import Ids, image_identities
from pocketclip.evaluate.ranked import DIRECTIONS, PRECISIONS, Ranks
from pocketclip.evaluate.statistics import Floats, Units, bootstrap_ratios
from pocketclip.evaluate.task import EmbeddingTask
from pocketclip.evaluate.task_data import Answers
from pocketclip.features.encode import Embeddings
from pocketclip.records import EvalResult, Interval, percent

RANKS = (1, 5, 10)
RECALLS = tuple(f"{direction}_recall@{k}" for direction in DIRECTIONS for k in RANKS)
MEANS = {"mean_recall": RECALLS}
LABELS = {
    f"{direction}_{score}": f"{arrow} {label}"
    for direction, arrow in zip(DIRECTIONS, ("T→I", "I→T"), strict=True)
    for score, label in [*((f"recall@{k}", f"R@{k}") for k in RANKS), ("median_rank", "median rank")]
}


def point_metrics(*galleries: Ranks) -> dict[str, float]:
    """Recall at 1, 5 and 10 as fractions, and median and mean rank (1 for first), both directions, mean over galleries.

    Mean average precision and R-precision, too, where the ranks know of all right answers.
    """
    metrics: dict[str, float] = {}
    for direction in DIRECTIONS:
        ranks: list[npt.NDArray[np.int64]] = [getattr(gallery, direction) for gallery in galleries]
        metrics |= {f"{direction}_recall@{k}": float(np.mean([(own < k).mean() for own in ranks])) for k in RANKS}
        metrics[f"{direction}_median_rank"] = float(np.mean([np.median(own) + 1 for own in ranks]))
        metrics[f"{direction}_mean_rank"] = float(np.mean([own.mean() + 1 for own in ranks]))
        for name, called in PRECISIONS.items():
            if all(f"{direction}_{name}" in gallery.precisions for gallery in galleries):
                own = [gallery.precisions[f"{direction}_{name}"].mean() for gallery in galleries]
                metrics[f"{direction}_{called}"] = float(np.mean(own))
    return metrics


def retrieval_metrics(*galleries: Ranks) -> dict[str, Interval | float]:
    """`point_metrics` with 95 % intervals around all that are means, images resampled within their gallery."""
    return {**point_metrics(*galleries), **bootstrap_ratios([recall_units(ranks) for ranks in galleries], MEANS)}


def recall_units(ranks: Ranks) -> Units:
    """Of each recall, queries of each image that were answered within 1, 5 or 10, and queries; then the precisions."""
    num_images = len(ranks.image_to_text)
    captions = np.bincount(ranks.text_images, minlength=num_images).astype(np.float64)
    units: dict[str, tuple[Floats, Floats]] = {}
    for k in RANKS:
        hits = np.bincount(ranks.text_images, ranks.text_to_image < k, num_images).astype(np.float64)
        units[f"text_to_image_recall@{k}"] = hits, captions
    for k in RANKS:
        units[f"image_to_text_recall@{k}"] = (ranks.image_to_text < k).astype(np.float64), np.ones(num_images)
    for name, called in PRECISIONS.items():
        if (found := ranks.precisions.get(f"text_to_image_{name}")) is not None:
            units[f"text_to_image_{called}"] = _sums(ranks.text_images, found, num_images), captions
        if (found := ranks.precisions.get(f"image_to_text_{name}")) is not None:
            units[f"image_to_text_{called}"] = found, np.ones(num_images)
    return units


def _sums(owners: npt.NDArray[np.int64], values: Floats, num_owners: int) -> Floats:
    return np.bincount(owners, values, num_owners).astype(np.float64)


def mean_recall(metrics: Mapping[str, float]) -> float:
    """Mean of the six recalls, which papers also call average recall: the number to choose a model by."""
    return float(np.mean([value for name, value in metrics.items() if "_recall@" in name]))


class RankingTask(EmbeddingTask):
    """Captions and images that find each other, in one gallery or several."""

    needs = frozenset({"captions"})
    columns = ("direction", *(f"R@{k}" for k in RANKS), "median\nrank")
    unit = "images"
    meaning = (
        "R@5: a right answer is among the first five. Every caption is a query; an image is found when any of its "
        "captions is; ties count against the model."
    )
    openings = {
        "text_to_image_recall@1": "The right picture comes first for {} of 100 sentences",
        "image_to_text_recall@1": "A right sentence comes first for {} of 100 pictures",
    }
    means = MEANS
    scores = RECALLS
    labels = LABELS
    same_captions: Literal["own", "right"] = "own"
    """Whether of captions that several pictures have only their own picture is right, or every one that has it."""
    curves = ("recall", {f"{way}_recall@1": f"{way.replace('_', ' ')} R@1" for way in DIRECTIONS})

    def guessing(self, num_images: int) -> Mapping[str, float]:
        """Of the recalls from text to image: any image is as likely to come first."""
        return {f"text_to_image_recall@{k}": k / num_images for k in RANKS if k < num_images}

    def same_texts(self, embeddings: Embeddings) -> npt.NDArray[np.int64] | None:
        """Of `retrieval_ranks`."""
        return embeddings.caption_ids if self.same_captions == "right" else None

    @abstractmethod
    def ranks(self, embeddings: Embeddings) -> list[Ranks]:
        """Of each gallery, from the embeddings of images that all have a caption."""

    def gallery_of(self, embeddings: Embeddings) -> npt.NDArray[np.int64]:
        """(N,), which gallery each image stands in."""
        return np.zeros(len(embeddings.images), np.int64)

    def _gallery(self, embeddings: Embeddings, source: Source) -> tuple[Embeddings, list[str]]:
        """What is ranked, each picture once, and what a reader has to know of it."""
        if len(embeddings.texts) == 0:
            raise UserError(f"{source.name}: no readable picture has a caption; retrieval needs one for each.")
        from pocketclip.evaluate.gallery import gallery

        return gallery(embeddings, self.gallery_of(embeddings), same_captions_are_right=self.same_captions == "right")

    def result(
        self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None, *, split: str = "all"
    ) -> EvalResult:
        from pocketclip.evaluate.gallery import small_gallery

        kept, notes = self._gallery(embeddings, source)
        notes += [f"{len(kept.broken)} broken items left out"] if kept.broken else []
        metrics = retrieval_metrics(*self.ranks(kept))
        return EvalResult(
            task=self.kind,
            dataset=source.name,
            split=split,
            num_images=len(kept.images),
            num_captions=len(kept.texts),
            metrics=metrics,
            notes=[*self.notes(kept, notes), *small_gallery(len(kept.images), metrics)],
        )

    def notes(self, embeddings: Embeddings, left_out: list[str]) -> list[str]:
        """Of a record: here what was left out."""
        del embeddings
        return left_out

    def points(self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None) -> dict[str, float]:
        metrics = point_metrics(*self.ranks(self._gallery(embeddings, source)[0]))
        return {**metrics, "mean_recall": mean_recall(metrics)}

    def answers(self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None) -> Answers:
        """The rank of every query and the image of every caption; of several galleries also their sizes."""
        ranks = self.ranks(self._gallery(embeddings, source)[0])
        sizes = np.array([len(own.image_to_text) for own in ranks])
        firsts = np.cumsum(sizes) - sizes
        answers = {way: np.concatenate([getattr(own, way) for own in ranks]) for way in DIRECTIONS}
        for name in ranks[0].precisions:
            answers[name] = np.concatenate([own.precisions[name] for own in ranks])
        owners = [own.text_images + first for own, first in zip(ranks, firsts, strict=True)]
        answers["text_images"] = np.concatenate(owners)
        return answers if len(ranks) == 1 else {**answers, "galleries": sizes}

    def identities(self, embeddings: Embeddings, source: Source) -> Ids:
        kept = self._gallery(embeddings, source)[0]
        order = np.argsort(self.gallery_of(kept), kind="stable")  # as `answers` has them: one gallery after the other
        return image_identities(kept, source)[order]

    def units(self, answers: Answers) -> list[Units]:
        owners, image_ranks = answers["text_images"], answers["image_to_text"]
        ends = np.cumsum(answers.get("galleries", [len(image_ranks)])).tolist()
        galleries = []
        for first, end in pairwise([0, *ends]):
            own = (owners >= first) & (owners < end)
            precisions = {
                f"{way}_{name}": answers[f"{way}_{name}"][rows]
                for way, rows in zip(DIRECTIONS, (own, slice(first, end)), strict=True)
                for name in PRECISIONS
                if f"{way}_{name}" in answers  # those of an earlier version have none
            }
            ranks = Ranks(answers["text_to_image"][own], image_ranks[first:end], owners[own] - first, precisions)
            galleries.append(recall_units(ranks))
        return galleries

    def rows(self, result: EvalResult) -> list[list[str]]:
        rows = []
        for direction in DIRECTIONS:
            cells = [percent(result.metrics[f"{direction}_recall@{k}"]) for k in RANKS]
            rank = f"{result.metrics[f'{direction}_median_rank']:g}"
            rows.append([direction.replace("_to_", " → "), *cells, rank])
        return rows

    def remarks(self, result: EvalResult) -> list[str]:
        mean = result.metrics.get("mean_recall")  # records of earlier versions have none
        lines = [f"mean of the six recalls {mean.percent()}"] if isinstance(mean, Interval) else []
        for direction in DIRECTIONS:
            if (rank := result.metrics.get(f"{direction}_mean_rank")) is not None:
                scores = [percent(result.metrics[f"{direction}_{called}"]) for called in PRECISIONS.values()]
                way = direction.replace("_to_", " → ")
                lines.append(
                    f"{way}: mean average precision {scores[0]}, R-precision {scores[1]}, mean rank {rank:.1f}"
                )
        return [*lines, *result.notes]


class Retrieval(RankingTask):
    """Recall at 1, 5 and 10 in both directions over a captioned source."""

    kind: Literal["retrieval"] = "retrieval"
    heading = "Retrieval"

    def ranks(self, embeddings: Embeddings) -> list[Ranks]:
        same = self.same_texts(embeddings)
        from pocketclip.evaluate.ranks import retrieval_ranks

        return [retrieval_ranks(embeddings.images, embeddings.texts, embeddings.text_images, same)]

    def chance(self, result: EvalResult) -> tuple[str, float]:
        return "R@1", 1 / result.num_images
