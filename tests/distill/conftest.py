"""Reinforced folders made by real, tiny teachers."""

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import teachers as tiny


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `bundle`, `clip`, `blip` and `silent`."""
    folder = tmp_path_factory.mktemp("models")
    tiny.write_bundle_teacher(folder / "tiny")
    tiny.write_huggingface_teacher(folder / "clip")
    tiny.write_captioner(folder / "blip")
    tiny.write_captioner(folder / "silent", silent=True)
    return folder


@pytest.fixture
def settings(models: Path, make_folder: Callable[..., Path]) -> Callable[..., dict[str, Any]]:
    """A function that gives a recipe's values over eight pictures with two captions each, two shards and a bit."""

    def give(**changes: Any) -> dict[str, Any]:
        values = {
            "teachers": [
                {"kind": "bundle", "path": str(models / "tiny")},
                {"kind": "huggingface", "name": str(models / "clip"), "scale": 60},
            ],
            "augment": {"crop_scale": [0.3, 1.0], "rand_augment": {}},
            "num_views": 3,
            "precision": "float32",
            "batch_size": 6,
            "samples_per_shard": 3,
        }
        if "source" not in changes:
            values["source"] = f"folder:{make_folder(8, 2)}"
        return {**values, **changes}

    return give


@pytest.fixture
def write_shard(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes members, as (name, bytes), into a shard."""

    def write(members: Sequence[tuple[str, bytes]]) -> Path:
        with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return tmp_path / "a.tar"

    return write
