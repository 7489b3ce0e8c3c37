"""The data of a run, before its first step: are its splits apart, and are they still what they were?"""

import io
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.data import Source, SourceConfig, hold_out
from pocketclip.data.identity import caption_ids, first_equal, overlap, picture_ids, verify_content
from pocketclip.data.source import Subset, whole_of
from pocketclip.data.subset import ChosenSubset, choose
from pocketclip.errors import UserError
from pocketclip.files import holds_only, write_atomically
from pocketclip.recipe import DataConfig
from pocketclip.stages.watch import SILENT, Watch

LARGE_OVERLAP = 0.05
"""Share of a split's pictures that may be in another one without leave: a few copies move a score less than chance."""
LISTS = "data.npz"
Numbers = npt.NDArray[np.int64]


def open_data(config: DataConfig, watch: Watch = SILENT, *, verify: bool = False) -> tuple[Source, Source]:
    """The training and validation sources."""
    source = open_training(config, watch, verify=verify)
    if config.val is not None:
        held = open_split(config.val, watch, verify=verify)
    elif source.images_per_example > 1:
        raise UserError(
            f"data.val: is needed with {source.name}, from which held-out images would lose their partners."
        )
    else:
        source, held = hold_out(source, config.hold_out, watch)
    return source if config.subset is None else choose(source, config.subset, watch), held


def open_training(config: DataConfig, watch: Watch = SILENT, *, verify: bool = False) -> Source:
    """What training and held-out pictures come from: the whole of a source, or `at_most` some from all of it."""
    source = open_split(config.train, watch, verify=verify)
    if config.at_most is None or config.at_most >= len(source):
        return source
    if source.images_per_example > 1:
        raise UserError(f"data.at_most: {source.name} has examples of several images, which would lose their partners.")
    return excerpt(source, config.at_most)


class Excerpt(Subset):
    """What stands for a source that is larger than anyone has time to look at."""

    alone = True


def excerpt(source: Source, count: int) -> Source:
    """Samples from all of a source, evenly spread, that stand for it."""
    places = np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(np.int64)
    return Excerpt(source, places, source.name)


def open_split(config: SourceConfig, watch: Watch = SILENT, *, verify: bool = False) -> Source:
    """A source of a recipe; with `verify` known by the bytes of every picture, not by times of files."""
    source: Source = config.open()
    if verify:
        verify_content(source, watch)
    return source


def check_apart(splits: Mapping[str, Source], config: DataConfig, watch: Watch) -> dict[str, list[str]]:
    """By split of `train`, `val` and `test`, what to note of pictures that are in two of them, or in one of them twice.

    More than `LARGE_OVERLAP` is a UserError without `data.allow_overlap`; drawings may be drawn twice.
    """
    notes: dict[str, list[str]] = {name: [] for name in splits}
    if isinstance(splits["train"], ChosenSubset):
        notes["train"] += splits["train"].notes
    ids = picture_ids(splits["train"], watch)
    if num_copies := int((first_equal(ids) != np.arange(len(ids))).sum()):
        different = len(ids) - num_copies
        notes["train"].append(f"data.train: {len(ids):,} pictures are {different:,} different ones, the others copies")
    for name, other in (("val", "train"), ("test", "train"), ("test", "val")):
        if name not in splits or other not in splits:
            continue
        shared = overlap(splits[name], splits[other], watch)
        if not shared.count:
            continue
        examples = "; ".join(f"{first} is {second}" for first, second in shared.examples)
        more = "; ..." if shared.count > len(shared.examples) else ""
        note = f"data.{name}: {shared.count:,} of {shared.of:,} pictures are in data.{other}, too ({examples}{more})"
        if shared.share > LARGE_OVERLAP and not config.allow_overlap and not splits[name].drawn:
            raise UserError(
                f"{note}. A score on pictures that were trained on says nothing of others. Give data.{name} other "
                "pictures, take these out with `pocketclip data mix ... --without`, or allow it with "
                "--set data.allow_overlap=true."
            )
        notes[name].append(note)
    for note in itertools.chain(*notes.values()):
        watch.note(note)
    for name, source in splits.items():
        if source.credit:
            notes[name].append(f"data.{name}: {source.credit}")
    return notes


