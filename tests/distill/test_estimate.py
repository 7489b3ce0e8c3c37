from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pocketclip.distill.config import ReinforceConfig
from pocketclip.distill.estimate import estimate, feature_bytes
from pocketclip.distill.reinforce import Reinforcer
from pocketclip.distill.store import write_reinforced
from pocketclip.errors import UserError
from pocketclip.stages.engine import compute_here
from pocketclip.stages.watch import SILENT

Settings = Callable[..., dict[str, Any]]


def opened(values: dict[str, Any]) -> Reinforcer:
    return Reinforcer(ReinforceConfig.parse(values, place="recipe"), torch.device("cpu"))


def test_the_published_sizes() -> None:
    assert feature_bytes(30, 6, 1536) == 110_592  # DataCompDR-12M
    assert feature_bytes(10, 6, 1536) == 49_152  # DataCompDR-1B


def test_the_estimate_is_near_what_is_then_written(settings: Settings, tmp_path: Path) -> None:
    reinforcer = opened(settings(samples_per_shard=8))
    found = estimate(reinforcer, seconds=0.1)
    assert (found.num_samples, found.num_views, found.texts_per_sample, found.width) == (8, 3, 2.0, 28)
    assert found.feature_bytes_per_sample == 5 * 28 * 2
    manifest = write_reinforced(reinforcer, tmp_path / "out", compute_here, SILENT, resume=False)
    assert found.num_bytes == pytest.approx(manifest.shards[0].num_bytes, rel=0.5)
    assert found.seconds == pytest.approx(8 / found.samples_per_second)
    assert 2 <= found.num_measured <= 8


def test_broken_captions_do_not_count(settings: Settings, make_folder: Callable[..., Path]) -> None:
    folder = make_folder(8, 2, "some")
    (folder / "007.txt").write_bytes(b"\xff")
    assert estimate(opened(settings(source=f"folder:{folder}")), seconds=0).texts_per_sample == 2


def test_samples_that_are_all_broken_are_named(settings: Settings, make_folder: Callable[..., Path]) -> None:
    folder = make_folder(3, 1, "bad")
    for file in folder.glob("*.jpg"):
        file.write_bytes(b"no picture")
    with pytest.raises(UserError, match="none of the first samples could be reinforced"):
        estimate(opened(settings(source=f"folder:{folder}")))
