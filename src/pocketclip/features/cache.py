"""Features of frozen towers on disk, found again by what made them.

An entry is a folder named by a hash of data, tower, weights and preprocessing; any change of these makes a new one.
Images and texts have entries of their own, so that another image tower reuses the text features. An entry is a store
of blocks, `blocks/`, until all are there and joined: a stopped run goes on where it was.
"""

import shutil
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pocketclip.config import Config, digest
from pocketclip.data.pictures.augment import CropScale, View
from pocketclip.data.source import Source
from pocketclip.errors import UserError
from pocketclip.files import cache_root, cannot_write
from pocketclip.stages.columns import join, read_joined
from pocketclip.stages.engine import Engine, fill
from pocketclip.stages.filling import FILLING
from pocketclip.stages.store import MANIFEST, Block, BlockFolder, Columns, OpenStage, Stage
from pocketclip.stages.watch import Watch

FORMAT = 7  # raise when the same inputs would give other numbers or other files
ELSEWHERE = "the environment variable POCKETCLIP_CACHE"
"""How a user has the cache elsewhere; `elsewhere` of a stage whose blocks come here."""


class CacheConfig(Config):
    """Which views of each image are stored."""

    views: Annotated[tuple[View, ...], Field(min_length=1)] | Literal["stored"] = ("centre",)
    """`stored` is every view that reinforced data hold of an image, which their teachers saw too."""
    crop_scale: CropScale = (0.5, 1.0)
    """Share of the area that the views `crop` and `crop_flip` keep."""

    def num_views(self, source: Source | None) -> int:
        """Of each image of a source, which only stored views have to ask."""
        if self.views != "stored":
            return len(self.views)
        stored = None if source is None else source.stored
        assert stored is not None, "the recipe asks stored views of reinforced data only"
        return stored.manifest.num_views


def cache_folder() -> Path:
    """In `$POCKETCLIP_CACHE`, or in `~/.cache/pocketclip`."""
    return cache_root() / "features"


def in_half_precision(block: Block) -> Block:
    """A block with its features as the cache keeps them.

    Raises:
        UserError: one of them does not fit float16.
    """
    features = block["features"].astype(np.float16)
    if not np.isfinite(features).all():
        raise UserError("A frozen tower gave features beyond float16 (not finite or above 65,504).")
    return replace(block, arrays={**block.arrays, "features": features})


def cached(root: Path, stage: Stage, open_stage: OpenStage, engine: Engine, watch: Watch, columns: Columns) -> Block:
    """What a stage makes of its whole source, mapped into memory; computes only what the cache at `root` lacks.

    The entry is named by what the stage is made from. `columns` are the stage's arrays; for the others see `fill`.

    Raises:
        UserError: the disk is full; anything that the stage raises.
    """
    entry = root / digest([FORMAT, stage.made_from])
    whole = _read(entry, stage, columns)
    if whole is None:
        with FILLING.counted(), _lock(root, entry.name):  # another process waits, and then finds the entry filled
            whole = _read(entry, stage, columns)
            if whole is None:
                _clear_damage(entry, stage)
                folder = fill(entry / "blocks", stage, open_stage, engine, watch, resume=True)
                return join(folder, entry, {**columns, "features": columns["features"].astype(np.float16)})
    watch.work(stage.work, stage.num_samples, stage.num_samples, whole.broken)
    return whole


def is_filled(root: Path, stage: Stage) -> bool:
    """Whether the cache at `root` has all that a stage makes."""
    return (root / digest([FORMAT, stage.made_from]) / MANIFEST).is_file()


def _read(entry: Path, stage: Stage, columns: Columns) -> Block | None:
    """A whole entry; None where there is none, or a damaged one."""
    try:
        BlockFolder(entry, stage).check_manifest()
        whole = read_joined(entry, columns)
    except UserError:
        return None
    if (entry / "blocks").is_dir():  # killed before they were removed
        shutil.rmtree(entry / "blocks", ignore_errors=True)
    return whole


def _clear_damage(entry: Path, stage: Stage) -> None:
    """Remove what can be neither read nor gone on with: a damaged entry only costs the time to make it again."""
    blocks = BlockFolder(entry / "blocks", stage)
    try:
        if (blocks.path / MANIFEST).is_file():
            blocks.check_manifest()
        damaged = (entry / MANIFEST).is_file()
    except UserError:
        damaged = True
    if damaged:
        shutil.rmtree(entry)


def _lock(root: Path, name: str) -> AbstractContextManager[object]:
    """Only one process fills an entry."""
    from filelock import FileLock

    try:
        locks = root.with_name(f"{root.name}-locks")
        locks.mkdir(parents=True, exist_ok=True)
        return FileLock(locks / name).acquire()
    except OSError as error:
        raise cannot_write(root, error, elsewhere=ELSEWHERE) from error