@dataclass(frozen=True)
class DataList:
    """What a source held, sample by sample."""

    fingerprint: str
    pictures: Numbers
    captions: Numbers
    places: list[str]

    @classmethod
    def of(cls, source: Source, watch: Watch) -> "DataList":
        """Read, or from the cache."""
        places = [source.place(index) for index in range(len(source))]
        return cls(source.fingerprint(), picture_ids(source, watch), caption_ids(source, watch), places)

    def same_samples(self, other: "DataList") -> bool:
        """Whether pictures and captions are the same, in the same order, wherever they lie."""
        return np.array_equal(self.pictures, other.pictures) and np.array_equal(self.captions, other.captions)

    def changes(self, now: "DataList") -> list[str]:
        """What is different in a later list, by name."""
        before, after = ({place: row for row, place in enumerate(own.places)} for own in (self, now))
        both = [(before[place], after[place]) for place in before if place in after]
        kinds = {
            "added": [place for place in after if place not in before],
            "removed": [place for place in before if place not in after],
            "with other bytes": [now.places[new] for old, new in both if self.pictures[old] != now.pictures[new]],
            "with other captions": [now.places[new] for old, new in both if self.captions[old] != now.captions[new]],
        }
        told = [f"{len(places):,} {kind} ({_first(places)})" for kind, places in kinds.items() if places]
        return told or ["the same pictures in another order"]


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def keep_lists(folder: Path, splits: Mapping[str, Source], watch: Watch) -> None:
    """Write what the splits hold to `folder/data.npz`, for `check_unchanged` of a resumed run."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, source in _listed(splits):
        own = DataList.of(source, watch)
        told = json.dumps({"fingerprint": own.fingerprint, "places": own.places})  # ASCII, whatever names hold
        arrays |= {f"{name}_pictures": own.pictures, f"{name}_captions": own.captions}
        arrays[f"{name}_places"] = np.frombuffer(told.encode("ascii"), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(folder / LISTS, buffer.getvalue())


def check_unchanged(folder: Path, splits: Mapping[str, Source], watch: Watch, *, verify: bool = False) -> None:
    """A run goes on with the data it was begun with, or not at all: a UserError names what changed.

    Files that were only touched or moved are noted. Nothing is compared with a run that was begun without a list.
    """
    if not (folder / LISTS).is_file():
        if not holds_only(folder, "recipe.yaml", "fit.json"):  # there is something to go on with
            watch.note(f"{folder}: was begun without a list of its data; whether they changed is not known.")
        return
    there = _read_lists(folder / LISTS)
    for name, source in _listed(splits):
        if name not in there:
            continue
        before = there[name]
        if before.fingerprint == source.fingerprint() and not verify:
            continue
        now = DataList.of(source, watch)
        if not before.same_samples(now):
            drawn_anew = " Other pictures would be held out now, and trained ones measured." if name == "train" else ""
            raise UserError(
                f"{folder}: data.{name} is not what the run was begun with: {'; '.join(before.changes(now))}."
                f"{drawn_anew} Bring the data back as they were, or begin a new run with another --out."
            )
        if before.fingerprint != now.fingerprint:
            watch.note(f"data.{name}: files were touched or moved; every picture and caption is as it was.")


def _listed(splits: Mapping[str, Source]) -> Iterable[tuple[str, Source]]:
    """Splits by name; of one that was held out of another the whole comes first, since the parts follow from it."""
    train, held = splits["train"], splits.get("val")
    if isinstance(train, Subset):
        yield "train", whole_of(train)
    if isinstance(held, Subset):
        yield "val", held
    if isinstance(train, ChosenSubset):
        yield "subset", train
    yield from ((name, source) for name, source in splits.items() if not isinstance(source, Subset))


def _read_lists(file: Path) -> dict[str, DataList]:
    lists = {}
    try:
        with np.load(file, allow_pickle=False) as arrays:
            for name in ("train", "val", "subset", "test"):
                if f"{name}_places" in arrays:
                    told = json.loads(arrays[f"{name}_places"].tobytes())
                    numbers = (arrays[f"{name}_pictures"], arrays[f"{name}_captions"])
                    lists[name] = DataList(told["fingerprint"], *numbers, told["places"])
    except Exception as error:  # whatever NumPy and zipfile raise on a damaged file
        raise UserError(f"{file}: damaged ({error}); delete it to go on without comparing the data.") from error
    return lists
