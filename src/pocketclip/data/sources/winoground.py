"""Winoground: two pictures and two captions of the same words in another order, https://arxiv.org/abs/2204.03162."""

from pathlib import Path
from typing import ClassVar, Literal

from pocketclip.data.source import Gift, SourceSettings
from pocketclip.data.sources.choice_files import ChoiceFiles, Example, read_entries, texts_of
from pocketclip.data.sources.image_files import locate

KEYS = ("image_0", "image_1", "caption_0", "caption_1")
SHOWN = '{"image_0": "ex_0_img_0", "image_1": "ex_0_img_1", "caption_0": "...", "caption_1": "..."}'


class WinogroundSourceConfig(SourceSettings):
    """`winoground:FILE,IMAGES_DIR`."""

    positional: ClassVar[tuple[str, ...]] = ("file", "images")
    places: ClassVar[frozenset[str]] = frozenset({"file", "images"})
    gives: ClassVar[frozenset[Gift]] = frozenset({"choices"})
    kind: Literal["winoground"] = "winoground"
    file: Path
    """`examples.jsonl`."""
    images: Path
    """With the pictures, whose names need no suffix in the file."""

    def read(self) -> ChoiceFiles:
        """Read the examples; each is two pictures, of which either caption is true of one."""
        file, examples = locate(self.file), []
        for place, entry in read_entries(file):
            image_0, image_1, caption_0, caption_1 = texts_of(entry, KEYS, place, SHOWN)
            examples += [Example(image_0, (caption_0, caption_1)), Example(image_1, (caption_1, caption_0))]
        name = f"winoground:{self.file}"
        return ChoiceFiles.of_examples(name, file, locate(self.images), examples, written=(name, ""), twins=True)
