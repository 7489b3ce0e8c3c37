"""A folder of pictures, each with its captions beside it.

`dog.jpg` takes its captions from `dog.txt` (one a line) or `dog.json` (`{"captions": [...]}`), also called
`dog.jpg.txt` or `dog.TXT`. With `classes=folders` a picture's class is the folder it lies in, directly below DIR.
"""

import hashlib
import os
import sys
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from pocketclip.config import digest
from pocketclip.data.keys import PackedTexts, content_id, safe_key
from pocketclip.data.left_out import LeftOut
from pocketclip.data.sample_json import SampleText, from_json, given_captions
from pocketclip.data.source import Gift, Sample, Source, SourceSettings
from pocketclip.data.sources.folder_walk import Walk
from pocketclip.data.sources.image_files import file_stamp, locate, read_file, read_text
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.preprocess import IMAGE_SUFFIXES


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
        classes: set[Gift] = {"classes"} if self.classes == "folders" else set()
        return frozenset[Gift]({"captions", "identities"}) | classes

    def read(self) -> "FolderSource":
        """Find the pictures, at any depth, in the order of their names."""
        root = locate(self.dir)
        if not root.is_dir():
            raise UserError(f"{root}: not a folder.")
        walk = Walk.of(root)
        if not len(walk.pictures):
            listed = "".join(f"\n  {line}" for line in walk.left_out)
            raise UserError(f"{root}: no pictures here (looked for {', '.join(sorted(IMAGE_SUFFIXES))}).{listed}")
        keys = PackedTexts(safe_key(os.path.splitext(name)[0]) for name in walk.pictures).as_unique_keys()
        classes: tuple[str, ...] = ()
        if self.classes == "folders":
            stray = next((name for name in walk.pictures if os.sep not in name), None)
            if stray is not None:
                raise UserError(f"{root}: classes=folders: {root / stray} does not lie in the folder of a class.")
            classes = tuple(sys.intern(name.partition(os.sep)[0]) for name in walk.pictures)
        return FolderSource(f"folder:{self.dir}", str(root), walk.pictures, walk.sidecars, keys, classes, walk.left_out)


@dataclass(frozen=True)
class FolderSource(Source):
    """Pictures with sidecar captions, both read when asked for."""

    name: str
    root: str
    pictures: PackedTexts
    """Names below the root."""
    sidecars: PackedTexts
    """Of each picture; empty where there is none."""
    keys: PackedTexts
    classes: tuple[str, ...] = ()
    """The class of each picture; empty where there are none."""
    left_out: Sequence[LeftOut] = ()

    def __len__(self) -> int:
        return len(self.pictures)

    def sample(self, index: int) -> Sample:
        image, text = read_file(self.place(index)), self._text(index)
        label = self.label(index)
        return Sample(self.keys[index], image, text.captions, self.place(index), label, text.metadata, text.identity)

    def place(self, index: int) -> str:
        return os.path.join(self.root, self.pictures[index])

    def picture_id(self, index: int) -> int:
        return content_id(read_file(self.place(index)))

    def key(self, index: int) -> str:
        return self.keys[index]

    def captions(self, index: int) -> tuple[str, ...]:
        return self._text(index).captions

    def metadata(self, index: int) -> Mapping[str, Any]:
        return self._text(index).metadata

    def _text(self, index: int) -> SampleText:
        name = self.sidecars[index]
        if not name:
            return SampleText()
        # Beside IMG_1.jpg a phone's export puts IMG_1.jpg.json, with anything but captions
        own = os.path.splitext(name)[0] != self.pictures[index]
        return read_sidecar(Path(self.root, name), needed=own)

    @cached_property
    def class_names(self) -> tuple[str, ...] | None:
        return tuple(sorted(set(self.classes))) or None

    def label(self, index: int) -> int | None:
        return bisect_left(self.class_names or (), self.classes[index]) if self.classes else None

    @property
    def has_identities(self) -> bool:
        return True

    def identity(self, index: int) -> str | None:
        return self._text(index).identity

    def stamp(self) -> Any:
        stamps = hashlib.sha256()
        for names in (self.pictures, self.sidecars):
            for name in names:
                stamps.update(repr(file_stamp(os.path.join(self.root, name)) if name else None).encode())
        return [stamps.hexdigest(), digest(self.keys.data.hex()), list(self.classes)]


def read_sidecar(path: Path, *, needed: bool = True) -> SampleText:
    """What the file beside a picture says; BrokenItemError where it cannot be read, or lacks `needed` captions."""
    try:
        text = read_text(path)
        if path.suffix.lower() == ".json":
            return from_json(text.encode(errors="surrogatepass"), place=str(path), needed=needed)
        return SampleText(given_captions(text.split("\n"), place=str(path)))
    except BrokenItemError:
        raise
    except (UserError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BrokenItemError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
