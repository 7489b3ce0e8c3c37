"""The loss of S-SMKE on features made by hand."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from pocketclip import distributed
from pocketclip.errors import UserError
from pocketclip.losses.clip import clip_loss
from pocketclip.losses.queue import NOBODY
from pocketclip.objectives.config import SSmkeObjectiveConfig
from pocketclip.objectives.s_smke import SSmkeObjective
from pocketclip.types import Features, ImageTextBatch, LayerFeatures, TeacherFeatures
from processes import run_ranks

WIDTH, HIDDEN, TEACHER = 5, 8, 7
KINDS: list[dict[str, Any]] = [
    {"kind": "mse"},
    {"kind": "logits"},
    {"kind": "contrastive"},
    {"kind": "contrastive", "queue_size": 6},
    {"kind": "contrastive", "queue_size": 6, "same_image": "left_out"},
]
ALL_LAYERS = ["hidden", "output", "teacher_head"]


def make(step: int = 0, captions: int = 1, count: int = 4) -> tuple[Features, ImageTextBatch]:
    """Features that can be differentiated, and a batch whose last two images are the same."""
    random = torch.Generator().manual_seed(step)

    def rows(length: int, width: int) -> torch.Tensor:
        return torch.randn(length, width, dtype=torch.float64, generator=random)

    teacher, image, text = rows(count, TEACHER), rows(count, WIDTH), rows(count * captions, WIDTH)
    hidden = LayerFeatures(rows(count, HIDDEN), rows(count * captions, HIDDEN))
    ids = step + torch.arange(count)
    ids[-1] = ids[-2]
    batch = ImageTextBatch(
        images=torch.zeros(count, 3),
        tokens=torch.zeros(count * captions, 3),
        token_mask=torch.zeros(count * captions, 0, dtype=torch.bool),
        image_ids=ids,
        caption_ids=torch.arange(count * captions),
        teachers=(TeacherFeatures(4 * teacher, None, 1.0),),
    )
    one = torch.tensor(1.0, dtype=torch.float64)
    return Features(image.requires_grad_(), text.requires_grad_(), 9 * one, 0 * one, (hidden,)), batch


def build(distill: dict[str, Any], contrastive: list[str] | None = None, **settings: Any) -> SSmkeObjective:
    values = {"distill": distill, "contrastive": contrastive or ALL_LAYERS, **settings}
    torch.manual_seed(3)
    return SSmkeObjectiveConfig.parse(values, place="test").build(embed_dim=WIDTH, teacher_widths=(TEACHER,)).double()


def contrast(student: torch.Tensor, candidates: torch.Tensor, scale: float, kept: torch.Tensor) -> float:
    """Row i's own candidate is the i-th; those it may be compared with are `kept`."""
    logits = scale * F.normalize(student, dim=1) @ F.normalize(candidates, dim=1).T
    losses = [logits[row][kept[row]].logsumexp(0) - logits[row, row] for row in range(len(student))]
    return float(torch.stack(losses).mean())


def test_the_contrastive_losses_are_a_mean_each_with_its_own_temperature() -> None:
    features, batch = make()
    objective = build({"kind": "mse"})
    losses = objective(features, batch)
    assert objective.head is not None
    hidden = features.layers[0]
    expected = {
        "clip_output": (features.image, features.text, 9.0),
        "clip_hidden": (hidden.image, hidden.text, 1 / 0.07),
        "clip_teacher_head": (objective.head(features.image), objective.head(features.text), 1 / 0.07),
    }
    for name, (image, text, scale) in expected.items():
        plain = clip_loss(F.normalize(image, dim=1), F.normalize(text, dim=1), torch.tensor(scale, dtype=torch.float64))
        assert float(losses[name].detach()) == pytest.approx(float(plain.detach()) / 3), name


