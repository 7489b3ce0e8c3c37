"""Strategies go together where that makes sense; where one would have no effect, or do harm, the reason is said."""

from typing import Any

import pytest

from conftest import tiny_model_settings, tiny_recipe_settings
from pocketclip.errors import UserError
from pocketclip.recipe import Recipe

RATES = {"heads": 0.001, "image_encoder": 0.001, "text_encoder": 0.001}
LIT = {"heads": 0.001, "text_encoder": 0.001}
SLIP = {"kind": "contrastive", "simclr": {}}
HEADS = {"num_steps": 2, "batch_size": 4, "learning_rate": {"heads": 0.001}, "cache": {}}
EARLY = {"name": "early", "num_steps": 2, "batch_size": 4, "learning_rate": RATES}
VIT = {"kind": "timm", "name": "test_vit", "pretrained": "none"}
PACKAGE = {"kind": "timm", "name": "tf_efficientnet_lite0", "pretrained": "package", "image_size": 32}
TEXT = {"kind": "clip", "width": 32, "num_heads": 2, "num_layers": 1, "context_length": 16}
TEXT |= {"tokenizer": "captions", "pooling": "last", "pretrained": "none", "causal": False}
PEOPLE = {
    "data": {"train": {"kind": "webdataset", "shards": "people.tar"}},
    "objective": {"kind": "person", "terms": [{"kind": "sdm"}]},
}
WORDS = {**PEOPLE, "objective": {"kind": "person", "terms": [{"kind": "sdm"}, {"kind": "masked_language"}]}}
SCENE_PAIRS = {
    "data": {"train": {"kind": "scene_pairs", "count": 16}, "val": {"kind": "scene_pairs", "count": 8, "seed": 1}},
    "objective": {"kind": "pairs"},
}


def parse(train: dict[str, Any], model: dict[str, Any] | None = None, **sections: Any) -> Recipe:
    settings = tiny_recipe_settings(**train)
    settings["model"] = {**tiny_model_settings(), **(model or {})}
    return Recipe.parse({**settings, **sections}, place="test")


