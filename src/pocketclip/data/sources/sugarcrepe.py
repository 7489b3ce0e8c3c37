"""SugarCrepe: COCO pictures with a caption and one in which something was added, replaced or swapped.

https://arxiv.org/abs/2306.14610
"""

from pathlib import Path
from typing import ClassVar, Literal

from pocketclip.data.left_out import LeftOut
from pocketclip.data.source import Gift, SourceSettings
from pocketclip.data.sources.choice_files import ChoiceFiles, Example, read_entries, texts_of
from pocketclip.data.sources.image_files import locate
from pocketclip.errors import UserError

PARTS = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
KEYS = ("filename", "caption", "negative_caption")
SHOWN = '{"filename": "000000085329.jpg", "caption": "...", "negative_caption": "..."}'


class SugarcrepeSourceConfig(SourceSettings):
    """`sugarcrepe:FOLDER,IMAGES_DIR`."""

    positional: ClassVar[tuple[str, ...]] = ("folder", "images")
    places: ClassVar[frozenset[str]] = frozenset({"folder", "images"})
    gives: ClassVar[frozenset[Gift]] = frozenset({"choices"})
    kind: Literal["sugarcrepe"] = "sugarcrepe"
    folder: Path
    """With the seven files, `add_att.json` and so on; or one of them."""
    images: Path
    """COCO's `val2017`."""

    def read(self) -> ChoiceFiles:
        """Read those of the files that are there."""
        place = locate(self.folder)
        files = [place] if place.is_file() else [place / f"{part}.json" for part in PARTS]
        there = [file for file in files if file.is_file()]
        if not there:
            raise UserError(
                f"{place}: holds none of SugarCrepe's files ({', '.join(file.name for file in files)}). Name the "
                f"folder that does: sugarcrepe:FOLDER,{self.images}"
            )
        examples = []
        for file in there:
            for where, entry in read_entries(file):
                image, *captions = texts_of(entry, KEYS, where, SHOWN)
                examples.append(Example(image, tuple(captions), file.stem))
        name = f"sugarcrepe:{self.folder}"
        written = (name, "")
        source = ChoiceFiles.of_examples(name, place, locate(self.images), examples, written=written)
        missing = tuple(file.name for file in files if file not in there)
        passed = [LeftOut("of SugarCrepe's files are not there", len(missing), missing)] if missing else []
        return source.with_left_out(passed)
