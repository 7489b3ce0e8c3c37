"""What every data source gives: samples by number, so that order, splits and resuming need no stream position."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, final

from pocketclip.config import Config, digest
from pocketclip.data.choices import Choices, Numbers, Pairs
from pocketclip.data.keys import content_id
from pocketclip.data.left_out import LeftOut
from pocketclip.data.sources.reinforcement import ReinforcedData
from pocketclip.errors import BrokenItemError, UserError, first_line


@dataclass(frozen=True, slots=True)
class Sample:
    """One image, still encoded, with its captions."""

    key: str
    """Unique within the source; safe as a file name."""
    image: bytes
    captions: tuple[str, ...]
    place: str
    """File (and member) to name in errors."""
    label: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What else the data say of it, such as `split`: plain JSON values, carried through conversion."""
    identity: str | None = None
    """Who or what it shows, where several pictures show the same; unique within the source's data."""


Gift = Literal["captions", "choices", "classes", "pairs", "stored_views", "identities", "associations"]
"""What a source may give beside images, which an objective or a task may ask for; `choices` in place of `captions`."""


class Source(ABC):
    """A data set on disk, opened. Reading is safe from many processes.

    A source gives `sample`, `captions`, `place` and `stamp`. What it has beside images and captions, it says by
    overriding one of the properties that are None here.
    """

    name: str
    """How a user would write it, for records and messages."""
    images_per_example: int = 1
    """Samples that follow each other by this number stay in one batch, such as each other's hard negatives."""
    drawn: ClassVar[bool] = False
    """Whether pictures are drawings that may look nearly alike and yet show different things."""
    chosen_by: Mapping[str, Any] = {}
    """All settings but those of where the data lie, as plain JSON values; see `SourceSettings`."""
    credit: str = ""
    """Whose pictures they are and under which licence, where whoever shows them has to say so."""
    _stamp: str | None = None
    left_out: Sequence[LeftOut] = ()
    """What was seen when it was opened, and gives no samples."""

    @property
    def gives(self) -> frozenset[Gift]:
        """What may be asked of it."""
        further: dict[Gift, object] = {"classes": self.class_names, "pairs": self.pairs, "stored_views": self.stored}
        texts: Gift = "captions" if self.choices is None else "choices"
        shown: set[Gift] = {"identities"} if self.has_identities else set()
        return frozenset[Gift]({texts}) | shown | {gift for gift, value in further.items() if value is not None}

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @final
    def __getitem__(self, index: int) -> Sample:
        """Read one sample; BrokenItemError with its place where this one cannot be read, while others can."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        with broken_item(lambda: self.place(index)):
            return self.sample(index)

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """What indexing gives; whatever it raises of the item makes a BrokenItemError."""

    @abstractmethod
    def captions(self, index: int) -> tuple[str, ...]:
        """One sample's captions without its image, which is often much cheaper; errors as of `sample`."""

    @abstractmethod
    def place(self, index: int) -> str:
        """File (and member or row) of one sample, to name in messages; nothing is read."""

    def key(self, index: int) -> str:
        """One sample's key without its image; BrokenItemError where it is known only from what cannot be read."""
        return self[index].key

    def metadata(self, index: int) -> Mapping[str, Any]:
        """What else the data say of one sample without its image; errors as of `captions`."""
        return self[index].metadata

    @abstractmethod
    def stamp(self) -> Any:
        """Plain JSON values that change when the data change, such as names, sizes and times of files."""

    @final
    def fingerprint(self) -> str:
        """Changes when the data or a setting that chooses them changes; cached features hang on it.

        It is that of the data when it was first asked for: looking at 100,000 files takes seconds.
        """
        if self._stamp is None:
            object.__setattr__(self, "_stamp", digest(self.stamp()))
        return digest([dict(self.chosen_by), self._stamp])

    def picture_id(self, index: int) -> int:
        """A number that samples share whose pictures are the same; see `identity.picture_ids`, which keeps all.

        It is `content_id` of the encoded bytes, so sources can be compared; BrokenItemError where there is none.
        """
        return content_id(self[index].image)

    def picture_id_of(self, index: int, sample: Sample) -> int:
        """The same of a sample that was read already."""
        return self.picture_id(index) if self.drawn else content_id(sample.image)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Name of each class by its number; None where classes are only numbered, or there are none."""
        return None

    def label(self, index: int) -> int | None:
        """One sample's class without its image; None where it has none, BrokenItemError where it cannot be read."""
        del index
        return None

    @property
    def has_identities(self) -> bool:
        """Whether `identity` tells of samples which show the same."""
        return False

    def identity(self, index: int) -> str | None:
        """Who or what one sample shows without its image; None where it is not told; errors as of `label`."""
        del index
        return None

    @property
    def pairs(self) -> Pairs | None:
        """What is true of examples of two images; None where images are single."""
        return None

    @property
    def choices(self) -> Choices | None:
        """Which of the captions are true; None where all are."""
        return None

    @property
    def stored(self) -> ReinforcedData | None:
        """Views and teachers' features of each sample; None where the data are not reinforced."""
        return None


