"""Batches that carry what teachers made of them."""

import torch
from torch.nn import functional as F

from pocketclip.types import Features, ImageTextBatch, TeacherFeatures

WIDTHS, SCALES = (5, 7), (30.0, 12.0)
"""The student is as wide as the first teacher."""


def make_taught(num_images: int = 4, captions: int = 1, num_synthetic: int = 0) -> tuple[Features, ImageTextBatch]:
    """A student's features and a batch with two teachers' in double precision."""
    random = torch.Generator().manual_seed(0)
    num_texts = num_images * captions

    def rows(count: int, width: int) -> torch.Tensor:
        return torch.randn(count, width, dtype=torch.float64, generator=random)

    teachers = tuple(
        TeacherFeatures(F.normalize(rows(num_images, width), dim=1), F.normalize(rows(num_texts, width), dim=1), scale)
        for width, scale in zip(WIDTHS, SCALES, strict=True)
    )
    batch = ImageTextBatch(
        images=torch.zeros(num_images, 3),
        tokens=torch.zeros(num_texts, 3),
        token_mask=torch.zeros(num_texts, 0, dtype=torch.bool),
        image_ids=torch.arange(num_images),
        caption_ids=torch.arange(num_texts),
        teachers=teachers,
        num_synthetic=num_synthetic,
    )
    scale, bias = torch.tensor(7.0, dtype=torch.float64), torch.tensor(-1.5, dtype=torch.float64)
    return Features(3 * rows(num_images, 5), 2 * rows(num_texts, 5), scale, bias), batch
