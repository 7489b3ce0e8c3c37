"""Accuracy and consistency over pairs of images with a sentence, as the official script of NLVR2 counts them."""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from pocketclip.data.source import Pairs, Source
from pocketclip.errors import UserError
from pocketclip.evaluate.statistics import bootstrap_ratio
from pocketclip.features.encode import Embeddings
from pocketclip.records import EvalResult, Interval

Numbers = npt.NDArray[np.int64]


def as_pairs(source: Source) -> Pairs:
    """What is true of a source's examples of two images.

    Raises:
        UserError: it has none.
    """
    if source.pairs is None:
        raise UserError(
            f"{source.name}: has single images; judging pairs needs nlvr2:FILE.json,IMAGES_DIR or scene_pairs:COUNT."
        )
    return source.pairs


@torch.inference_mode()
def judge(head: nn.Module, embeddings: Embeddings) -> tuple[Numbers, npt.NDArray[np.float32]]:
    """The examples of which both images could be read, and the logit of `true` for each.

    Args:
        head: a model's pair head.
        embeddings: of a whole source of pairs.
    """
    examples, sides = np.divmod(embeddings.indices, 2)
    complete = (
        np.flatnonzero((examples[:-1] == examples[1:]) & (sides[:-1] == 0)) if len(examples) else np.zeros(0, int)
    )
    rows = np.stack([complete, complete + 1], axis=1).reshape(-1)
    text_of = np.full(len(examples), -1)
    text_of[embeddings.text_images] = np.arange(len(embeddings.texts))
    device = next(head.parameters()).device
    logits = [
        head(*(torch.from_numpy(part).to(device) for part in (embeddings.images[own], embeddings.texts[text_of[own]])))
        for own in np.split(rows, range(4096, len(rows), 4096))
        if len(own)
    ]
    found = torch.cat(logits).float().cpu().numpy() if logits else np.zeros(0, np.float32)
    return examples[complete], found


def hits_by_sentence(correct: npt.NDArray[np.bool_], sentences: Numbers) -> tuple[Numbers, Numbers]:
    """Examples judged rightly, and examples, of each sentence.

    Args:
        correct: (P,).
        sentences: (P,), equal for examples of one sentence.
    """
    _, groups = np.unique(sentences, return_inverse=True)
    return np.bincount(groups, weights=correct).astype(np.int64), np.bincount(groups)


def pair_scores(head: nn.Module, embeddings: Embeddings, source: Source) -> dict[str, float]:
    """What is measured during training: accuracy, consistency and the loss, without intervals."""
    examples, logits = judge(head, embeddings)
    if not len(examples):
        raise UserError(f"{source.name}: of no example could both images be read.")
    pairs = as_pairs(source)
    labels = pairs.labels[examples]
    hits, counts = hits_by_sentence((logits > 0) == labels, pairs.sentences[examples])
    loss = F.binary_cross_entropy_with_logits(torch.from_numpy(logits), torch.from_numpy(labels.astype(np.float32)))
    accuracy, consistency = float(hits.sum() / counts.sum()), float((hits == counts).mean())
    return {"accuracy": accuracy, "consistency": consistency, "val_loss": float(loss)}


def pair_metrics(correct: npt.NDArray[np.bool_], sentences: Numbers) -> dict[str, Interval | float]:
    """Accuracy, and the share of sentences of which every example is right, with 95 % intervals.

    Sentences are resampled, each with all of its examples, which are alike and succeed and fail together.

    Args:
        correct: (P,), whether each example was judged rightly.
        sentences: (P,), equal for examples of one sentence.
    """
    hits, counts = (values.astype(np.float64) for values in hits_by_sentence(correct, sentences))
    return {
        "accuracy": bootstrap_ratio(hits, counts),
        "consistency": bootstrap_ratio((hits == counts).astype(np.float64), np.ones(len(hits))),
        "num_examples": float(len(correct)),
        "num_sentences": float(len(hits)),
    }


def pair_result(head: nn.Module | None, embeddings: Embeddings, source: Source, *, split: str = "all") -> EvalResult:
    """The record of judging pairs; examples with an image that cannot be read are left out and counted.

    Raises:
        UserError: the model has no pair head, the source has no pairs, or none of them can be read.
    """
    pairs = as_pairs(source)
    if head is None:
        raise UserError(
            "The model has no pair head, so it judges no pairs; train one with objective {kind: pairs} and "
            "model.pair_head, as the recipe s_smke/nlvr2 does."
        )
    examples, logits = judge(head, embeddings)
    if not len(examples):
        raise UserError(f"{source.name}: of no example could both images be read.")
    correct = (logits > 0) == pairs.labels[examples]
    missing = len(pairs.labels) - len(examples)
    return EvalResult(
        task="nlvr2",
        dataset=source.name,
        split=split,
        num_images=2 * len(examples),
        num_captions=len(examples),
        metrics=pair_metrics(correct, pairs.sentences[examples]),
        notes=[f"{missing} examples left out, of which an image cannot be read"] if missing else [],
    )