class SourceSettings(Config):
    """Base of the settings of every kind of source: a kind gives `kind`, its own settings and `read`."""

    positional: ClassVar[tuple[str, ...]] = ()
    """Settings that need no key where a user writes `KIND:PLACE,...`."""
    places: ClassVar[frozenset[str]] = frozenset()
    """Settings that say where the data lie, not which they are: the only ones that are in no fingerprint."""

    @final
    def open(self) -> Source:
        """Open the data.

        Raises:
            UserError: they are not there, or not what the settings say.
        """
        source = self.read()
        chosen_by = self.model_dump(mode="json", exclude=set(self.places))
        object.__setattr__(source, "chosen_by", chosen_by)  # most sources are frozen dataclasses
        return source

    @abstractmethod
    def read(self) -> Source:
        """What `open` gives, without its settings."""


@dataclass(frozen=True)
class Subset(Source):
    """Some samples of a source, in the given order; examples of several images may be torn apart."""

    source: Source
    indices: Numbers
    name: str
    alone: ClassVar[bool] = False
    """Whether it stands for the whole, of which no other sample is looked at, however many there are."""

    @property
    def gives(self) -> frozenset[Gift]:
        return self.source.gives - {"pairs", "associations"}

    @property
    def drawn(self) -> bool:  # type: ignore[override]  # of the source
        return self.source.drawn

    @property
    def left_out(self) -> Sequence[LeftOut]:  # type: ignore[override]
        return self.source.left_out

    @property
    def credit(self) -> str:  # type: ignore[override]
        return self.source.credit

    def __len__(self) -> int:
        return len(self.indices)

    def sample(self, index: int) -> Sample:
        return self.source[int(self.indices[index])]

    def place(self, index: int) -> str:
        return self.source.place(int(self.indices[index]))

    def key(self, index: int) -> str:
        return self.source.key(int(self.indices[index]))

    def metadata(self, index: int) -> Mapping[str, Any]:
        return self.source.metadata(int(self.indices[index]))

    def picture_id(self, index: int) -> int:
        return self.source.picture_id(int(self.indices[index]))

    def captions(self, index: int) -> tuple[str, ...]:
        return self.source.captions(int(self.indices[index]))

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.source.class_names

    def label(self, index: int) -> int | None:
        return self.source.label(int(self.indices[index]))

    @property
    def has_identities(self) -> bool:
        return self.source.has_identities

    def identity(self, index: int) -> str | None:
        return self.source.identity(int(self.indices[index]))

    @property
    def stored(self) -> ReinforcedData | None:
        return None if self.source.stored is None else self.source.stored.part(self.indices)

    @property
    def choices(self) -> Choices | None:
        return None if self.source.choices is None else self.source.choices.part(self.indices, len(self.source))

    def stamp(self) -> Any:
        return [self.source.fingerprint(), digest(self.indices.tolist())]


@contextmanager
def broken_item(place: Callable[[], str]) -> Iterator[None]:
    """The one guard around reading an item: any exception but a UserError becomes a BrokenItemError with its place."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise BrokenItemError(f"{place()}: cannot be read ({type(error).__name__}: {first_line(error)}).") from error


def readable_captions(source: Source, indices: Iterable[int] | None = None) -> Iterator[tuple[str, ...]]:
    """The captions of each sample, or of those by number, in order; none for a broken one."""
    for index in range(len(source)) if indices is None else indices:
        try:
            with broken_item(lambda: ""):
                captions = source.captions(index)
        except BrokenItemError:
            captions = ()
        yield captions


def refuse_choices(*sources: Source) -> None:
    """A UserError where some captions are false: who learned from them, or wrote them on, would take them for true."""
    for source in sources:
        if source.choices is not None:
            raise UserError(
                f"{source.name}: some of its captions are false, so it is for measuring alone: "
                "pocketclip evaluate MODEL --task sugarcrepe --data SOURCE"
            )


def whole_of(source: Source) -> Source:
    """What a part, or a part of a part, was taken from; other sources are whole, and so is what stands `alone`."""
    while isinstance(source, Subset) and not source.alone:
        source = source.source
    return source


def left_out_lines(*sources: Source | None) -> list[str]:
    """What sources left out when they were opened, a line each, once where several are parts of one."""
    wholes = [whole_of(source) for source in sources if source is not None]
    return list(dict.fromkeys(f"{whole.name}: {left}" for whole in wholes for left in whole.left_out))
