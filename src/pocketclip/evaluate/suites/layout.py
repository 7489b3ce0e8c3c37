"""Where the sets of a suite lie below one folder, and how each is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketclip.config import digest, kinds_of
from pocketclip.data import SourceConfig, open_source, split_source_text
from pocketclip.data.source import Source
from pocketclip.errors import UserError
from pocketclip.evaluate.encoded import Encoded
from pocketclip.evaluate.suites import SuiteSet
from pocketclip.evaluate.task_data import TaskData

SHARDS = ("test", "")
"""Folders of a set that may hold its shards, as DataComp downloads them."""
BESIDE_SHARDS = {"class_names": "classnames.txt", "templates": "zeroshot_classification_templates.txt"}
"""Files beside them, by the setting of zero_shot that each is for."""


@dataclass(frozen=True)
class Found:
    """A set that is there."""

    one: SuiteSet
    data: dict[str, Any]
    """How its source is written."""
    train: dict[str, Any] | None
    settings: dict[str, Any]
    """Of the task, that come with the data."""


def find_set(one: SuiteSet, root: Path) -> Found | str:
    """A set below a root; or why it cannot be measured, in words."""
    if one.unmeasured:
        return one.unmeasured
    folder = find_folder(root, one.folders)
    if folder is None:
        return f"no folder {' or '.join(one.folders)}"
    train_folder = find_folder(root, one.train_folders) if one.train_folders else None
    if one.train_folders and train_folder is None:
        return f"nothing to learn from: no folder {' or '.join(one.train_folders)}"
    data, settings = _written(one, folder)
    train = None if train_folder is None else _written(one, train_folder)[0]
    return Found(one, data, train, settings)


class OpenedSets:
    """The sets of a suite, of which each place is opened once, and the images of each are read once."""

    def __init__(self) -> None:
        self.encoded = Encoded()
        self._sources: dict[str, Source] = {}
        self._data: dict[str, TaskData] = {}

    def open(self, found: Found) -> TaskData:
        """The opened set.

        Raises:
            UserError: it cannot be read.
        """
        both = digest([found.data, found.train])
        if both not in self._data:
            train = None if found.train is None else self._source(found.train, found.one.name)
            self._data[both] = TaskData(self._source(found.data, found.one.name), train=train, encoded=self.encoded)
        return self._data[both]

    def _source(self, spec: dict[str, Any], name: str) -> Source:
        place = digest(spec)
        if place not in self._sources:
            self._sources[place] = open_source(spec, place=name)
        return self._sources[place]


def find_folder(root: Path, names: tuple[str, ...]) -> Path | None:
    """The first of some folders that is there, however its name is spelt."""
    for name in names:
        folder: Path | None = root
        for part in Path(name).parts:
            folder = None if folder is None else _child(folder, part)
        if folder is not None:
            return folder
    return None


def _child(folder: Path, name: str) -> Path | None:
    if (folder / name).is_dir():
        return folder / name
    wanted = _plain(name)
    try:
        near = sorted(path for path in folder.iterdir() if _plain(path.name) == wanted and path.is_dir())
    except OSError:
        return None
    return near[0] if near else None


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in "-_ ")


def _written(one: SuiteSet, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A source as a mapping, its places whole, and settings that come with it."""
    if one.data:
        values = dict(split_source_text(one.data))
        places = kinds_of(SourceConfig)[values["kind"]].places
        return {key: str(folder / value) if key in places else value for key, value in values.items()}, {}
    for below in SHARDS:
        if shards := sorted((folder / below).glob("*.tar")):
            beside = {} if "protocol" in one.settings else _beside(folder)
            npy = {"npy": "+".join(one.npy)} if one.npy else {}
            return {"kind": "webdataset", "shards": str(shards[0].parent), **npy}, beside
    return {"kind": "folder", "dir": str(folder), "classes": "folders"}, {}


def _beside(folder: Path) -> dict[str, Any]:
    missing = [name for name in BESIDE_SHARDS.values() if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: has shards and no {' and no '.join(missing)}, which say what to ask.")
    return {key: str(folder / name) for key, name in BESIDE_SHARDS.items()}
