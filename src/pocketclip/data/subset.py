"""Which of the training samples a run uses: by id, by score, by count, as settings of a recipe and without a copy."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from pocketclip.config import Config
from pocketclip.data.identity import UNREADABLE, name_ids, picture_ids
from pocketclip.data.ids import UID_NAME, IdList, Numbers, read_ids
from pocketclip.data.keys import content_id
from pocketclip.data.scores import MEASURES, Scores, measured, read_scores
from pocketclip.data.source import Source, Subset, broken_item, whole_of
from pocketclip.data.sources.image_files import locate
from pocketclip.data.splits import picture_groups
from pocketclip.errors import BrokenItemError, TooFewError, UserError, unknown_choice
from pocketclip.stages.watch import SILENT, Watch

PLACE = "data.subset"
Share = Annotated[float, Field(gt=0, le=1)]


class SubsetConfig(Config):
    """What is chosen, in the order in which it applies; a smaller `top`, `count` or `share` is inside a larger one."""

    ids: Path | None = None
    """A list of ids: one a line (.txt), a column (.parquet), or DataComp's u8,u8 pairs (.npy)."""
    min: dict[str, float] = {}
    """The least of a score: a column of `scores`, or one of `MEASURES`, such as `caption_words` or `image_side`."""
    max: dict[str, float] = {}
    """The most of a score."""
    language: Literal["en"] | None = None
    """Short for at least half of an image's captions that may be English; see `data/language.py`."""
    drop_near_duplicates: bool = False
    """Of pictures that are equal or nearly so, the first that is left stays."""
    top: Share | None = None
    """Share with the highest score, of those that are left."""
    score: str | None = None
    """By which `top` ranks; may be left out where `scores` has one column."""
    scores: Path | None = None
    """A table of scores by id, .parquet or .csv; `data filter --scores` writes one."""
    count: PositiveInt | None = None
    """Images drawn from those that are left, the same ones wherever they lie."""
    share: Share | None = None
    """The same as a share of them."""
    seed: NonNegativeInt = 0
    """Of the order in which `count` and `share` draw."""
    id: str | None = None
    """What `ids` and `scores` name: `key`, or an entry of the metadata; None is `uid` for DataComp's, else `key`."""

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> Self:
        if not self.model_dump(exclude_defaults=True):
            raise ValueError("chooses nothing; give ids, min, max, language, top, count or share, or leave it out")
        by_score = self.top is not None or self.min or self.max
        if self.count is not None and self.share is not None:
            raise ValueError("count and share both say how many; give one of them")
        if self.top is not None and self.score is None and self.scores is None:
            raise ValueError(f"top needs a score to rank by: {', '.join(MEASURES)}, or scores: FILE")
        if self.score is not None and self.top is None:
            raise ValueError("score has no effect without top")
        if self.scores is not None and not by_score:
            raise ValueError("scores has no effect without top, min or max")
        if self.seed and self.count is None and self.share is None:
            raise ValueError("seed has no effect without count or share")
        if self.id is not None and self.ids is None and self.scores is None:
            raise ValueError("id has no effect without ids or scores")
        return self


def _spelt_out(value: Any) -> Any:
    """A plain file is a list of ids."""
    return {"ids": value} if isinstance(value, str | Path) else value


SubsetSettings = Annotated[SubsetConfig, BeforeValidator(_spelt_out)]


@dataclass(frozen=True)
class ChosenSubset(Subset):
    """What `choose` chose, and what is to be told of that."""

    notes: tuple[str, ...] = ()


def choose(source: Source, config: SubsetConfig, watch: Watch = SILENT) -> ChosenSubset:
    """The samples of a source, or of its training part, that a recipe asks for, in the order of the source.

    Raises:
        UserError: nothing is left, more is asked for than there is, or a file is of other data.
    """
    if source.images_per_example > 1:
        raise UserError(f"{PLACE}: {source.name} has examples of several images, which would lose their partners.")
    choice = _Choice(source, config, watch)
    places, told = np.arange(len(source)), [f"{len(source):,} training images"]
    for name, step in choice.steps():
        places = step(places)
        told.append(f"{len(places):,} after {name}")
        if not len(places):
            raise TooFewError(f"{PLACE}: keeps no image of {source.name} ({', '.join(told)}); use milder settings.")
    notes = (f"{PLACE}: {', '.join(told)}", *choice.notes)
    return ChosenSubset(source, np.sort(places), f"{source.name} (subset of {len(places):,})", notes)


