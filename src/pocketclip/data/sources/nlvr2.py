"""NLVR2: two photographs and a sentence that is true or false of them, https://arxiv.org/abs/1811.00491."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from pocketclip.data.captions import clean_captions
from pocketclip.data.choices import Pairs
from pocketclip.data.keys import content_id
from pocketclip.data.source import Gift, Sample, Source, SourceSettings
from pocketclip.data.sources.image_files import file_stamp, locate, read_file, read_text
from pocketclip.errors import BrokenItemError, UserError

SIDES = ("left", "right")


@dataclass(frozen=True, slots=True)
class Nlvr2Line:
    """One example."""

    number: int
    """Line of the file, from 1 on."""
    identifier: str
    sentence: str
    label: bool
    directory: str | None
    """Numbered folder of the training images."""

    @property
    def written_for(self) -> str:
        """The set of images and the sentence, whatever the pair: what consistency counts."""
        split, images, _, sentence = self.identifier.split("-")
        return f"{split}-{images}-{sentence}"


class Nlvr2SourceConfig(SourceSettings):
    """`nlvr2:FILE.json,IMAGES_DIR`."""

    positional: ClassVar[tuple[str, ...]] = ("file", "images")
    places: ClassVar[frozenset[str]] = frozenset({"file", "images"})
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions", "pairs"})
    kind: Literal["nlvr2"] = "nlvr2"
    file: Path
    """Official JSON lines, such as `train.json`, `dev.json` or `test1.json`."""
    images: Path
    """With the images in it, in a folder of the split's name (`dev/`), or in numbered ones (`train/42/`)."""

    def read(self) -> "Nlvr2Source":
        """Read the lines; no image is looked for before it is read."""
        file = locate(self.file)
        lines = list(_read_lines(file))
        if not lines:
            raise UserError(f"{file}: no examples here.")
        return Nlvr2Source(f"nlvr2:{self.file}", file, locate(self.images), lines)


@dataclass(frozen=True)
class Nlvr2Source(Source):
    """A file of NLVR2 with its images."""

    name: str
    file: Path
    root: Path
    lines: list[Nlvr2Line]
    images_per_example = 2

    def __len__(self) -> int:
        return 2 * len(self.lines)

    def sample(self, index: int) -> Sample:
        line, side = self.lines[index // 2], index % 2
        path = self.find(line, side)
        return Sample(f"{line.identifier}-{SIDES[side]}", read_file(path), (line.sentence,), str(path), int(line.label))

    def place(self, index: int) -> str:
        return f"{self.file}: line {self.lines[index // 2].number}, the {SIDES[index % 2]} image"

    def picture_id(self, index: int) -> int:
        return content_id(read_file(self.find(self.lines[index // 2], index % 2)))

    def captions(self, index: int) -> tuple[str, ...]:
        """The sentence about an image and its partner."""
        return (self.lines[index // 2].sentence,)

    @property
    def pairs(self) -> Pairs:
        """What is true; sentences about one set of images are one, as the official script counts them."""
        labels = np.array([line.label for line in self.lines], dtype=np.bool_)
        sentences = np.unique([line.written_for for line in self.lines], return_inverse=True)[1]
        return Pairs(labels, sentences.astype(np.int64))

    def stamp(self) -> Any:
        """From the file, its lines and the images' folder: the images are not looked at."""
        lines = [[line.identifier, line.sentence, line.label] for line in self.lines]
        return [file_stamp(self.file), str(self.root), lines]

    def find(self, line: Nlvr2Line, side: int) -> Path:
        """Where the left (0) or the right (1) image of an example lies, among the official archives' places."""
        name = f"{line.identifier.rpartition('-')[0]}-img{side}.png"
        split = line.identifier.partition("-")[0]  # `train`, `dev` or `test1`
        folders = [self.root, self.root / split, self.root / "images" / split]
        if line.directory is not None:
            folders = [folder / line.directory for folder in folders]
        for folder in (*folders, self.root):
            if (path := folder / name).is_file():
                return path
        raise BrokenItemError(
            f"{self.file}: line {line.number}: the {SIDES[side]} image {name} is neither in {self.root} nor in "
            f"{folders[1].relative_to(self.root)}/ below it. Get the images as https://lil.nlp.cornell.edu/nlvr says, "
            "and give the folder that holds them behind the file."
        )


def _read_lines(file: Path) -> Iterator[Nlvr2Line]:
    for number, text in enumerate(read_text(file).split("\n"), start=1):
        if text.strip():
            place = f"{file}: line {number}"
            try:
                yield _parse(number, json.loads(text), place)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f'{place}: should be a JSON object with "identifier", "sentence" and "label" as in NLVR2 '
                    f"({type(error).__name__}: {error}; got {text[:60]!r})."
                ) from error


def _parse(number: int, values: Any, place: str) -> Nlvr2Line:
    identifier, label = values["identifier"], str(values["label"])
    if len(identifier.split("-")) != 4 or "/" in identifier or "\\" in identifier:
        raise UserError(f"{place}: identifier should be SPLIT-SET-PAIR-SENTENCE, as dev-850-0-0 (got {identifier!r}).")
    if label.lower() not in ("true", "false"):
        raise UserError(f"{place}: label should be True or False (got {label!r}).")
    sentences = clean_captions([values["sentence"]])
    if not sentences:
        raise UserError(f"{place}: the sentence is empty.")
    directory = values.get("directory")
    if directory is not None and not str(directory).isdigit():
        raise UserError(f"{place}: directory should be a number (got {directory!r}).")
    folder = None if directory is None else str(directory)
    return Nlvr2Line(number, identifier, sentences[0], label.lower() == "true", folder)
