"""The contrastive objective: which loss it calls, on what, and under which name."""

import math

import pytest
import torch
from torch.nn import functional as F

from pocketclip.errors import UserError
from pocketclip.losses.clip import clip_loss
from pocketclip.losses.matches import positive_pairs
from pocketclip.losses.multi_positive import multi_positive_loss
from pocketclip.losses.sigmoid import sigmoid_loss
from pocketclip.losses.soft_target import soft_target_loss
from pocketclip.objectives.config import ContrastiveObjectiveConfig
from pocketclip.types import Features, ImageTextBatch, Objective


def make_batch(num_images: int = 4, captions_per_image: int = 1) -> ImageTextBatch:
    num_texts = num_images * captions_per_image
    return ImageTextBatch(
        images=torch.zeros(num_images, 3),
        tokens=torch.zeros(num_texts, 3),
        token_mask=torch.zeros(num_texts, 0, dtype=torch.bool),
        image_ids=torch.arange(num_images) // 2,  # images come twice
        caption_ids=torch.arange(num_texts) % 3,  # captions repeat
    )


def make_features(num_images: int = 4, num_texts: int = 4) -> Features:
    random = torch.Generator().manual_seed(0)
    return Features(
        image=3 * torch.randn(num_images, 5, generator=random),
        text=2 * torch.randn(num_texts, 5, generator=random),
        logit_scale=torch.tensor(7.0),
        logit_bias=torch.tensor(-1.5),
    )


def objective(loss: dict[str, object], weight: float = 1.0) -> Objective:
    return ContrastiveObjectiveConfig.parse({"loss": loss, "weight": weight}, place="test").build()


def test_clip_gets_unit_vectors_and_its_smoothing() -> None:
    features = make_features()
    losses = objective({"kind": "clip", "label_smoothing": 0.1})(features, make_batch())
    image, text = F.normalize(features.image, dim=1), F.normalize(features.text, dim=1)
    torch.testing.assert_close(losses["clip"], clip_loss(image, text, torch.tensor(7.0), label_smoothing=0.1))


def test_soft_target_gets_the_features_as_they_are() -> None:
    features = make_features()
    losses = objective({"kind": "soft_target"})(features, make_batch())
    expected = soft_target_loss(features.image, features.text, torch.tensor(7.0))
    torch.testing.assert_close(losses["soft_target"], expected)


@pytest.mark.parametrize("captions", [1, 3])
def test_sigmoid_gets_unit_vectors_the_bias_and_the_matches_of_the_batch(captions: int) -> None:
    features, batch = make_features(4, 4 * captions), make_batch(4, captions)
    image, text = F.normalize(features.image, dim=1), F.normalize(features.text, dim=1)
    positives = positive_pairs(batch.image_ids, batch.image_ids.repeat_interleave(captions), batch.caption_ids)
    expected = sigmoid_loss(image, text, torch.tensor(7.0), torch.tensor(-1.5), positives=positives)
    torch.testing.assert_close(objective({"kind": "sigmoid"})(features, batch)["sigmoid"], expected)


@pytest.mark.parametrize("captions", [1, 3])
def test_multi_positive_gets_unit_vectors_and_the_matches_of_the_batch(captions: int) -> None:
    features, batch = make_features(4, 4 * captions), make_batch(4, captions)
    image, text = F.normalize(features.image, dim=1), F.normalize(features.text, dim=1)
    positives = positive_pairs(batch.image_ids, batch.image_ids.repeat_interleave(captions), batch.caption_ids)
    expected = multi_positive_loss(image, text, torch.tensor(7.0), positives)
    torch.testing.assert_close(objective({"kind": "multi_positive"})(features, batch)["multi_positive"], expected)


@pytest.mark.parametrize("kind", ["clip", "sigmoid", "soft_target", "multi_positive"])
def test_the_weight_multiplies_the_one_named_loss(kind: str) -> None:
    plain = objective({"kind": kind})(make_features(), make_batch())
    weighted = objective({"kind": kind}, weight=2.5)(make_features(), make_batch())
    assert list(plain) == list(weighted) == [kind]
    torch.testing.assert_close(weighted[kind], 2.5 * plain[kind])


@pytest.mark.parametrize("kind", ["clip", "soft_target"])
def test_a_loss_for_single_captions_refuses_several_and_names_those_that_take_them(kind: str) -> None:
    with pytest.raises(UserError, match=rf"{kind} takes one caption an image .*captions_per_image = 2.*multi_positive"):
        objective({"kind": kind})(make_features(4, 8), make_batch(4, 2))


def test_the_default_is_the_clip_loss_with_weight_1() -> None:
    config = ContrastiveObjectiveConfig()
    assert (config.loss.kind, config.weight) == ("clip", 1.0)


def test_an_unknown_loss_names_the_known_ones() -> None:
    with pytest.raises(
        UserError, match=r"objective: loss: Unknown kind 'sigmiod'\. Did you mean 'sigmoid'\?.*soft_target"
    ):
        ContrastiveObjectiveConfig.parse({"loss": {"kind": "sigmiod"}}, place="objective")


def test_a_setting_of_another_loss_is_an_error() -> None:
    with pytest.raises(UserError, match=r"label_smoothing: unknown key"):
        ContrastiveObjectiveConfig.parse({"loss": {"kind": "sigmoid", "label_smoothing": 0.1}}, place="objective")


def test_equal_captions_are_no_negatives_of_each_other() -> None:
    batch = ImageTextBatch(
        images=torch.zeros(2, 3),
        tokens=torch.zeros(2, 3),
        token_mask=torch.zeros(2, 0, dtype=torch.bool),
        image_ids=torch.tensor([0, 1]),
        caption_ids=torch.tensor([5, 5]),
    )
    same = torch.ones(2, 5)
    features = Features(same, same, torch.tensor(7.0), torch.tensor(0.0))
    loss = objective({"kind": "multi_positive"})(features, batch)["multi_positive"]
    assert float(loss) == pytest.approx(math.log(2))  # the least that two equal answers can have


@pytest.mark.parametrize("kind", ["clip", "sigmoid", "multi_positive"])
def test_a_large_batch_gives_the_same_loss_without_the_matrix(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = 1 if kind == "clip" else 3
    features, batch = make_features(4, 4 * captions), make_batch(4, captions)
    whole = objective({"kind": kind})(features, batch)[kind]
    monkeypatch.setattr("pocketclip.losses.contrastive.MATRIX_LIMIT", 4 * 4 * captions - 1)
    tiled = objective({"kind": kind})(features, batch)[kind]
    torch.testing.assert_close(tiled, whole)
