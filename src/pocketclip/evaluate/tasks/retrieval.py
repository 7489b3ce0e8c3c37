"""Image-text retrieval as the papers measure it.

Every caption is a query over all images, each of which stands in the gallery once. An image is found when any of its
captions is. Ties count against the model. A model with a bank (`Hubs`) has a second set of scores beside the first, of
ranks by corrected scores: the same names with `corrected_` before them.
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
from pocketclip.evaluate.ranked import DIRECTIONS, PRECISIONS, Ranks, Taken
from pocketclip.evaluate.recalls import (
    CORRECTED,
    GAIN,
    MEANS,
    RANKS,
    RECALLS,
    as_corrected,
    joined,
    mean_recall,
    part,
    point_metrics,
    recall_units,
    retrieval_metrics,
)
from pocketclip.evaluate.statistics import Units
from pocketclip.evaluate.task import EmbeddingTask
from pocketclip.evaluate.task_data import Answers
from pocketclip.features.encode import Embeddings
from pocketclip.records import EvalResult, Interval, percent

_PLAIN = {
    f"{direction}_{score}": f"{arrow} {label}"
    for direction, arrow in zip(DIRECTIONS, ("T→I", "I→T"), strict=True)
    for score, label in [*((f"recall@{k}", f"R@{k}") for k in RANKS), ("median_rank", "median rank")]
}
LABELS = {**_PLAIN, **{f"{CORRECTED}{name}": f"{label} corrected" for name, label in _PLAIN.items()}}


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
    def ranks(self, embeddings: Embeddings, taken: Taken | None = None) -> list[Ranks]:
        """Of each gallery, from the embeddings of images that all have a caption; by scores less what is `taken`."""

    def corrected_ranks(self, embeddings: Embeddings) -> list[Ranks]:
        """The same by scores that the model's bank corrects; none of a model that has no bank."""
        if (hubs := embeddings.hubs) is None:
            return []
        return self.ranks(embeddings, (hubs.of_images(embeddings.images), hubs.of_texts(embeddings.texts)))

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
        metrics = retrieval_metrics(*self.ranks(kept), corrected=self.corrected_ranks(kept))
        notes += _on_the_bank(kept)
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
        kept = self._gallery(embeddings, source)[0]
        metrics = point_metrics(*self.ranks(kept))
        metrics["mean_recall"] = mean_recall(metrics)
        if corrected := self.corrected_ranks(kept):
            others = point_metrics(*corrected)
            metrics |= as_corrected({**others, "mean_recall": mean_recall(others)})
        return metrics

    def answers(self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None) -> Answers:
        """The rank of every query and the image of every caption; of several galleries also their sizes.

        Where the model has a bank, the corrected ranks, too.
        """
        kept = self._gallery(embeddings, source)[0]
        ranks, corrected = self.ranks(kept), self.corrected_ranks(kept)
        sizes = np.array([len(own.image_to_text) for own in ranks])
        firsts = np.cumsum(sizes) - sizes
        answers = joined(ranks) | (as_corrected(joined(corrected)) if corrected else {})
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
        corrected = {name.removeprefix(CORRECTED): own for name, own in answers.items() if name.startswith(CORRECTED)}
        galleries: list[Units] = []
        for first, end in pairwise([0, *ends]):
            units = recall_units(part(answers, owners, first, end))
            others = recall_units(part(corrected, owners, first, end)) if corrected else {}
            galleries.append({**units, **as_corrected(others)})
        return galleries

    def rows(self, result: EvalResult) -> list[list[str]]:
        rows = []
        for prefix, about in (("", ""), (CORRECTED, ", corrected")):
            for direction in (f"{prefix}{way}" for way in DIRECTIONS):
                if f"{direction}_recall@1" in result.metrics:
                    cells = [percent(result.metrics[f"{direction}_recall@{k}"]) for k in RANKS]
                    rank = f"{result.metrics[f'{direction}_median_rank']:g}"
                    rows.append([direction.removeprefix(prefix).replace("_to_", " → ") + about, *cells, rank])
        return rows

    def remarks(self, result: EvalResult) -> list[str]:
        mean = result.metrics.get("mean_recall")  # records of earlier versions have none
        lines = [f"mean of the six recalls {mean.percent()}"] if isinstance(mean, Interval) else []
        if isinstance(gain := result.metrics.get(GAIN), Interval):
            points = f"{100 * gain.value:+z.1f} points [{100 * gain.low:+z.1f}, {100 * gain.high:+z.1f}]"
            shown = percent(result.metrics["corrected_mean_recall"])
            lines.append(f"with hubs corrected {shown}, {points} on the same images")
        for direction in DIRECTIONS:
            if (rank := result.metrics.get(f"{direction}_mean_rank")) is not None:
                scores = [percent(result.metrics[f"{direction}_{called}"]) for called in PRECISIONS.values()]
                way = direction.replace("_to_", " → ")
                lines.append(
                    f"{way}: mean average precision {scores[0]}, R-precision {scores[1]}, mean rank {rank:.1f}"
                )
        return [*lines, *result.notes]


def _on_the_bank(embeddings: Embeddings) -> list[str]:
    """What corrected scores rest on, and whether the bank knows what they were measured on."""
    if (hubs := embeddings.hubs) is None:
        return []
    known = 0 if embeddings.pictures is None else int(np.isin(embeddings.pictures, hubs.pictures).sum())
    notes = [f"corrected: less the nearness to a bank ({hubs.told})"]
    if known:
        notes.append(f"{known:,} of {len(embeddings.images):,} pictures are in that bank: corrected scores flatter")
    return notes


class Retrieval(RankingTask):
    """Recall at 1, 5 and 10 in both directions over a captioned source."""

    kind: Literal["retrieval"] = "retrieval"
    heading = "Retrieval"

    def ranks(self, embeddings: Embeddings, taken: Taken | None = None) -> list[Ranks]:
        same = self.same_texts(embeddings)
        from pocketclip.evaluate.ranks import retrieval_ranks

        return [retrieval_ranks(embeddings.images, embeddings.texts, embeddings.text_images, same, taken)]

    def chance(self, result: EvalResult) -> tuple[str, float]:
        return "R@1", 1 / result.num_images
