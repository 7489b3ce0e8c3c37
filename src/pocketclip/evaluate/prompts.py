"""Names of classes in sentences, and one embedding a class from all of its sentences."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from pocketclip.config import digest
from pocketclip.embedder import Embedder, Floats
from pocketclip.errors import UserError
from pocketclip.stages.watch import SILENT, Watch

SLOT = "{}"
_BLOCK = 4096
"""Sentences encoded at a time."""
_MADE: WeakKeyDictionary[Embedder, dict[str, Floats]] = WeakKeyDictionary()
"""Embeddings of classes by the hashes of weights and of names and templates, as long as their model is there."""


def prompts_hash(class_names: Sequence[str], templates: Sequence[str]) -> str:
    """Sixteen hex digits that change with any name, any template, or their order."""
    return digest([list(class_names), list(templates)])


def class_embeddings(
    model: Embedder, class_names: Sequence[str], templates: Sequence[str], watch: Watch = SILENT
) -> Floats:
    """(C, D) of unit length: the mean over templates of each class's normalised sentences, normalised again.

    Sentences are encoded once for a model, however many data sets ask with the same names and templates.

    Raises:
        UserError: the model knows images only, or gave what is not finite.
    """
    weights = str(getattr(model, "fingerprint", ""))  # a model may have learned since
    made, key = _MADE.setdefault(model, {}), f"{weights} {prompts_hash(class_names, templates)}"
    if key not in made:
        made[key] = _encode(model.for_scores(), class_names, templates, watch)
    return made[key]


def _encode(model: Embedder, class_names: Sequence[str], templates: Sequence[str], watch: Watch) -> Floats:
    from pocketclip.features.encode import encode_texts  # brings torch

    reader, rows = model.text_reader(), []
    unique = list(dict.fromkeys(class_names))
    size = max(1, _BLOCK // len(templates))
    for first in range(0, len(unique), size):
        names = unique[first : first + size]
        texts = [template.replace(SLOT, name) for name in names for template in templates]
        features = encode_texts(texts, model.encode_texts, reader)
        rows.append(ensemble(features.reshape(len(names), len(templates), -1)))
        done = min(first + size, len(unique)) * len(templates)
        watch.work("encoding prompts", done, len(unique) * len(templates))
    place = {name: number for number, name in enumerate(unique)}
    classes: Floats = np.concatenate(rows)[[place[name] for name in class_names]]
    if not np.isfinite(classes).all():
        raise UserError(f"{model.name}: gave embeddings of the class names that are not finite; no class is nearest.")
    return classes


def ensemble(prompts: Floats) -> Floats:
    """(C, T, D) embeddings of T sentences of each class to (C, D): each normalised, averaged, normalised again."""
    unit = prompts / np.maximum(np.linalg.norm(prompts, axis=2, keepdims=True), 1e-12)
    mean = unit.mean(axis=1)
    normalised: Floats = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    return normalised
