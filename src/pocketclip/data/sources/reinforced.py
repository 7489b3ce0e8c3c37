"""Reinforced shards: ordinary WebDataset shards whose samples also carry what teachers make of them.

Beside `KEY.jpg` and `KEY.json` a sample has `KEY.views.json`, its views as numbers, and `KEY.features.npy`, a row for
each view, caption and synthetic caption, in that order, with all teachers side by side. `reinforcement.json` says who
the teachers were. Dataset reinforcement, https://arxiv.org/abs/2303.08983; multi-modal, https://arxiv.org/abs/2311.17049.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import field_validator

from pocketclip.config import Config, digest
from pocketclip.data.pictures.augment import ViewParameters
from pocketclip.data.source import Gift, clean_captions
from pocketclip.data.sources.image_files import locate
from pocketclip.data.sources.reinforced_shards import FEATURES, VIEWS, read_array, unpack
from pocketclip.data.sources.reinforcement import (
    MANIFEST,
    Manifest,
    ReinforcedData,
    Reinforcement,
    check_shard,
    read_manifest,
)
from pocketclip.data.sources.webdataset import WebdatasetSource
from pocketclip.errors import BrokenItemError, UserError, unknown_choice


class ReinforcedSourceConfig(Config):
    """`reinforced:DIR` or `reinforced:DIR,teachers=NAME`, a folder that `pocketclip reinforce` wrote."""

    positional: ClassVar[tuple[str, ...]] = ("folder",)
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions", "stored_views"})
    kind: Literal["reinforced"] = "reinforced"
    folder: str
    teachers: tuple[str, ...] = ()
    """Names of the stored teachers to learn from; empty means all of them."""

    @field_validator("teachers", mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def open(self) -> "ReinforcedSource":
        """Read the manifest and index the shards, which have to be those that it lists."""
        folder = locate(Path(self.folder))
        manifest = read_manifest(folder)
        for shard in manifest.shards:
            check_shard(folder, shard)
        return ReinforcedSource(f"reinforced:{self.folder}", folder, manifest, self.teachers)


class ReinforcedSource(WebdatasetSource):
    """Shards by number, with what is stored for each sample; learnt from are the `chosen` teachers, or all.

    A shard that was reinforced with other teachers or settings than the manifest says is a UserError.
    """

    gives = frozenset({"captions", "stored_views"})

    def __init__(self, name: str, folder: Path, manifest: Manifest, chosen: Sequence[str]) -> None:
        super().__init__(name, [folder / shard.file for shard in manifest.shards], ("json", VIEWS, FEATURES))
        self.folder, self.manifest, self._mark = folder, manifest, manifest.mark
        for first in np.unique(self._table[:, 0], return_index=True)[1].tolist():  # of each shard
            with suppress(BrokenItemError):  # of its own, and named when it is read
                self.reinforcement(first)
        self.teachers = tuple(zip(manifest.teachers, manifest.columns, strict=True))
        known = {stored[0].name: stored for stored in self.teachers}
        for teacher in chosen:
            if teacher not in known:
                raise unknown_choice(f"teacher of {folder}", teacher, known)
        if chosen:
            self.teachers = tuple(known[teacher] for teacher in dict.fromkeys(chosen))

    @property
    def stored(self) -> ReinforcedData:
        """What the shards hold beside pictures and captions."""
        return ReinforcedData(self.name, self.manifest, self.teachers, self.reinforcement)

    def fingerprint(self) -> str:
        """From the shards' own and the manifest's mark."""
        return digest([super().fingerprint(), self._mark])

    def reinforcement(self, index: int) -> Reinforcement:
        """What is stored for a sample; the picture is not read.

        Raises:
            BrokenItemError: it is missing, or not what the manifest says.
            UserError: it was made by other teachers or settings than the manifest says.
        """
        text, place = self.member(index, "json")
        try:
            values = json.loads(text)
            views = tuple(map(ViewParameters.from_json, json.loads(self.member(index, VIEWS)[0])))
            stored = read_array(self.member(index, FEATURES)[0])
            mark, synthetic = values["reinforcement"], tuple(values["synthetic"])
            num_texts = len(clean_captions(values["captions"])) + len(synthetic)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BrokenItemError(f"{place}: what is stored for it is damaged ({error}).") from error
        if mark != self._mark:
            raise UserError(
                f"{place}: was reinforced by other teachers or settings ({mark}) than {self.folder / MANIFEST} says "
                f"({self._mark}); bring the right shard or manifest back, or reinforce again."
            )
        if len(views) != self.manifest.num_views:
            raise BrokenItemError(f"{place}: has {len(views)} views; {MANIFEST} says {self.manifest.num_views}.")
        expected = (len(views) + num_texts, self.manifest.width)
        if stored.shape != expected:
            message = f"{place}: features are {stored.shape}; views, captions and teachers need {expected}."
            raise BrokenItemError(message)
        return Reinforcement(views, unpack(stored), synthetic)
