"""The tasks that `pocketclip evaluate --task NAME` knows."""

from collections.abc import Callable

from pocketclip.asked import PretrainedModel
from pocketclip.data.source import Source
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError, unknown_choice
from pocketclip.evaluate.folds import FOLD, check_folds, fold_ranks
from pocketclip.evaluate.nlvr import as_pairs, pair_result
from pocketclip.evaluate.retrieval import averaged_metrics, retrieval_metrics, retrieval_ranks
from pocketclip.features.encode import Embeddings, embed_source
from pocketclip.records import EvalResult
from pocketclip.stages.watch import SILENT, Watch


def evaluate_retrieval(model: Embedder, source: Source, watch: Watch = SILENT) -> EvalResult:
    """Recall at 1, 5 and 10 in both directions over a captioned source."""
    embeddings = embed_source(model.for_scores(), source, watch)
    return retrieval_result(embeddings, source)


def evaluate_folds(model: Embedder, source: Source, watch: Watch = SILENT) -> EvalResult:
    """The same over folds of 1,000 images, averaged: the 1K protocol of COCO."""
    check_folds(len(source), name=source.name)
    embeddings = embed_source(model.for_scores(), source, watch)
    return folds_result(embeddings, source)


def retrieval_result(embeddings: Embeddings, source: Source, *, split: str = "all") -> EvalResult:
    """The record of a retrieval evaluation; images without a caption are left out of the gallery and named."""
    embeddings, notes = _gallery(embeddings, source)
    ranks = retrieval_ranks(embeddings.images, embeddings.texts, embeddings.text_images)
    return EvalResult(
        task="retrieval",
        dataset=source.name,
        split=split,
        num_images=len(embeddings.images),
        num_captions=len(embeddings.texts),
        metrics=retrieval_metrics(ranks),
        notes=notes,
    )


def folds_result(embeddings: Embeddings, source: Source, *, split: str = "all") -> EvalResult:
    """The record of an evaluation over folds."""
    embeddings, notes = _gallery(embeddings, source)
    ranks = fold_ranks(embeddings.images, embeddings.texts, embeddings.text_images, embeddings.indices)
    num_folds = "one fold" if len(ranks) == 1 else f"mean of {len(ranks)} folds"
    if num_more := _with_more_captions(embeddings):
        notes.append(f"{num_more} images have more than 5 captions; papers take the first five: max_captions=5")
    return EvalResult(
        task="retrieval_1k_folds",
        dataset=source.name,
        split=split,
        num_images=len(embeddings.images),
        num_captions=len(embeddings.texts),
        metrics=averaged_metrics(ranks),
        notes=[f"{num_folds} of {FOLD:,} images", *notes],
    )


def _gallery(embeddings: Embeddings, source: Source) -> tuple[Embeddings, list[str]]:
    """What is ranked, and notes on what is not."""
    if len(embeddings.texts) == 0:
        raise UserError(f"{source.name}: no readable picture has a caption; retrieval needs one for each.")
    embeddings, num_dropped = with_captions(embeddings)
    notes = [f"{num_dropped} images without a caption left out"] if num_dropped else []
    notes += [f"{len(embeddings.broken)} broken items left out"] if embeddings.broken else []
    return embeddings, notes


def _with_more_captions(embeddings: Embeddings) -> int:
    """Images with more captions than the five that COCO's protocols count."""
    import numpy as np

    return int((np.bincount(embeddings.text_images) > 5).sum())


def with_captions(embeddings: Embeddings) -> tuple[Embeddings, int]:
    """Only the images that have a caption, and how many had none."""
    import numpy as np

    captioned = np.unique(embeddings.text_images)
    if len(captioned) == len(embeddings.images):
        return embeddings, 0
    new_row = np.full(len(embeddings.images), -1, np.int64)
    new_row[captioned] = np.arange(len(captioned))
    kept = Embeddings(
        embeddings.images[captioned],
        embeddings.texts,
        new_row[embeddings.text_images],
        embeddings.indices[captioned],
        embeddings.broken,
    )
    return kept, len(embeddings.images) - len(captioned)


def evaluate_nlvr2(model: Embedder, source: Source, watch: Watch = SILENT) -> EvalResult:
    """Accuracy and consistency of true and false over pairs of images with a sentence."""
    as_pairs(source)
    embeddings = embed_source(model.for_scores(), source, watch)
    head = model.model.pair_head if isinstance(model, PretrainedModel) else None
    return pair_result(head, embeddings, source)


TASKS: dict[str, Callable[[Embedder, Source, Watch], EvalResult]] = {
    "retrieval": evaluate_retrieval,
    "retrieval_1k_folds": evaluate_folds,
    "nlvr2": evaluate_nlvr2,
}


def run_task(name: str, model: Embedder, source: Source, watch: Watch = SILENT) -> EvalResult:
    """Measure a model on one task.

    Raises:
        UserError: no such task, or the source lacks what it needs.
    """
    if name not in TASKS:
        raise unknown_choice("task", name, TASKS)
    if len(source) == 0:
        raise UserError(f"{source.name}: no images.")
    return TASKS[name](model, source, watch)
