"""Finding a person by a description, as the papers on text-based person search measure it.

Every caption is a query over all pictures, and every picture of the same identity is right. Ties count against the
model.
"""

from collections.abc import Mapping
from math import comb
from typing import Literal

import numpy as np

from pocketclip.data.identities import NO_IDENTITY, Identities, read_identities
from pocketclip.data.ids import name_number
from pocketclip.data.source import Source, readable_captions
from pocketclip.embedder import JudgePairs
from pocketclip.errors import UserError
from pocketclip.evaluate.identities import Ids
from pocketclip.evaluate.ranked import DIRECTIONS, IdentityRanks
from pocketclip.evaluate.ranked import PERSON_PRECISIONS as PRECISIONS
from pocketclip.evaluate.recalls import RANKS, RECALLS
from pocketclip.evaluate.statistics import Units, bootstrap_ratios
from pocketclip.evaluate.task import EmbeddingTask
from pocketclip.evaluate.task_data import Answers
from pocketclip.evaluate.tasks.retrieval import LABELS
from pocketclip.features.encode import Embeddings
from pocketclip.records import EvalResult, percent

SHORT = {"mean_average_precision": "mAP", "mean_inverse_negative_penalty": "mINP"}
SCORES = tuple(f"recall@{k}" for k in RANKS) + tuple(PRECISIONS.values())
MEANS = {"mean_recall": RECALLS}
CHANCE = "text_to_image_recall@1_by_chance"