def test_distance_and_classes_take_the_teachers_vectors_as_they_are() -> None:
    features, batch = make()
    for kind in ("mse", "logits"):
        objective = build({"kind": kind, "weight": 3.0})
        assert objective.head is not None
        losses, target = objective(features, batch), batch.teachers[0].image
        for side, student in (("image", features.image), ("text", features.text)):
            headed = objective.head(student)
            plain = F.mse_loss(headed, target)
            if kind == "logits":
                share = target.softmax(1)
                plain = (share * (share.log() - headed.log_softmax(1))).sum(1).mean()
            assert float(losses[f"distill_{side}"]) == pytest.approx(1.5 * float(plain)), (kind, side)


def test_contrast_with_a_queue_matches_a_loop() -> None:
    objective = build({"kind": "contrastive", "queue_size": 6})
    assert objective.head is not None
    seen: list[torch.Tensor] = []
    for step in range(4):
        features, batch = make(step)
        losses, target = objective(features, batch), batch.teachers[0].image
        earlier = torch.cat(seen)[-6:] if seen else target[:0]
        candidates = torch.cat([target, earlier])
        kept = torch.ones(4, len(candidates), dtype=torch.bool)
        for side, student in (("image", features.image), ("text", features.text)):
            expected = contrast(objective.head(student), candidates, 1 / 0.07, kept) / 2
            assert float(losses[f"distill_{side}"]) == pytest.approx(expected, rel=1e-6), (step, side)
        seen.append(target)


def test_other_vectors_of_the_same_image_may_be_left_out() -> None:
    objective = build({"kind": "contrastive", "queue_size": 6, "same_image": "left_out"})
    assert objective.head is not None
    (_, before), (features, batch) = make(0), make(1)
    objective(*make(0))
    losses = objective(features, batch)
    candidates = torch.cat([batch.teachers[0].image, before.teachers[0].image])
    ids = torch.cat([batch.image_ids, before.image_ids])
    kept = batch.image_ids[:, None] != ids
    kept[torch.arange(4), torch.arange(4)] = True
    assert not kept.all()
    expected = contrast(objective.head(features.text), candidates, 1 / 0.07, kept) / 2
    assert float(losses["distill_text"]) == pytest.approx(expected, rel=1e-6)


def test_an_empty_queue_changes_nothing() -> None:
    with_queue, without = build(KINDS[3]), build(KINDS[2])
    first, second = with_queue(*make()), without(*make())
    assert {name: float(value) for name, value in first.items()} == pytest.approx(
        {name: float(value) for name, value in second.items()}
    )


def test_the_queue_moves_once_a_step_and_in_training_only() -> None:
    objective = build({"kind": "contrastive", "queue_size": 20})
    assert objective.queue is not None
    objective(*make(captions=3))
    assert int((objective.queue.image_ids != NOBODY).sum()) == 4
    objective.eval()
    objective(*make(captions=3))
    assert int(objective.queue.position) == 4


@pytest.mark.parametrize("distill", KINDS)
def test_several_captions_are_a_mean_over_batches_of_pairs(distill: dict[str, Any]) -> None:
    features, batch = make(captions=3)
    together = build(distill)(features, batch)
    apart = [build(distill)(features.with_caption(k, 3), batch.with_caption(k)) for k in range(3)]
    for name, value in together.items():
        assert float(value) == pytest.approx(sum(float(one[name]) for one in apart) / 3), name


def test_synthetic_captions_are_a_loss_of_their_own() -> None:
    features, batch = make(captions=2)
    losses = build({"kind": "mse"})(features, replace(batch, num_synthetic=1))
    assert {"clip_output_synthetic", "distill_text_synthetic", "distill_image"} <= losses.keys()


@pytest.mark.parametrize("distill", KINDS)
def test_everything_learned_gets_a_gradient(distill: dict[str, Any]) -> None:
    objective = build(distill)
    features, batch = make()
    for step in range(2):  # the queue changes between a loss and its gradient
        del step
        torch.stack(list(objective(features, batch).values())).sum().backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert features.image.grad is not None
    assert features.text.grad is not None


