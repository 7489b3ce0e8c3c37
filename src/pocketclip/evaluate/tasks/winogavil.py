"""WinoGAViL: which of several pictures a word goes with, as many as there are right ones."""

from math import comb
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pocketclip.data.choices import Associations
from pocketclip.data.keys import caption_id
from pocketclip.data.sources.winogavil import AssociationFiles
from pocketclip.embedder import Embedder, Floats
from pocketclip.errors import UserError
from pocketclip.evaluate.choice import Flags, Numbers, similarities
from pocketclip.evaluate.classification import check_finite
from pocketclip.evaluate.encoded import EMBEDDING, MakeEncoder, whole
from pocketclip.evaluate.identities import Ids, joined_ids, pictures_of
from pocketclip.evaluate.prompts import SLOT, class_embeddings
from pocketclip.evaluate.ranked import TIE
from pocketclip.evaluate.statistics import Units, bootstrap_ratios
from pocketclip.evaluate.task import Task
from pocketclip.evaluate.task_data import Answers, TaskData
from pocketclip.features.encode import Embeddings
from pocketclip.records import EvalResult, Interval
from pocketclip.stages.watch import SILENT, Watch

FEW, MANY = 6, 10
"""Candidates, at most and at least, of the two kinds that are scored apart."""
VOWELS = tuple("aeiou")


class Winogavil(Task):
    """Which of several pictures a word goes with: the Jaccard index, averaged over words."""

    kind: Literal["winogavil"] = "winogavil"
    needs = frozenset({"associations"})
    heading = "WinoGAViL"
    counted = "images / associations"
    unit = "sets of pictures"
    meaning = (
        "Of a word's pictures the nearest are chosen, as many as go with it. Jaccard: chosen ones that are right over "
        "all that are chosen or right; ties count against the model."
    )
    openings = {"jaccard": "Chosen and right pictures of a word have {} of 100 in common"}

    def encoders(self, model: Embedder) -> dict[str, MakeEncoder]:
        del model
        return {EMBEDDING: whole}

    def run(self, model: Embedder, data: TaskData, watch: Watch = SILENT) -> EvalResult:
        source = data.source
        if not isinstance(source, AssociationFiles) or source.asked is None:
            raise UserError(f"{source.name}: has no words with their pictures; winogavil needs winogavil:FILE,IMAGES.")
        asked = source.asked
        cues = class_embeddings(model, [in_words(cue) for cue in asked.cues], (SLOT,), watch)
        embeddings = data.image_embeddings(model, watch)
        check_finite(embeddings.images, model, source.name)
        answers = association_answers(asked, cues, embeddings, len(source))
        kept = answers["associations"]
        if not len(kept):
            raise UserError(f"{source.name}: of no association could every picture be read.")
        data.keep(answers, _identities(asked, answers, pictures_of(embeddings, source), embeddings.indices))
        metrics: dict[str, Interval | float] = {**bootstrap_ratios(self.units(answers))}
        guesses = np.array([guessed(size, count) for size, count in zip(*_counts(asked, kept), strict=True)])
        lost = len(asked.cues) - len(kept)
        return EvalResult(
            task=self.kind,
            dataset=source.name,
            split="all",
            num_images=len(np.unique(asked.samples[np.isin(_owners(asked), kept)])),
            num_captions=len(kept),
            metrics={**metrics, "chance_jaccard": float(guesses.mean())},
            notes=[f"{lost:,} associations left out, of which a picture cannot be read"] if lost else [],
        )

    def units(self, answers: Answers) -> list[Units]:
        """The mean over all words, over those of few candidates and over those of many, by sets of candidates."""
        sizes, sets, jaccard = answers["sizes"], answers["sets"], answers["jaccard"].astype(np.float64)
        kinds = {"jaccard": sizes > 0, "jaccard_5_6": sizes <= FEW, "jaccard_10_12": sizes >= MANY}
        return [
            {
                name: (_sums(sets, own * jaccard), _sums(sets, own.astype(np.float64)))
                for name, own in kinds.items()
                if own.any()
            }
        ]

    def sizes(self, result: EvalResult) -> dict[str, int]:
        return {"images": result.num_images, "associations": result.num_captions}

    def chance(self, result: EvalResult) -> tuple[str, float] | None:
        chance = result.metrics.get("chance_jaccard")
        return ("Jaccard", chance) if isinstance(chance, float) else None