class PersonRetrieval(EmbeddingTask):
    """Recall at 1, 5 and 10, mAP and mINP by identity in both directions, over a source that says who is who."""

    kind: Literal["person_retrieval"] = "person_retrieval"
    needs = frozenset({"captions", "identities"})
    heading = "Person retrieval"
    columns = ("direction", *(f"R@{k}" for k in RANKS), *SHORT.values())
    counted = "images / captions / identities"
    unit = "identities"
    meaning = (
        "R@5: a picture of the described person is among the first five. Every caption is a query over all pictures, "
        "and any picture of the same identity is right; ties count against the model."
    )
    openings = {
        "text_to_image_recall@1": "A picture of the described person comes first for {} of 100 descriptions",
        "image_to_text_recall@1": "A description of the right person comes first for {} of 100 pictures",
    }
    means = MEANS
    scores = tuple(f"text_to_image_{score}" for score in SCORES)
    labels = {
        **LABELS,
        **{
            f"{way}_{score}": f"{arrow} {short}"
            for way, arrow in zip(DIRECTIONS, ("T→I", "I→T"), strict=True)
            for score, short in SHORT.items()
        },
    }
    curves = ("recall", {f"{way}_recall@1": f"{way.replace('_', ' ')} R@1" for way in DIRECTIONS})

    def check(self, source: Source, judge: JudgePairs | None) -> None:
        del judge
        read_identities(source)

    def guessing_on(self, source: Source, num_images: int) -> Mapping[str, float]:
        """Of the recalls from text to image: who has many pictures is found easily."""
        del num_images
        return by_chance(read_identities(source), list(map(len, readable_captions(source))))

    def ranks(self, embeddings: Embeddings, source: Source) -> IdentityRanks:
        """Of all pictures whose identity is told, and the texts about them."""
        from pocketclip.evaluate.identity_ranks import identity_ranks

        people = read_identities(source).values[embeddings.indices]
        known = np.flatnonzero(people != NO_IDENTITY)
        texts = np.flatnonzero(people[embeddings.text_images] != NO_IDENTITY)
        if not len(texts):
            raise UserError(f"{source.name}: no readable picture with an identity has a caption; there is no query.")
        return identity_ranks(
            embeddings.images[known], embeddings.texts[texts], people[known], people[embeddings.text_images[texts]]
        )

    def answers(self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None) -> Answers:
        """The rank and the shares of every query, and whom it is about, by their places among `identities`."""
        ranks = self.ranks(embeddings, source)
        people = np.unique(ranks.text_people)  # of each picture that is asked about there is a text
        numbers = {way: np.searchsorted(people, own) for way, own in _people(ranks).items()}
        sides = {way: getattr(ranks, way) for way in DIRECTIONS}
        return {**sides, **ranks.shares, **{f"{way}_people": own for way, own in numbers.items()}}

    def identities(self, embeddings: Embeddings, source: Source) -> Ids:
        """(U,) of the people that somebody asks about, by their names."""
        names = read_identities(source).names
        people = np.unique(self.ranks(embeddings, source).text_people).tolist()
        return np.array([name_number(names[number]) for number in people], np.int64)

    def units(self, answers: Answers) -> list[Units]:
        units = {}
        for way in DIRECTIONS:
            people, ranks = answers[f"{way}_people"], answers[way]
            size = int(answers["text_to_image_people"].max()) + 1
            queries = np.bincount(people, minlength=size).astype(np.float64)
            shares = {f"recall@{k}": ranks < k for k in RANKS}
            shares |= {called: answers[f"{way}_{name}"] for name, called in PRECISIONS.items()}
            for score, values in shares.items():
                units[f"{way}_{score}"] = np.bincount(people, values, size).astype(np.float64), queries
        return [units]

    def result(
        self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None, *, split: str = "all"
    ) -> EvalResult:
        answers, found = self.answers(embeddings, source), read_identities(source)
        people = found.values[embeddings.indices]
        nobody = int((people == NO_IDENTITY).sum())
        notes = [f"{nobody:,} images without an identity left out"] if nobody else []
        notes += [f"{len(embeddings.broken)} broken items left out"] if embeddings.broken else []
        shown = Identities(people[people != NO_IDENTITY], found.names)
        captions = np.bincount(embeddings.text_images, minlength=len(people))[people != NO_IDENTITY]
        gallery = int((shown.num_images > 0).sum())
        return EvalResult(
            task=self.kind,
            dataset=source.name,
            split=split,
            num_images=len(shown.values),
            num_captions=len(answers["text_to_image"]),
            metrics={
                **bootstrap_ratios(self.units(answers), self.means),
                CHANCE: by_chance(shown, captions.tolist())["text_to_image_recall@1"],
                "num_identities": float(gallery),
            },
            notes=notes,
        )

    def sizes(self, result: EvalResult) -> dict[str, int]:
        found = result.metrics.get("num_identities")
        return {**super().sizes(result), **({"identities": int(found)} if isinstance(found, float) else {})}

    def rows(self, result: EvalResult) -> list[list[str]]:
        return [
            [way.replace("_to_", " → "), *(percent(result.metrics[f"{way}_{score}"]) for score in SCORES)]
            for way in DIRECTIONS
        ]

    def remarks(self, result: EvalResult) -> list[str]:
        chance = self.chance(result)
        return [*([] if chance is None else [f"text → image R@1 by chance {percent(chance[1])}"]), *result.notes]

    def chance(self, result: EvalResult) -> tuple[str, float] | None:
        found = result.metrics.get(CHANCE)
        return ("R@1", found) if isinstance(found, float) else None


def by_chance(people: Identities, captions: list[int]) -> dict[str, float]:
    """What drawing pictures at random finds within the first 1, 5 and 10 for the captions of each picture."""
    own, total = people.num_images, len(people.values)
    known = people.values != NO_IDENTITY
    right = own[people.values[known]]
    queries = np.asarray(captions, np.float64)[known]
    found = {}
    for k in RANKS:
        if k < total and queries.sum():
            missed = [1 - comb(total - int(count), k) / comb(total, k) for count in right]
            found[f"text_to_image_recall@{k}"] = float(np.average(missed, weights=queries))
    return found


def _people(ranks: IdentityRanks) -> dict[str, Ids]:
    return {"text_to_image": ranks.text_people, "image_to_text": ranks.image_people}
