"""How well images of no known class are told from those of known ones by how sure a model is: as for ImageNet-O."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.data import open_source
from pocketclip.data.source import Source, Subset
from pocketclip.embedder import Embedder, Floats
from pocketclip.errors import UserError
from pocketclip.evaluate.class_sets import class_set
from pocketclip.evaluate.class_sets.asked import ask_set
from pocketclip.evaluate.statistics import NUM_RESAMPLES
from pocketclip.records import Interval
from pocketclip.stages.watch import Watch

AUPR = "aupr"
_ROWS = 4096


def known_images(spec: str, protocol: str) -> Source:
    """The images of a source that are of the classes of a named set; all of them where no set is asked for.

    Raises:
        UserError: the source cannot be read, or has no such image.
    """
    source = open_source(spec, place="--set in_distribution")
    if protocol == "none":
        return source
    chosen = class_set(protocol)
    base = chosen.of or protocol
    asked = ask_set(source, base, allow_missing=True)
    named = class_set(base).folders or class_set(base).group_names
    kept = {number for number, folder in enumerate(named) if folder in (chosen.folders or chosen.group_names)}
    groups = [] if asked.groups is None else asked.groups.tolist()
    indices = np.array([index for index, group in enumerate(groups) if group in kept], np.int64)
    if not len(indices):
        raise UserError(f"--set in_distribution={spec}: has no image of the classes of {protocol}.")
    return Subset(source, indices, source.name)


def embed_known(model: Embedder, spec: str, protocol: str, watch: Watch) -> Floats:
    """The embeddings of `known_images`."""
    from pocketclip.features.encode import embed_source

    return embed_source(model.for_scores(), known_images(spec, protocol), watch, with_texts=False).images


def area_of_unknown(unknown: Floats, known: Floats, classes: Floats, inverse_temperature: float) -> Interval:
    """The area under precision over recall of finding (U, D) `unknown` images among (K, D) `known` ones.

    An image counts as unknown the more, the smaller its largest probability among the (C, D) `classes`. By chance the
    area is U / (U + K). The interval resamples the images of each side among themselves.
    """
    sure = np.concatenate([largest_probability(inverse_temperature, images, classes) for images in (unknown, known)])
    found = np.arange(len(sure)) < len(unknown)
    random, draws = np.random.default_rng(0), np.empty(NUM_RESAMPLES)
    order = Order(-sure, found)
    for number in range(NUM_RESAMPLES):
        times = [np.bincount(random.integers(0, size, size), minlength=size) for size in (len(unknown), len(known))]
        draws[number] = order.average_precision(np.concatenate(times).astype(np.float64))
    low, high = np.percentile(draws, [2.5, 97.5]).tolist()
    return Interval(value=order.average_precision(np.ones(len(sure))), low=low, high=high)


def largest_probability(inverse_temperature: float, images: Floats, classes: Floats) -> Floats:
    """(N,) the largest of the softmax over C classes, block by block."""
    rows = []
    for start in range(0, len(images), _ROWS):
        logits = inverse_temperature * (images[start : start + _ROWS] @ classes.T)
        rows.append(1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1))
    return np.concatenate(rows) if rows else np.zeros(0, np.float32)


class Order:
    """N items by their scores, of which those that are `found` should score highest."""

    def __init__(self, scores: npt.NDArray[Any], found: npt.NDArray[np.bool_]) -> None:
        self._order = np.argsort(-scores, kind="stable")
        self._found = found[self._order].astype(np.float64)
        sorted_scores = scores[self._order]
        self._ends = np.append(np.flatnonzero(np.diff(sorted_scores)), len(scores) - 1)

    def average_precision(self, times: npt.NDArray[np.float64]) -> float:
        """The area below precision over recall, in steps, each item counted (N,) `times`, equal scores at once."""
        drawn = times[self._order]
        hits, counts = np.cumsum(drawn * self._found)[self._ends], np.cumsum(drawn)[self._ends]
        precision = np.divide(hits, counts, out=np.zeros_like(hits), where=counts > 0)
        return float((np.diff(hits, prepend=0) * precision).sum() / hits[-1])
