"""Batches that carry what teachers made of them, and runs that learn from it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from conftest import QuietWatch
from pocketclip.data import open_source
from pocketclip.data.pictures.augment import AugmentConfig, draw_view
from pocketclip.data.sources.reinforced import ReinforcedSample, write_shard
from pocketclip.data.sources.reinforcement import Manifest, StoredTeacher, write_manifest
from pocketclip.recipe import Recipe
from pocketclip.run.train import train
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


def write_reinforced(folder: Path, count: int = 12, *, num_synthetic: int = 1, views: int = 3) -> Path:
    """Drawn scenes with two teachers' features, which are random but belong to each shape's colour."""
    folder.mkdir(parents=True)
    teachers = tuple(
        StoredTeacher(name=f"of {width}", kind="bundle", width=width, scale=scale, image_size=32, mark="a" * 16)
        for width, scale in zip(WIDTHS, SCALES, strict=True)
    )
    augment = AugmentConfig(crop_scale=(0.5, 1.0))
    manifest = Manifest(teachers=teachers, num_views=views, num_synthetic=num_synthetic, augment=augment)
    scenes = open_source({"kind": "scenes", "count": count, "image_size": 32})

    def made(number: int) -> ReinforcedSample:
        sample, random = scenes[number], np.random.default_rng(number)
        rows = views + len(sample.captions) + num_synthetic
        features = np.concatenate([random.normal(size=(1, width)) for width in WIDTHS], axis=1).repeat(rows, 0)
        features += 0.3 * random.normal(size=features.shape)
        drawn = [draw_view(augment, (32, 32), [number, view]) for view in range(views)]
        synthetic = [f"synthetic {sample.captions[0]}"] * num_synthetic
        return ReinforcedSample(sample, drawn, features.astype(np.float32), synthetic)

    write_manifest(folder, manifest, [write_shard(folder / "reinforced-000000.tar", map(made, range(count)), manifest)])
    return folder


def run_and_resume(recipe: Recipe, folder: Path, killed_at: int | None) -> dict[str, Tensor]:
    """The weights of a run, which was killed after a step and then resumed."""

    class Killed(Exception):  # noqa: N818
        pass

    class Killing(QuietWatch):
        def step(self, name: str, done: int, total: int, images_per_second: float, metrics: Any) -> None:
            if done == killed_at:
                raise Killed

    if killed_at is not None:
        with pytest.raises(Killed):
            train(recipe, folder, name="test", watch=Killing())
    outcome = train(recipe, folder, name="test", watch=QuietWatch(), resume=killed_at is not None)
    return outcome.model.model.state_dict()
