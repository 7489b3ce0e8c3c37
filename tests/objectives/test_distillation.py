"""The distillation objective: which terms it sums, in whose width, and what it learns besides."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketclip.config import kinds_of
from pocketclip.errors import UserError
from pocketclip.losses.affinity import affinity_loss
from pocketclip.losses.clip import clip_loss
from pocketclip.losses.feature import feature_loss
from pocketclip.losses.gradient import gradient_loss
from pocketclip.losses.interactive import interactive_loss
from pocketclip.objectives.config import DistillationObjectiveConfig
from pocketclip.objectives.distillation import DistillationObjective
from pocketclip.objectives.terms import TermConfig
from pocketclip.types import Features, ImageTextBatch
from processes import run_ranks
from taught import WIDTHS, make_taught

MAPS_OF_TWO = {f"{part}_maps.{teacher}.weight" for part in ("image", "text") for teacher in (0, 1)}
ALL = ["contrastive", "affinity", "feature", "relational", "interactive", "gradient"]


def build(*kinds: str, widths: tuple[int, ...] = WIDTHS, **settings: Any) -> DistillationObjective:
    terms = [{"kind": kind, "weight": number + 1} for number, kind in enumerate(kinds)]
    config = DistillationObjectiveConfig.parse({"terms": terms, **settings}, place="test")
    torch.manual_seed(0)
    return config.build(embed_dim=5, teacher_widths=widths).double()


def test_every_kind_is_tried_here() -> None:
    assert set(kinds_of(TermConfig)) == set(ALL)


def expected_terms(objective: DistillationObjective, features: Features, batch: ImageTextBatch) -> dict[str, Tensor]:
    """Each term, unweighted, from the plain losses over the whole batch."""
    image, text, scale = F.normalize(features.image, dim=1), F.normalize(features.text, dim=1), features.logit_scale
    one, two = batch.teachers
    first, second = (
        [
            F.normalize(rows @ maps[teacher].weight.T, dim=1)
            for rows, maps in ((image, objective.image_maps), (text, objective.text_maps))
        ]
        for teacher in (0, 1)
    )
    own = torch.tensor(1 / 0.07, dtype=torch.float64)
    return {
        "contrastive": clip_loss(image, text, scale),
        "affinity": affinity_loss(
            image, text, scale, [one.image, two.image], [one.text, two.text], [one.scale, two.scale]
        ),
        "feature": (feature_loss(*first, one.image, one.text) + feature_loss(*second, two.image, two.text)) / 2,
        "relational": sum(affinity_loss(image, text, scale, [t.image], [t.text], [t.scale]) for t in (one, two)) / 2,
        "interactive": (
            interactive_loss(*first, one.image, one.text, own) + interactive_loss(*second, two.image, two.text, own)
        )
        / 2,
        "gradient": (
            gradient_loss(*first, scale, one.image, one.text, one.scale)
            + gradient_loss(*second, scale, two.image, two.text, two.scale)
        )
        / 2,
    }


def assert_all_terms(found: Mapping[str, Tensor], objective: DistillationObjective, taught: Any) -> None:
    expected = expected_terms(objective, *taught)
    assert list(found) == ALL
    for number, kind in enumerate(ALL):
        torch.testing.assert_close(found[kind], (number + 1) * expected[kind], msg=kind, rtol=1e-6, atol=1e-6)


def test_each_term_is_its_loss_averaged_over_the_teachers(taught: tuple[Features, ImageTextBatch]) -> None:
    objective = build(*ALL)
    assert_all_terms(objective(*taught), objective, taught)


def test_synthetic_captions_are_summed_up_apart() -> None:
    features, batch = make_taught(4, captions=2, num_synthetic=1)
    objective = build(*ALL)
    losses = objective(features, batch)
    assert set(losses) == {*ALL, *(f"{kind}_synthetic" for kind in ALL)}
    second = objective(features.with_caption(1, 2), batch.with_caption(1))
    for kind in ALL:
        torch.testing.assert_close(losses[f"{kind}_synthetic"], second[f"{kind}_synthetic"])


@pytest.mark.parametrize(
    ("kinds", "widths", "learned"),
    [
        (["contrastive", "affinity", "relational"], WIDTHS, set()),
        (["feature"], (5,), set()),
        (["gradient"], WIDTHS, MAPS_OF_TWO),
        (["feature"], (5, 5), MAPS_OF_TWO),
        (["interactive"], (5,), {"log_scales"}),
        (ALL, (9,), {"image_maps.0.weight", "text_maps.0.weight", "log_scales"}),
    ],
)
def test_it_learns_what_the_terms_need(kinds: list[str], widths: tuple[int, ...], learned: set[str]) -> None:
    assert {name for name, _ in build(*kinds, widths=widths).named_parameters()} == learned


def test_every_learned_part_gets_a_gradient(taught: tuple[Features, ImageTextBatch]) -> None:
    objective = build(*ALL)
    torch.stack(list(objective(*taught).values())).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in objective.parameters())


def test_the_interactive_temperature_is_exponentiated_and_kept_in_bounds(
    taught: tuple[Features, ImageTextBatch],
) -> None:
    objective = build("interactive", widths=(5, 5))
    assert objective.log_scales is not None
    assert objective.log_scales.exp().tolist() == pytest.approx([1 / 0.07] * 2)
    features, batch = taught
    batch = ImageTextBatch(**{**vars(batch), "teachers": batch.teachers[:1] * 2})
    with torch.no_grad():
        objective.log_scales.copy_(torch.tensor([9.0, -3.0]))
    objective(features, batch)
    assert objective.log_scales.tolist() == pytest.approx([math.log(100), 0])


def test_large_batches_give_the_same_without_the_matrix(
    taught: tuple[Features, ImageTextBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = build(*ALL)
    whole = objective(*taught)
    monkeypatch.setattr("pocketclip.losses.contrastive.MATRIX_LIMIT", 15)
    large = objective(*taught)
    for name, value in large.items():
        torch.testing.assert_close(value, whole[name], msg=name)
    assert_all_terms(large, objective, taught)


def of_a_share(rank: int, shares: tuple[int, ...]) -> dict[str, Tensor]:
    features, batch = make_taught(sum(shares))
    own = slice(sum(shares[:rank]), sum(shares[: rank + 1]))
    teachers = tuple(replace(one, image=one.image[own], text=one.text[own]) for one in batch.teachers)
    part = replace(batch.pairs(own.start, own.stop), shares=shares, teachers=teachers)
    losses = build(*ALL)(replace(features, image=features.image[own], text=features.text[own]), part)
    return {name: value.detach() for name, value in losses.items()}


def test_the_mean_over_ranks_is_each_term_of_the_whole_batch() -> None:
    shares = (2, 5)
    found = run_ranks(of_a_share, 2, shares)
    means = {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}
    with torch.no_grad():
        assert_all_terms(means, build(*ALL), make_taught(sum(shares)))


def test_a_batch_without_teachers_is_our_mistake(taught: tuple[Features, ImageTextBatch]) -> None:
    features, batch = taught
    with pytest.raises(AssertionError, match="no teacher features"):
        build("affinity")(features, ImageTextBatch(**{**vars(batch), "teachers": ()}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"terms": []}, "terms: .*at least 1"),
        ({"terms": [{"kind": "contrastive"}]}, "contrastive alone asks no teacher"),
        ({"terms": [{"kind": "feature"}, {"kind": "feature"}]}, "feature is given twice"),
        ({"terms": [{"kind": "featur"}]}, "Unknown kind 'featur'. Did you mean 'feature'?"),
        ({"terms": [{"kind": "feature"}], "teacher_scales": [50]}, "teacher_scales has an effect with"),
        ({"terms": [{"kind": "affinity", "loss": {"kind": "clip"}}]}, "loss: unknown key"),
    ],
)
def test_what_makes_no_sense_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DistillationObjectiveConfig.parse(settings, place="objective")


def test_a_validation_split_is_measured_with_the_contrastive_term() -> None:
    terms = [{"kind": "contrastive", "loss": {"kind": "sigmoid"}}, {"kind": "feature"}]
    config = DistillationObjectiveConfig.parse({"terms": terms}, place="test")
    assert config.validation.loss.kind == "sigmoid"
    assert DistillationObjectiveConfig.parse({"terms": terms[1:]}, place="test").validation.loss.kind == "clip"
