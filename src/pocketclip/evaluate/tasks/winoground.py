"""Winoground: two pictures and two captions of the same words, matched both ways."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from pocketclip.data.source import Source
from pocketclip.embedder import Floats, JudgePairs
from pocketclip.errors import UserError
from pocketclip.evaluate.choice import ChoiceTask, Numbers, rows_of, similarities, texts_in_order
from pocketclip.evaluate.identities import Ids
from pocketclip.evaluate.ranked import TIE
from pocketclip.evaluate.statistics import Units
from pocketclip.evaluate.task_data import Answers
from pocketclip.features.encode import Embeddings
from pocketclip.records import EvalResult

CHANCES = {"text_score": 1 / 4, "image_score": 1 / 4, "group_score": 1 / 6}


class Winoground(ChoiceTask):
    """Whether two pictures and their two captions find each other: text, image and group score."""

    kind: Literal["winoground"] = "winoground"
    heading = "Winoground"
    unit = "examples"
    meaning = (
        "An example is two pictures with a caption each. Text: either picture is nearer to its own caption than to the "
        "other; image: either caption is nearer to its own picture; group: both. A tie is wrong."
    )
    openings = {"group_score": "Two pictures and their two sentences are matched for {} of 100"}
    scores = tuple(CHANCES)
    curves = ("score", {"text_score": "text", "image_score": "image", "group_score": "group"})

    def check(self, source: Source, judge: JudgePairs | None) -> None:
        super().check(source, judge)
        if source.choices is not None and not source.choices.twins:
            raise UserError(
                f"{source.name}: its pictures are single; winoground needs pairs of pictures that share two captions: "
                "winoground:FILE,IMAGES or scenes:COUNT,twinned=true,texts=choices. For single ones: --task sugarcrepe."
            )

    def answers(self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None) -> Answers:
        """Of every example of which both pictures could be read: the numbers of its halves, and what was right."""
        super().answers(embeddings, source, judge)  # refuses what cannot be asked
        halves, images, firsts = rows_of(self.choices(source), embeddings, len(source))
        complete = np.flatnonzero((halves[:-1] % 2 == 0) & (halves[:-1] + 1 == halves[1:]))
        if not len(complete):
            raise UserError(f"{source.name}: of no example could both pictures be read.")
        texts = texts_in_order(embeddings)
        one, other = complete, complete + 1

        def near(image: Numbers, caption: Numbers) -> Floats:
            return similarities(embeddings.images, texts, images[image], firsts[caption])

        own, rivals = (near(one, one), near(other, other)), (near(one, other), near(other, one))
        text = (own[0] > rivals[0] + TIE) & (own[1] > rivals[1] + TIE)
        image = (own[0] > rivals[1] + TIE) & (own[1] > rivals[0] + TIE)
        examples = np.stack([halves[one], halves[other]], axis=1).reshape(-1)
        return {"examples": examples, "text": text, "image": image, "group": text & image}

    def identities(self, embeddings: Embeddings, source: Source) -> Ids:
        halves = self.answers(embeddings, source)["examples"]
        return self.grouped_ids(embeddings, source, halves, np.repeat(np.arange(len(halves) // 2), 2))

    def units(self, answers: Answers) -> list[Units]:
        names = {name: answers[name.removesuffix("_score")].astype(np.float64) for name in CHANCES}
        return [{name: (right, np.ones(len(right))) for name, right in names.items()}]

    def num_examples(self, asked: Numbers) -> int:
        return len(asked) // 2

    def chances(self, sizes: Numbers) -> dict[str, float]:
        return {}

    def guessing(self, num_images: int) -> Mapping[str, float]:
        return CHANCES

    def chance(self, result: EvalResult) -> tuple[str, float]:
        return "group score", CHANCES["group_score"]
