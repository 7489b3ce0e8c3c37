"""Flickr8k and Flickr30k token files, with lines such as `1000268201.jpg#0<tab>A child in a pink dress .`."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from pocketclip.data.keys import unique_keys
from pocketclip.data.source import Gift, SourceSettings
from pocketclip.data.sources.delimited import CAPTION_COLUMNS, IMAGE_COLUMNS, columns_of
from pocketclip.data.sources.image_files import ImageFiles, locate, read_text
from pocketclip.data.sources.table import Captions
from pocketclip.errors import UserError


class FlickrSourceConfig(SourceSettings):
    """`flickr:TOKENS.txt,IMAGES_DIR` with an optional split list."""

    positional: ClassVar[tuple[str, ...]] = ("file", "images", "split_file")
    places: ClassVar[frozenset[str]] = frozenset({"file", "images", "split_file"})
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions"})
    kind: Literal["flickr"] = "flickr"
    file: Path
    """`Flickr8k.token.txt`, or `results_20130124.token` of Flickr30k."""
    images: Path
    split_file: Path | None = None
    """Such as `Flickr_8k.trainImages.txt`: one image name a line, with or without `.jpg`."""

    def read(self) -> ImageFiles:
        """Read the captions, in the order of the token file."""
        file = locate(self.file)
        captions: dict[str, list[str]] = {}
        told = Captions(("caption",))
        for number, line in enumerate(read_text(file).split("\n"), start=1):  # a caption may hold other line breaks
            if not line.strip():
                continue
            label, tab, caption = line.partition("\t")
            name, hash_sign, _ = label.partition("#")
            if not tab or not hash_sign:
                raise self._no_token(file, number, line)
            texts = told.read({"caption": caption}, f"{file}: line {number}")
            captions.setdefault(name.strip(), []).extend(texts)
        name = f"flickr:{self.file}"
        if self.split_file is not None:
            captions = _select(captions, file, locate(self.split_file))
            name += f"#{self.split_file.stem}"
        behind = "" if self.split_file is None else f",{self.split_file}"
        written = (f"flickr:{self.file}", behind)
        source = ImageFiles.annotated(name, file, locate(self.images), captions, told.left_out, written=written)
        return replace(source, keys=unique_keys([path.stem for path in source.paths]))

    def _no_token(self, file: Path, number: int, line: str) -> UserError:
        """The error for a line in another form, which may be the header of a table."""
        names = columns_of(line)
        if set(names) & set(IMAGE_COLUMNS) and set(names) & set(CAPTION_COLUMNS):
            return UserError(
                f"{file}: line {number}: a table with the columns {', '.join(names)}, not a token file; write "
                f"csv:{self.file},{self.images}"
            )
        return UserError(f"{file}: line {number}: should be IMAGE.jpg#NUMBER<tab>CAPTION (got {line[:60]!r}).")


def _select(captions: dict[str, list[str]], file: Path, split_file: Path) -> dict[str, list[str]]:
    by_stem = {Path(name).stem: name for name in captions}
    chosen = {}
    for line in read_text(split_file).splitlines():
        if stem := Path(line.strip()).stem:
            if stem not in by_stem:
                raise UserError(f"{split_file}: names {line.strip()!r}, which has no caption in {file}.")
            chosen[by_stem[stem]] = captions[by_stem[stem]]
    return chosen