def test_temperatures_are_clamped() -> None:
    objective = build({"kind": "contrastive"})
    assert sorted(objective.log_scales) == ["distill", "hidden", "teacher_head"]
    with torch.no_grad():
        for scale in objective.log_scales.values():
            scale.fill_(9.0)
    objective(*make())
    assert {float(scale) for scale in objective.log_scales.values()} == {math.log(100)}


def test_without_a_teacher_there_is_no_head() -> None:
    config = SSmkeObjectiveConfig.parse({"distill": {"kind": "none"}}, place="test")
    objective = config.build(embed_dim=WIDTH).double()
    assert not config.needs.asks_teachers
    assert [name for name, _ in objective.named_parameters()] == ["log_scales.hidden"]
    assert objective(*make()).keys() == {"clip_hidden", "clip_output"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"distill": {"kind": "contrastive", "queue_of": "student"}}, "unknown key 'queue_of'"),
        ({"distill": {"kind": "mse"}, "contrastive": ["output", "output"]}, "contrastive: output is given twice"),
        ({"distill": {"kind": "none"}, "contrastive": ["teacher_head"]}, "teacher_head is there with a teacher only"),
        ({"distill": {"kind": "mse", "queue_size": 3}}, "unknown key 'queue_size'"),
        ({"distill": {"kind": "mse"}, "contrastive": []}, "contrastive"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SSmkeObjectiveConfig.parse(values, place="test")


def test_it_learns_from_one_teacher() -> None:
    config = SSmkeObjectiveConfig.parse({"distill": {"kind": "mse"}}, place="test")
    with pytest.raises(UserError, match=r"learns from one teacher \(got 2\)"):
        config.build(embed_dim=WIDTH, teacher_widths=(3, 4))


# Several ranks


def steps(rank: int, distill: dict[str, Any], captions: int) -> list[torch.Tensor]:
    """Losses, gradients and queue of three steps in which each rank holds its share of six pairs."""
    del rank
    objective = build(distill)
    found: list[torch.Tensor] = []
    size = distributed.world_size()
    shares = tuple(2 + 2 * number for number in range(size)) if size > 1 else (6,)  # unequal ones
    first = sum(shares[: distributed.rank()])
    own = slice(first, first + shares[distributed.rank()])
    texts = slice(own.start * captions, own.stop * captions)
    for step in range(3):
        features, whole = make(step, captions, count=6)
        image, text = features.image.detach()[own], features.text.detach()[texts]
        layer = LayerFeatures(features.layers[0].image[own], features.layers[0].text[texts])
        part = Features(
            image.requires_grad_(), text.requires_grad_(), features.logit_scale, features.logit_bias, (layer,)
        )
        teacher = TeacherFeatures(whole.teachers[0].image[own], None, 1.0)
        batch = replace(whole.pairs(own.start, own.stop), shares=shares, teachers=(teacher,))
        losses = objective(part, batch)
        loss = torch.stack(list(losses.values())).sum()
        parameters = list(objective.parameters())
        gradients = torch.autograd.grad(loss, [*parameters, part.image, part.text])
        means = [value.detach().clone() for value in (*losses.values(), *gradients[: len(parameters)])]
        distributed.average_in_place(means)
        counts = (list(shares), [share * captions for share in shares])
        sides = [distributed.gather(grad, count) / size for grad, count in zip(gradients[-2:], counts, strict=True)]
        found += [*means, *sides]
    if objective.queue is not None:
        found += [objective.queue.rows, objective.queue.image_ids, objective.queue.position]
    return found


def every_kind(rank: int) -> list[list[torch.Tensor]]:
    return [steps(rank, distill, captions) for distill in KINDS for captions in (1, 2)]


@pytest.mark.slow
def test_two_ranks_learn_and_remember_what_one_does() -> None:
    expected = every_kind(0)
    for found in run_ranks(every_kind, 2):
        for one, other in zip(expected, found, strict=True):
            for value, of_ranks in zip(one, other, strict=True):
                torch.testing.assert_close(of_ranks, value, rtol=1e-5, atol=1e-6)