REFUSED: list[tuple[str, dict[str, Any]]] = [
    # simclr
    (
        r"train\.augment_further draws the further views of an image, and this objective has none",
        {"train": {"augment_further": {"flip": True}}},
    ),
    (
        r"teach the image tower, which train freezes: give train\.learning_rate\.image_encoder",
        {"train": {"learning_rate": LIT}, "objective": SLIP},
    ),
    (r"needs several views, which no cache keeps", {"train": HEADS, "objective": SLIP}),
    (r"needs several views, which no cache keeps", {"train": {}, "heads_first": HEADS, "objective": SLIP}),
    # keep_patches
    (r"train\.keep_patches has no effect with cache", {"train": {**HEADS, "keep_patches": 0.5}}),
    (
        r"train\.keep_patches has an effect on an image tower in training only",
        {"train": {"learning_rate": LIT, "keep_patches": 0.5}},
    ),
    (
        r"train\.keep_patches: CLIP ResNet 1-1-1-1 of width 8 has no patches to drop",
        {
            "train": {"keep_patches": 0.5},
            "model": {"image_encoder": {"kind": "clip_resnet", "width": 8, "num_blocks": [1, 1, 1, 1]}},
        },
    ),
    (
        r"early\.keep_patches: joined_stages averages maps of all places",
        {
            "train": {},
            "early_stages": [{**EARLY, "keep_patches": 0.5}],
            "model": {
                "image_encoder": {"kind": "timm", "name": "test_vit", "pretrained": "none", "joined_stages": [1]}
            },
        },
    ),
    # text_tokens
    (
        r"train\.text_tokens has no effect with cache: no text tower is run",
        {"train": {**HEADS, "text_tokens": {"kind": "random", "keep": 4}}},
    ),
    (
        r"train\.text_tokens\.keep: no text has more than model\.text_encoder\.context_length, 16 \(got 16\)",
        {"train": {"text_tokens": {"kind": "random", "keep": 16}}},
    ),
    (
        r"train\.text_tokens saves nothing with padding: seen",
        {
            "train": {"text_tokens": {"kind": "random", "keep": 4}},
            "model": {"text_encoder": {**TEXT, "padding": "seen"}},
        },
    ),
    (
        r"train\.text_tokens: a sentence without some of its words may be true where it was false",
        {
            "train": {"text_tokens": {"kind": "random", "keep": 4}},
            "model": {"pair_head": {}},
            **SCENE_PAIRS,
        },
    ),
    # hard_negatives
    (
        r"train\.hard_negatives finds neighbours with the image tower as the stage begins, and this one is random",
        {"train": {"hard_negatives": {}}},
    ),
    (
        r"early\.hard_negatives finds neighbours",
        {"train": {"hard_negatives": {}}, "early_stages": [{**EARLY, "hard_negatives": {}}]},
    ),
    (
        r"train\.hard_negatives\.group: 5 is more than train\.batch_size, 4",
        {"train": {"hard_negatives": {"group": 5}}, "model": {"image_encoder": PACKAGE}},
    ),
    (
        r"the nearest neighbour of an image is itself with another caption",
        {"train": {"hard_negatives": {}, "epoch": "captions"}, "model": {"image_encoder": PACKAGE}},
    ),
    (
        r"train\.hard_negatives: pairs of images stay as they are",
        {"train": {"hard_negatives": {}}, "model": {"pair_head": {}, "image_encoder": PACKAGE}, **SCENE_PAIRS},
    ),
    # identity_batches, and words one by one
    (
        r"train\.identity_batches: objective\.kind contrastive does not look at identities",
        {"train": {"identity_batches": {}}},
    ),
    (
        r"train\.identity_batches and train\.hard_negatives both say who meets in a batch",
        {
            "train": {"identity_batches": {"views": 2}, "hard_negatives": {}},
            "model": {"image_encoder": PACKAGE},
            **PEOPLE,
        },
    ),
    (
        r"train\.identity_batches\.views: train\.batch_size has to be a multiple of it, of two identities at least",
        {"train": {"identity_batches": {"views": 4}}, **PEOPLE},
    ),
    (
        r"train\.identity_batches\.views: .* \(got 3 views and a batch of 4\)",
        {"train": {"identity_batches": {"views": 3}}, **PEOPLE},
    ),
    (
        r"objective\.kind person needs the words of a text one by one, which no cache keeps",
        {"train": HEADS, **WORDS},
    ),
    (
        r"masked_language does not go with model\.shared_encoder",
        {
            "train": {},
            **WORDS,
            "model": {
                "image_encoder": VIT,
                "shared_encoder": {"kind": "transformer", "num_heads": 2, "image_readout": "mean"},
                "image_head": {"kind": "linear"},
                "text_head": {"kind": "linear"},
            },
        },
    ),
]


@pytest.mark.parametrize(("message", "settings"), REFUSED, ids=[message[:60] for message, _ in REFUSED])
def test_what_does_not_go_together_is_refused_with_the_reason(message: str, settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=message):
        parse(**settings)


ACCEPTED: dict[str, dict[str, Any]] = {
    "hard negatives after a stage": {"train": {"hard_negatives": {}}, "early_stages": [EARLY]},
    "hard negatives from weights": {"train": {"hard_negatives": {}}, "model": {"image_encoder": PACKAGE}},
    "hard negatives on cached features": {
        "train": {**HEADS, "hard_negatives": {}},
        "model": {"image_encoder": PACKAGE},
    },
    "two people in two views": {"train": {"identity_batches": {"views": 2}}, **PEOPLE},
    "people on cached features": {"train": {**HEADS, "identity_batches": {"views": 2}}, **PEOPLE},
    "hidden words": {"train": {}, **WORDS},
    "views of one's own": {"train": {"augment_further": {"flip": True}}, "objective": SLIP},
    "fewer tokens with cached images": {
        "train": {"learning_rate": LIT, "cache": {}, "text_tokens": {"kind": "block", "keep": 6}}
    },
    "slip with several captions": {
        "train": {"captions_per_image": 2},
        "objective": {**SLIP, "loss": {"kind": "multi_positive"}},
    },
    "slip with sigmoid": {
        "train": {},
        "objective": {**SLIP, "loss": {"kind": "sigmoid"}},
        "model": {"logit_bias": -1.0},
    },
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_goes_together_is_taken(name: str) -> None:
    parse(**ACCEPTED[name])


def test_a_recipe_without_them_is_written_as_before() -> None:
    written = parse({}).model_dump(mode="json")
    assert (
        not {"augment_further", "keep_patches", "text_tokens", "hard_negatives", "identity_batches"}
        & written["train"].keys()
    )
    assert written["objective"].keys() == {"kind", "loss", "weight"}