class _Choice:
    """The steps of one choice, and what they found worth a note."""

    def __init__(self, source: Source, config: SubsetConfig, watch: Watch) -> None:
        self.source, self.config, self.watch = source, config, watch
        self.notes, self._known, self._told = list[str](), dict[str, Scores](), set[Path]()
        self.table = None if config.scores is None else read_scores(locate(config.scores))
        columns = {} if self.table is None else self.table.columns
        self.score = config.score
        if self.table is not None and config.top is not None and config.score is None:
            self.score = self.table.column(None)
        named = {*config.min, *config.max} | ({self.score} if self.score is not None else set())
        for name in named:
            if name not in columns and name not in MEASURES:
                raise UserError(f"{PLACE}: {unknown_choice('score', name, [*columns, *MEASURES])}")
        if self.table is not None and not named & columns.keys():
            raise UserError(f"{PLACE}: scores {self.table.file} has no effect; name one of {', '.join(columns)}.")

    def steps(self) -> Iterator[tuple[str, Callable[[Numbers], Numbers]]]:
        """Name of each setting, and which of the places that are left stay."""
        config = self.config
        if config.ids is not None:
            yield "ids", partial(self._listed, read_ids(locate(config.ids)))
        for name, value in config.min.items():
            yield f"min.{name}", partial(self._between, name, value, np.inf)
        for name, value in config.max.items():
            yield f"max.{name}", partial(self._between, name, -np.inf, value)
        if config.language is not None:
            yield "language", partial(self._between, "english", 0.5, np.inf)
        if config.drop_near_duplicates:
            yield "drop_near_duplicates", self._first_of_each
        if config.top is not None:
            yield "top", self._best
        if config.count is not None or config.share is not None:
            yield "share" if config.count is None else "count", self._drawn

    def _listed(self, listed: IdList, places: Numbers) -> Numbers:
        names = self._names(listed.file, listed.numbers, listed.first, listed.are_uids)
        return places[np.isin(names[places], listed.numbers)]

    def _between(self, name: str, least: float, most: float, places: Numbers) -> Numbers:
        values = self._scores(name)[places]
        return places[(values >= least) & (values <= most)]

    def _first_of_each(self, places: Numbers) -> Numbers:
        groups = picture_groups(self.source, self.watch)[places]
        _, first = np.unique(groups, return_index=True)
        return places[first]

    def _best(self, places: Numbers) -> Numbers:
        assert self.config.top is not None
        assert self.score is not None
        values = self._scores(self.score)
        places = places[~np.isnan(values[places])]
        order = np.lexsort((shuffle_keys(picture_ids(self.source, self.watch)[places], 0), -values[places]))
        return places[order[: max(1, round(self.config.top * len(places)))]]

    def _drawn(self, places: Numbers) -> Numbers:
        ids = picture_ids(self.source, self.watch)[places]
        order = np.lexsort((shuffle_keys(ids, self.config.seed), ids == UNREADABLE))
        count = self.config.count
        if count is None:
            assert self.config.share is not None
            count = max(1, round(self.config.share * len(places)))
        if count > len(places):
            held = f", where {held:,} are held out" if (held := len(whole_of(self.source)) - len(self.source)) else ""
            raise TooFewError(
                f"{PLACE}.count: {count:,} is more than the {len(places):,} images that are left of {self.source.name}"
                f"{held}; ask for fewer: --set {PLACE}.count={len(places)}"
            )
        return places[order[:count]]

    def _scores(self, name: str) -> Scores:
        """(N,) of every sample, NaN where there is none; what is in the table goes before what is measured."""
        if name in self._known:
            return self._known[name]
        if self.table is None or name not in self.table.columns:
            values, where = measured(self.source, name, self.watch), ""
        else:
            table, where = self.table, f" in {self.table.file}"
            values = table.of(self._names(table.file, table.ids, table.first, table.are_uids), name)
        if missing := int(np.isnan(values).sum()):
            self.notes.append(f"{PLACE}: {missing:,} of {len(values):,} images have no {name}{where}: left out")
        self._known[name] = values
        return values

    def _names(self, file: Path, ids: Numbers, first: Sequence[str], are_uids: bool) -> Numbers:
        """(N,) the number of what a file calls each sample; a UserError where none of its ids is in the data."""
        whole = whole_of(self.source)
        called = self.config.id or (UID_NAME if are_uids and _has_uids(whole) else "key")
        names = name_ids(whole, called, self.watch)
        unknown = int((~np.isin(ids, names)).sum())
        if unknown == len(ids):
            raise UserError(
                f"{file}: none of its {len(ids):,} ids (such as {_listed(first)}) is the {called} of a sample of "
                f"{whole.name} (such as {_listed(_examples(whole, called))}); give the file of this data, or say what "
                f"its ids are with {PLACE}.id."
            )
        if unknown and file not in self._told:
            self.notes.append(f"{PLACE}: {unknown:,} of the {len(ids):,} ids of {file} are not in {whole.name}")
        self._told.add(file)
        return name_ids(self.source, called, self.watch)


def _has_uids(source: Source) -> bool:
    """Whether the metadata of the first sample that can be read has DataComp's uid."""
    return next((UID_NAME in found for found in _readable(source, source.metadata)), False)


def _examples(source: Source, called: str) -> list[str]:
    """What the first samples are called."""
    if called == "key":
        return list(islice(_readable(source, source.key), 3))
    return [str(found[called]) for found in islice(_readable(source, source.metadata), 3) if called in found]


def _readable(source: Source, read: Callable[[int], Any]) -> Iterator[Any]:
    for index in range(len(source)):
        with suppress(BrokenItemError), broken_item(lambda: ""):
            yield read(index)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"


def shuffle_keys(ids: Numbers, seed: int) -> npt.NDArray[np.uint64]:
    """(N,) numbers in whose order ids are drawn: as good as random, and of an id alone, whatever stands beside it."""
    mixed = ids.astype(np.uint64) + np.uint64(content_id(str(seed).encode()))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # SplitMix64's finaliser
        mixed = (mixed ^ mixed >> np.uint64(shift)) * np.uint64(factor)
    return mixed ^ mixed >> np.uint64(31)
