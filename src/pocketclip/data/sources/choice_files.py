"""Pictures on disk with true and false captions, and the annotation files that say which are which."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pocketclip.data.captions import clean_captions
from pocketclip.data.choices import Choices
from pocketclip.data.keys import content_id, unique_keys
from pocketclip.data.left_out import LeftOut
from pocketclip.data.source import Sample
from pocketclip.data.sources.image_files import ImageFiles, join_files, read_text
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.preprocess import decode_image

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""


@dataclass(frozen=True, slots=True)
class Example:
    """What an annotation file says of a picture."""

    image: str
    """The picture's name."""
    captions: tuple[str, ...]
    """The true one, then the false ones."""
    kind: str = ""
    box: Box | None = None
    """The part of the picture that is meant."""


@dataclass(frozen=True)
class ChoiceFiles(ImageFiles):
    """Each picture once, or each part of one, with the captions of all of its examples one behind the other."""

    asked: Choices | None = None
    boxes: Sequence[Box | None] = ()

    @classmethod
    def of_examples(
        cls,
        name: str,
        file: Path,
        root: Path,
        examples: Sequence[Example],
        *,
        written: tuple[str, str],
        twins: bool = False,
    ) -> "ChoiceFiles":
        """From what annotation files say; `root` and `written` as of `ImageFiles.annotated`."""
        if not examples:
            raise UserError(f"{file}: no examples here.")
        by_name: dict[str, list[int]] = {}
        for number, example in enumerate(examples):
            by_name.setdefault(example.image, []).append(number)
        samples: dict[tuple[Path, Box | None], list[int]] = {}
        first_names: list[str] = []
        for path, (first, numbers) in join_files(by_name, file, root, written).items():
            for number in numbers:
                samples.setdefault((path, examples[number].box), []).append(number)
            first_names += [str(Path(first).with_suffix(""))] * (len(samples) - len(first_names))
        own = [[examples[number] for number in numbers] for numbers in samples.values()]
        texts = [tuple(text for example in group for text in example.captions) for group in own]
        same = sum(example.captions[0] in example.captions[1:] for example in examples)
        left_out = [LeftOut("examples with a false caption that is the true one count as wrong", same)] if same else []
        return cls(
            name,
            [path for path, _ in samples],
            texts,
            unique_keys(first_names),
            left_out,
            asked=_choices(examples, list(samples.values()), twins=twins),
            boxes=[box for _, box in samples],
        )

    def with_left_out(self, further: Sequence[LeftOut]) -> "ChoiceFiles":
        """The same, with more that was seen and gives no examples."""
        return replace(self, left_out=[*self.left_out, *further])

    def sample(self, index: int) -> Sample:
        sample, box = super().sample(index), self.boxes[index]
        return sample if box is None else Sample(sample.key, _cut(sample, box), sample.captions, sample.place)

    def picture_id(self, index: int) -> int:
        return super().picture_id(index) if self.boxes[index] is None else content_id(self[index].image)

    @property
    def choices(self) -> Choices | None:
        return self.asked

    def stamp(self) -> Any:
        asked = [] if self.asked is None else [self.asked.samples.tolist(), self.asked.sizes.tolist(), self.asked.twins]
        return [super().stamp(), list(self.boxes), asked]


def _choices(examples: Sequence[Example], samples: Sequence[Sequence[int]], *, twins: bool) -> Choices:
    """Where the examples, in their order, stand among `samples` of them."""
    sample_of, first_of = np.zeros((2, len(examples)), np.int64)
    for sample, numbers in enumerate(samples):
        first = 0
        for number in numbers:
            sample_of[number], first_of[number] = sample, first
            first += len(examples[number].captions)
    sizes = np.array([len(example.captions) for example in examples])
    names = {kind: number for number, kind in enumerate(dict.fromkeys(example.kind for example in examples))}
    kinds = np.array([names[example.kind] for example in examples])
    return Choices(sample_of, first_of, sizes, kinds, tuple(names), twins)


def _cut(sample: Sample, box: Box) -> bytes:
    """The part of a picture inside a box, as a picture of its own without loss."""
    image = decode_image(sample.image, place=sample.place)
    left, top, right, bottom = max(0, box[0]), max(0, box[1]), min(image.width, box[2]), min(image.height, box[3])
    if not (left < right and top < bottom):
        raise BrokenItemError(f"{sample.place}: box {box} holds nothing of the {image.width} x {image.height} picture.")
    buffer = io.BytesIO()
    image.crop((left, top, right, bottom)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def read_entries(file: Path) -> Iterator[tuple[str, Any]]:
    """Every entry of a JSON file with its place: a list, an object of them by id, or JSON lines."""
    text = read_text(file)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = list(_read_lines(file, text))
        if not lines:
            raise UserError(f"{file}: not valid JSON ({error}).") from error
        yield from lines
        return
    if isinstance(values, dict) and all(isinstance(entry, dict) for entry in values.values()):
        yield from ((f"{file}: id {identifier}", entry) for identifier, entry in values.items())
    else:
        listed = values if isinstance(values, list) else [values]
        yield from ((f"{file}: entry {number}", entry) for number, entry in enumerate(listed, start=1))


def _read_lines(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    """Entries line by line; none where the first is none, since then the file is something else."""
    first = True
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"{file}: line {number}", json.loads(line)
                first = False
            except (ValueError, RecursionError) as error:
                if first:
                    return
                raise UserError(f"{file}: line {number}: not valid JSON ({error}).") from error


def texts_of(entry: Any, keys: Sequence[str], place: str, example: str) -> list[str]:
    """The texts of an entry by their keys; a UserError names those that are not there, and an `example` of what is."""
    values = entry if isinstance(entry, Mapping) else {}
    if wrong := [key for key in keys if not isinstance(values.get(key), str) or not clean_captions([values[key]])]:
        raise UserError(
            f"{place}: needs a text for {', '.join(map(repr, wrong))}, as in {example} (got {json.dumps(entry)[:120]})."
        )
    return [clean_captions([values[key]])[0] for key in keys]
