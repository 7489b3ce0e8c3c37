"""The 1K protocol of COCO: the test images in folds of a thousand, each a gallery of its own, scores averaged."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from pocketclip.data.source import Source
from pocketclip.embedder import JudgePairs
from pocketclip.errors import UserError
from pocketclip.evaluate.ranked import FOLD, Ranks, Taken
from pocketclip.evaluate.tasks.retrieval import RankingTask
from pocketclip.features.encode import Embeddings
from pocketclip.records import EvalResult


class Folds(RankingTask):
    """The same over folds of 1,000 images, averaged: the 1K protocol of COCO."""

    kind: Literal["retrieval_1k_folds"] = "retrieval_1k_folds"
    heading = "Retrieval in folds of 1,000"

    def check(self, source: Source, judge: JudgePairs | None) -> None:
        if len(source) == 0 or len(source) % FOLD:
            raise UserError(
                f"{source.name}: {len(source):,} images are no whole folds of {FOLD:,}; the published protocol takes "
                "the 5,000 of Karpathy's COCO test split: karpathy:dataset_coco.json,IMAGES_DIR,test."
            )

    def gallery_of(self, embeddings: Embeddings) -> npt.NDArray[np.int64]:
        folds: npt.NDArray[np.int64] = embeddings.indices // FOLD
        return folds

    def ranks(self, embeddings: Embeddings, taken: Taken | None = None) -> list[Ranks]:
        from pocketclip.evaluate.ranks import fold_ranks

        same = self.same_texts(embeddings)
        return fold_ranks(embeddings.images, embeddings.texts, embeddings.text_images, embeddings.indices, same, taken)

    def notes(self, embeddings: Embeddings, left_out: list[str]) -> list[str]:
        """How many folds, and whether images have more captions than the five that COCO's protocols count."""
        count = len(np.unique(embeddings.indices // FOLD))
        num_more = int((np.bincount(embeddings.text_images) > 5).sum())
        more = f"{num_more} images have more than 5 captions; papers take the first five: max_captions=5"
        folds = "one fold" if count == 1 else f"mean of {count} folds"
        return [f"{folds} of {FOLD:,} images", *left_out, *([more] if num_more else [])]

    def guessing(self, num_images: int) -> Mapping[str, float]:
        return super().guessing(min(num_images, FOLD))

    def chance(self, result: EvalResult) -> tuple[str, float]:
        return "R@1", 1 / FOLD
