"""A folder of pictures, each with its captions beside it.

`dog.jpg` takes its captions from `dog.txt` (one a line) or `dog.json` (`{"captions": [...]}`). With `classes=folders`
a picture's class is the folder it lies in, directly below DIR.
"""

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from pocketclip.data.captions import clean_captions
from pocketclip.data.keys import content_id, unique_keys
from pocketclip.data.source import IMAGE_SUFFIXES, Gift, Sample, Source, SourceSettings
from pocketclip.data.sources.image_files import file_stamp, locate, read_file, read_text
from pocketclip.errors import BrokenItemError, UserError


class FolderSourceConfig(SourceSettings):
    """`folder:DIR`, or `folder:DIR,classes=folders`."""

    positional: ClassVar[tuple[str, ...]] = ("dir",)
    places: ClassVar[frozenset[str]] = frozenset({"dir"})
    kind: Literal["folder"] = "folder"
    dir: Path
    classes: Literal["none", "folders"] = "none"
    """Whether each folder directly below `dir` is a class."""

    @property
    def gives(self) -> frozenset[Gift]:
        """What the opened source gives."""
        return frozenset({"captions"} if self.classes == "none" else {"captions", "classes"})

    def read(self) -> "FolderSource":
        """Find the pictures, at any depth, in the order of their names."""
        root = locate(self.dir)
        if not root.is_dir():
            raise UserError(f"{root}: not a folder.")
        paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if not paths:
            raise UserError(f"{root}: no pictures here (looked for {', '.join(sorted(IMAGE_SUFFIXES))}).")
        keys = unique_keys([str(path.relative_to(root).with_suffix("")) for path in paths])
        name = f"folder:{self.dir}"
        if self.classes == "none":
            return FolderSource(name, paths, keys)
        folders = [path.relative_to(root).parts[0] if path.parent != root else None for path in paths]
        if folders.count(None):
            stray = paths[folders.index(None)]
            raise UserError(f"{root}: classes=folders: {stray} does not lie in the folder of a class.")
        return FolderSource(name, paths, keys, tuple(str(folder) for folder in folders))


@dataclass(frozen=True)
class FolderSource(Source):
    """Pictures with sidecar captions, both read when asked for."""

    name: str
    paths: Sequence[Path]
    keys: Sequence[str]
    classes: tuple[str, ...] = ()
    """The class of each picture; empty where there are none."""

    def __len__(self) -> int:
        return len(self.paths)

    def sample(self, index: int) -> Sample:
        path = self.paths[index]
        return Sample(self.keys[index], read_file(path), read_sidecar(path), str(path), self.label(index))

    def place(self, index: int) -> str:
        return str(self.paths[index])

    def picture_id(self, index: int) -> int:
        return content_id(read_file(self.paths[index]))

    def captions(self, index: int) -> tuple[str, ...]:
        return read_sidecar(self.paths[index])

    @cached_property
    def class_names(self) -> tuple[str, ...] | None:
        return tuple(sorted(set(self.classes))) or None

    def label(self, index: int) -> int | None:
        return bisect_left(self.class_names or (), self.classes[index]) if self.classes else None

    def stamp(self) -> Any:
        sidecars = (path.with_suffix(suffix) for path in self.paths for suffix in (".txt", ".json"))
        stamps = [file_stamp(path) for path in (*self.paths, *sidecars)]
        return [list(self.keys), stamps, list(self.classes)]


def read_sidecar(path: Path) -> tuple[str, ...]:
    """The captions beside a picture; none where there is no sidecar, BrokenItemError where it cannot be read."""
    try:
        if (sidecar := path.with_suffix(".json")).is_file():
            return captions_of(json.loads(read_text(sidecar)), place=str(sidecar))
        if (sidecar := path.with_suffix(".txt")).is_file():
            return clean_captions(read_text(sidecar).splitlines())
    except BrokenItemError:
        raise
    except (UserError, ValueError, RecursionError) as error:
        raise BrokenItemError(f"{sidecar}: {str(error).removeprefix(f'{sidecar}: ')}") from error
    return ()


def captions_of(values: Any, *, place: str) -> tuple[str, ...]:
    """The captions in a sample's JSON: `captions` (a list) or `caption` (one text); BrokenItemError for all else."""
    if isinstance(values, dict):
        captions = values.get("captions", values.get("caption"))
        texts = [captions] if isinstance(captions, str) else captions
        if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
            return clean_captions(texts)
        if captions is None and "label" in values:
            return ()
    raise BrokenItemError(f'{place}: should hold {{"captions": ["...", "..."]}}.')
