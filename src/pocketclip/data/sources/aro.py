"""ARO: does a model mind attributes, relations and the order of words? https://arxiv.org/abs/2210.01936.

Relations and attributes come as pairs of captions of a part of a Visual Genome picture; the order of words is asked
with the captions of COCO and Flickr30k, which are shuffled here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import NonNegativeInt

from pocketclip.data.captions import clean_captions
from pocketclip.data.left_out import LeftOut
from pocketclip.data.source import Gift, SourceSettings
from pocketclip.data.sources.choice_files import Box, ChoiceFiles, Example, read_entries, texts_of
from pocketclip.data.sources.image_files import locate
from pocketclip.errors import UserError

KEYS = ("image_path", "true_caption", "false_caption")
SIDES = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
SHOWN = (
    '{"image_path": "1.jpg", "true_caption": "...", "false_caption": "...", "bbox_x": 0, "bbox_y": 0, "bbox_w": 9, '
    '"bbox_h": 9, "relation_name": "on"} or, for shuffled captions, {"image": "1.jpg", "caption": ["..."]}'
)
MAX_WORDS = 30
_MARKS = re.compile(r"[.!\"()*#:;~]")
_DRAWS = 20
"""Of a shuffle, until it is none of the captions that are there: some have words enough for a few only."""


class AroSourceConfig(SourceSettings):
    """`aro:FILE.json,IMAGES_DIR`."""

    positional: ClassVar[tuple[str, ...]] = ("file", "images")
    places: ClassVar[frozenset[str]] = frozenset({"file", "images"})
    gives: ClassVar[frozenset[Gift]] = frozenset({"choices"})
    kind: Literal["aro"] = "aro"
    file: Path
    """`visual_genome_relation.json`, `visual_genome_attribution.json`, or captions to shuffle, such as
    `coco_karpathy_test.json` and `flickr30k_test.json`."""
    images: Path
    seed: NonNegativeInt = 0
    """Of the shuffles."""

    def read(self) -> ChoiceFiles:
        """Read the examples; captions without another order of words are left out, and counted."""
        file, random, alone = locate(self.file), np.random.default_rng(self.seed), 0
        examples: list[Example] = []
        for place, entry in read_entries(file):
            if isinstance(entry, Mapping) and "caption" in entry:
                shuffled = list(_shuffled_examples(entry, place, random))
                examples += [example for example in shuffled if len(example.captions) > 1]
                alone += sum(len(example.captions) == 1 for example in shuffled)
            else:
                image, *captions = texts_of(entry, KEYS, place, SHOWN)
                examples.append(Example(image, tuple(captions), _kind(entry), _box(entry, place)))
        name = f"aro:{self.file}"
        source = ChoiceFiles.of_examples(name, file, locate(self.images), examples, written=(name, ""))
        passed = LeftOut("captions passed over, whose words have no other order", alone)
        return source.with_left_out([passed] if alone else [])


def _shuffled_examples(entry: Mapping[str, Any], place: str, random: np.random.Generator) -> Iterator[Example]:
    """Each caption with its words exchanged inside every three of them, and the threes exchanged."""
    texts = [entry["caption"]] if isinstance(entry["caption"], str) else entry["caption"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{place}: 'caption' should be a text or a list, as in {SHOWN} (got {str(texts)[:60]!r}).")
    (image,) = texts_of(entry, ["image"], place, SHOWN)
    for text in texts:
        words = " ".join(clean_captions([_MARKS.sub(" ", text.lower())])).split()[:MAX_WORDS]
        captions = [" ".join(words)]
        threes = [words[first : first + 3] for first in range(0, len(words), 3)]
        for shuffle in (_within, _among):
            drawn = (" ".join(word for three in shuffle(threes, random) for word in three) for _ in range(_DRAWS))
            captions += [other for other in drawn if other not in captions][:1]
        if words:
            yield Example(image, tuple(captions), "order")


def _within(threes: Sequence[Sequence[str]], random: np.random.Generator) -> list[list[str]]:
    return [[three[place] for place in random.permutation(len(three))] for three in threes]


def _among(threes: Sequence[Sequence[str]], random: np.random.Generator) -> list[Sequence[str]]:
    return [threes[place] for place in random.permutation(len(threes))]


def _kind(entry: Mapping[str, Any]) -> str:
    """The relation, or the two attributes, as the published scores are told apart."""
    attributes = entry.get("attributes", ())
    return str(entry.get("relation_name", "_".join(map(str, attributes if isinstance(attributes, list) else ()))))


def _box(entry: Mapping[str, Any], place: str) -> Box | None:
    """The part of the picture that holds what is spoken of; None for the whole."""
    if not any(side in entry for side in SIDES):
        return None
    sides = [entry.get(side) for side in SIDES]
    if not all(isinstance(side, (int, float)) and not isinstance(side, bool) for side in sides):
        raise UserError(f"{place}: needs numbers for {', '.join(SIDES)} (got {sides}).")
    left, top, width, height = (round(float(side)) for side in sides if side is not None)
    return left, top, left + width, top + height
