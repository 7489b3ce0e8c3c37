"""Embeddings of classes from several sentences each, against open_clip's own."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from conftest import Told
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.embedder import Floats, Ids, Mask
from pocketclip.errors import UserError
from pocketclip.evaluate.prompts import class_embeddings, ensemble, prompts_hash

NAMES = ["red circle", "blue square", "red circle"]
TEMPLATES = ["a photo of a {}.", "{} in a scene, a {}"]


def test_each_sentence_is_normalised_and_so_is_their_mean(tiny_pretrained: PretrainedModel) -> None:
    found = class_embeddings(tiny_pretrained, NAMES, TEMPLATES)
    for row, name in zip(found, NAMES, strict=True):
        texts = tiny_pretrained.encode_text([template.replace("{}", name) for template in TEMPLATES])
        mean = texts.mean(axis=0)
        assert row == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert np.array_equal(found[0], found[2])


def test_prompts_are_encoded_once_for_a_model_names_and_templates(tiny_pretrained: PretrainedModel) -> None:
    told: list[str] = []
    watch = Told(lambda work, *_: told.append(work))
    first = class_embeddings(tiny_pretrained, NAMES, TEMPLATES, watch)
    assert told == ["encoding prompts"]
    assert class_embeddings(tiny_pretrained, list(NAMES), tuple(TEMPLATES), watch) is first
    assert len(told) == 1
    class_embeddings(tiny_pretrained, NAMES, TEMPLATES[:1], watch)
    assert len(told) == 2
    with torch.no_grad():
        next(tiny_pretrained.model.text_head.parameters()).mul_(-1)
    assert not np.allclose(class_embeddings(tiny_pretrained, NAMES, TEMPLATES, watch), first)
    assert len(told) == 3


def test_the_hash_changes_with_names_templates_and_their_order() -> None:
    hashes = {
        prompts_hash(["a", "b"], ["{}"]),
        prompts_hash(["b", "a"], ["{}"]),
        prompts_hash(["a", "b"], ["a {}"]),
        prompts_hash(["a"], ["b", "{}"]),
    }
    assert len(hashes) == 4


def test_the_ensemble_equals_open_clips() -> None:
    from open_clip import build_zero_shot_classifier

    random = torch.Generator().manual_seed(0)
    table = torch.randn(200, 8, generator=random)

    class Model:
        def encode_text(self, texts: torch.Tensor, normalize: bool) -> torch.Tensor:
            assert normalize
            return torch.nn.functional.normalize(table[texts], dim=-1)

    def tokenizer(texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([sum(map(ord, text)) % 200 for text in texts])

    names, templates = [f"name {number}" for number in range(25)], ["a {}", "the {} here", "{}"]
    theirs = build_zero_shot_classifier(Model(), tokenizer, names, templates).T.numpy()
    prompts = table[tokenizer([template.format(name) for name in names for template in templates])].numpy()
    assert ensemble(prompts.reshape(25, 3, 8)) == pytest.approx(theirs, abs=1e-6)


def test_embeddings_that_are_not_finite_are_an_error(tiny_pretrained: PretrainedModel) -> None:
    class Broken(PretrainedModel):
        def encode_texts(self, tokens: Ids, mask: Mask) -> Floats:
            return np.full((len(tokens), 4), np.nan, np.float32)

    tiny_pretrained.__class__ = Broken
    with pytest.raises(UserError, match="gave embeddings of the class names that are not finite"):
        class_embeddings(tiny_pretrained, NAMES, TEMPLATES)
