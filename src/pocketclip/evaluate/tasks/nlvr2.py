"""Accuracy and consistency over pairs of images with a sentence, as the official script of NLVR2 counts them."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from pocketclip.data.choices import Pairs
from pocketclip.data.keys import caption_id
from pocketclip.data.source import Source
from pocketclip.embedder import Floats, JudgePairs
from pocketclip.errors import UserError
from pocketclip.evaluate.identities import Ids, joined_ids, pictures_of
from pocketclip.evaluate.statistics import Units, bootstrap_ratios, ratios
from pocketclip.evaluate.task import EmbeddingTask
from pocketclip.evaluate.task_data import Answers
from pocketclip.features.encode import Embeddings
from pocketclip.records import EvalResult, Interval

Numbers = npt.NDArray[np.int64]
ROWS_A_PASS = 4096


def complete_rows(embeddings: Embeddings) -> Numbers:
    """The left image's row of each example of which both images could be read; the right one's is the next."""
    examples, sides = np.divmod(embeddings.indices, 2)
    return np.flatnonzero((examples[:-1] == examples[1:]) & (sides[:-1] == 0))


def judge_examples(judge: JudgePairs, embeddings: Embeddings) -> tuple[Numbers, Floats]:
    """The examples of a whole source of which both images could be read, and the logit of `true` for each."""
    examples, complete = embeddings.indices // 2, complete_rows(embeddings)
    rows = np.stack([complete, complete + 1], axis=1).reshape(-1)
    text_of = np.full(len(examples), -1)
    text_of[embeddings.text_images] = np.arange(len(embeddings.texts))
    logits = [
        judge(embeddings.images[own], embeddings.texts[text_of[own]])
        for own in np.split(rows, range(ROWS_A_PASS, len(rows), ROWS_A_PASS))
        if len(own)
    ]
    return examples[complete], np.concatenate(logits) if logits else np.zeros(0, np.float32)


def sentence_units(correct: npt.NDArray[np.bool_], sentences: Numbers) -> Units:
    """Accuracy, and the share of sentences of which every example is right, sentence by sentence.

    Of P examples, (P,) were judged rightly; those with equal (P,) `sentences` are alike and succeed and fail together.
    """
    _, groups = np.unique(sentences, return_inverse=True)
    hits, counts = np.bincount(groups, weights=correct), np.bincount(groups).astype(np.float64)
    return {"accuracy": (hits, counts), "consistency": ((hits == counts).astype(np.float64), np.ones(len(hits)))}


def pair_metrics(correct: npt.NDArray[np.bool_], sentences: Numbers) -> dict[str, Interval | float]:
    """Accuracy and consistency with 95 % intervals from resampling sentences, and on how many."""
    units = sentence_units(correct, sentences)
    counts = {"num_examples": float(len(correct)), "num_sentences": float(len(units["accuracy"][0]))}
    return {**bootstrap_ratios([units]), **counts}


class Nlvr2(EmbeddingTask):
    """Accuracy and consistency of true and false over pairs of images with a sentence."""

    kind: Literal["nlvr2"] = "nlvr2"
    needs = frozenset({"pairs"})
    heading = "nlvr2"
    columns = ("score", "nlvr2")
    counted = "examples"
    unit = "sentences"
    meaning = (
        "An example is two images and a sentence, true or false; a sentence is consistent where all of its examples "
        "are judged rightly."
    )
    openings = {"accuracy": "{} of 100 sentences about two pictures are judged rightly"}
    scores = ("accuracy", "consistency")
    curves = ("accuracy", {"accuracy": "accuracy", "consistency": "consistency"})

    def check(self, source: Source, judge: JudgePairs | None) -> None:
        if source.pairs is None:
            raise UserError(
                f"{source.name}: has single images; judging pairs needs nlvr2:FILE.json,IMAGES_DIR or "
                "scene_pairs:COUNT."
            )
        if judge is None:
            raise UserError(
                "The model has no pair head, so it judges no pairs; train one with objective {kind: pairs} and "
                "model.pair_head, as the recipe s_smke/nlvr2 does."
            )

    def result(
        self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None, *, split: str = "all"
    ) -> EvalResult:
        answers = self.answers(embeddings, source, judge)
        num_examples = len(answers["correct"])
        missing = len(source) // 2 - num_examples
        return EvalResult(
            task=self.kind,
            dataset=source.name,
            split=split,
            num_images=2 * num_examples,
            num_captions=num_examples,
            metrics=pair_metrics(answers["correct"], answers["sentences"]),
            notes=[f"{missing} examples left out, of which an image cannot be read"] if missing else [],
        )

    def points(self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None) -> dict[str, float]:
        """Accuracy, consistency and the loss: cached features keep no pairs, and so give no objective its loss."""
        import torch
        from torch.nn import functional as F

        pairs, examples, logits = self._judged(embeddings, source, judge)
        labels = pairs.labels[examples]
        loss = F.binary_cross_entropy_with_logits(torch.from_numpy(logits), torch.from_numpy(labels.astype(np.float32)))
        scores = ratios([sentence_units((logits > 0) == labels, pairs.sentences[examples])], {})
        return {**scores, "val_loss": float(loss)}

    def answers(self, embeddings: Embeddings, source: Source, judge: JudgePairs | None = None) -> Answers:
        pairs, examples, logits = self._judged(embeddings, source, judge)
        return {"correct": (logits > 0) == pairs.labels[examples], "sentences": pairs.sentences[examples]}

    def _judged(
        self, embeddings: Embeddings, source: Source, judge: JudgePairs | None
    ) -> tuple[Pairs, Numbers, Floats]:
        self.check(source, judge)
        assert source.pairs is not None
        assert judge is not None
        examples, logits = judge_examples(judge, embeddings)
        if not len(examples):
            raise UserError(f"{source.name}: of no example could both images be read.")
        return source.pairs, examples, logits

    def identities(self, embeddings: Embeddings, source: Source) -> Ids:
        """Of each sentence, by itself and the pictures of its examples."""
        assert source.pairs is not None
        rows, pictures = complete_rows(embeddings), pictures_of(embeddings, source)
        examples = embeddings.indices[rows] // 2
        sentences = source.pairs.sentences[examples]
        shown: dict[int, list[int]] = {}
        for row, example, sentence in zip(rows.tolist(), examples.tolist(), sentences.tolist(), strict=True):
            texts = [caption_id(text) for text in source.captions(2 * example)] if sentence not in shown else []
            shown.setdefault(sentence, texts).extend(pictures[row : row + 2].tolist())
        return joined_ids([shown[sentence] for sentence in sorted(shown)])  # as `sentence_units` has them

    def units(self, answers: Answers) -> list[Units]:
        return [sentence_units(answers["correct"].astype(np.bool_), answers["sentences"])]

    def sizes(self, result: EvalResult) -> dict[str, int]:
        return {"examples": result.num_captions}

    def guessing(self, num_images: int) -> Mapping[str, float]:
        return {"accuracy": 0.5}

    def chance(self, result: EvalResult) -> tuple[str, float]:
        """Half of the sentences are true."""
        return "accuracy", 0.5
