"""Losses caption by caption, and the teachers' temperatures."""

import pytest
import torch
from torch import Tensor

from pocketclip.errors import UserError
from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.objectives.teachers import caption_by_caption, check_scales, teacher_affinity, with_scales
from pocketclip.types import Features, ImageTextBatch


def make(captions: int, num_synthetic: int) -> tuple[Features, ImageTextBatch]:
    texts = torch.arange(2.0 * captions)[:, None]
    mask = torch.ones(2 * captions, 0, dtype=torch.bool)
    ids = torch.arange(2 * captions)
    batch = ImageTextBatch(torch.zeros(2, 1), texts, mask, torch.arange(2), ids, num_synthetic=num_synthetic)
    return Features(torch.zeros(2, 1), texts, torch.tensor(1.0), torch.tensor(0.0)), batch


def first_text(features: Features, batch: ImageTextBatch) -> Tensor:
    """Names the caption it was given."""
    assert torch.equal(features.text, batch.tokens)
    assert batch.captions_per_image == 1
    return features.text[0, 0]


@pytest.mark.parametrize(
    ("captions", "num_synthetic", "expected"),
    [
        (1, 0, {"x": 0.0}),
        (3, 0, {"x": 1.0}),  # of captions 0, 1 and 2
        (2, 1, {"x": 0.0, "x_synthetic": 1.0}),
        (5, 3, {"x": 0.5, "x_synthetic": 3.0}),
    ],
)
def test_real_and_synthetic_captions_are_averaged_apart(
    captions: int, num_synthetic: int, expected: dict[str, float]
) -> None:
    found = caption_by_caption("x", first_text, *make(captions, num_synthetic))
    assert {name: float(value) for name, value in found.items()} == expected


def test_scales_replace_the_teachers_own(taught: tuple[Features, ImageTextBatch]) -> None:
    teachers = taught[1].teachers
    assert with_scales(teachers, None) == teachers
    changed = with_scales(teachers, (70.0, 60.0))
    assert [teacher.scale for teacher in changed] == [70.0, 60.0]
    assert changed[0].image is teachers[0].image


def test_a_scale_for_each_teacher() -> None:
    check_scales(None, 2)
    check_scales((1.0, 2.0), 2)
    with pytest.raises(UserError, match=r"objective\.teacher_scales: 1 value\(s\) for 2 teacher\(s\)"):
        check_scales((1.0,), 2)


def test_a_batch_without_teachers_is_our_mistake(taught: tuple[Features, ImageTextBatch]) -> None:
    with pytest.raises(AssertionError, match="no teacher features"):
        teacher_affinity(ContrastiveInputs.of(*taught), [])


def test_a_large_batch_gives_the_same_affinity_without_the_matrix(
    taught: tuple[Features, ImageTextBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = ContrastiveInputs.of(*taught)
    whole = teacher_affinity(inputs, taught[1].teachers)
    monkeypatch.setattr("pocketclip.losses.contrastive.MATRIX_LIMIT", 15)
    torch.testing.assert_close(teacher_affinity(inputs, taught[1].teachers), whole)