def in_words(cue: str) -> str:
    """A cue as DataComp asks for it: `A wolf`, `An owl`."""
    return f"{'An' if cue.lower().startswith(VOWELS) else 'A'} {cue.lower()}"


def jaccard_index(scores: Floats, right: Flags) -> float:
    """Of (n,) candidates the best are chosen, as many as are `right`: what both have in common over all of either.

    A wrong one that is as near as a right one, within 1e-6, is before it.
    """
    own, others = np.sort(scores[right])[::-1], scores[~right]
    before = np.arange(len(own)) + np.count_nonzero(others[None, :] >= own[:, None] - TIE, axis=1)
    common = np.count_nonzero(before < len(own))
    return common / (2 * len(own) - common)


def guessed(size: int, count: int) -> float:
    """What the index is on average where `count` of `size` candidates are right and as many are chosen blindly."""
    ways = {common: comb(count, common) * comb(size - count, count - common) for common in range(count + 1)}
    return sum(number * common / (2 * count - common) for common, number in ways.items()) / comb(size, count)


def association_answers(
    asked: Associations, cues: Floats, embeddings: Embeddings, num_samples: int
) -> dict[str, npt.NDArray[Any]]:
    """Of every association whose pictures could all be read: its number, index, size, and set of candidates."""
    row_of = np.full(num_samples, -1)
    row_of[embeddings.indices] = np.arange(len(embeddings.indices))
    rows, owners = row_of[asked.samples], _owners(asked)
    complete = np.bincount(owners, rows < 0, minlength=len(asked.cues)) == 0
    there = complete[owners]
    scores = similarities(embeddings.images, cues, rows[there], owners[there])
    kept = np.flatnonzero(complete)
    ends = np.cumsum(asked.sizes[kept])[:-1]
    parts = zip(np.split(scores, ends), np.split(asked.right[there], ends), strict=True)
    candidates = [tuple(own.tolist()) for own in np.split(asked.samples[there], ends)]
    number_of = {own: number for number, own in enumerate(dict.fromkeys(candidates))}
    return {
        "associations": kept,
        "jaccard": np.array([jaccard_index(own, right) for own, right in parts] if len(kept) else [], np.float64),
        "sizes": asked.sizes[kept],
        "sets": np.array([number_of[own] for own in candidates] if len(kept) else [], np.int64),
    }


def _sums(sets: Numbers, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.bincount(sets, values).astype(np.float64)


def _owners(asked: Associations) -> Numbers:
    """(M,) the association that each candidate stands in."""
    return np.repeat(np.arange(len(asked.cues)), asked.sizes)


def _counts(asked: Associations, kept: Numbers) -> tuple[list[int], list[int]]:
    """How many candidates, and right ones, some associations have."""
    right = np.bincount(_owners(asked), asked.right).astype(np.int64)
    return asked.sizes[kept].tolist(), right[kept].tolist()


def _identities(asked: Associations, answers: Answers, pictures: Ids, indices: Numbers) -> Ids:
    """(S,) who each set of candidates is, by its pictures and the cues that it is asked about."""
    picture_of = dict(zip(indices.tolist(), pictures.tolist(), strict=True))
    starts = np.cumsum(asked.sizes) - asked.sizes
    parts: dict[int, list[int]] = {}
    for number, own in zip(answers["associations"].tolist(), answers["sets"].tolist(), strict=True):
        samples = asked.samples[starts[number] : starts[number] + asked.sizes[number]].tolist()
        parts.setdefault(own, [picture_of[sample] for sample in samples]).append(caption_id(asked.cues[number]))
    return joined_ids([parts[own] for own in sorted(parts)])
