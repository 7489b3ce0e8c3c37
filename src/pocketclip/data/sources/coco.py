"""COCO captions and Karpathy's splits, both JSON annotations over a folder of pictures."""

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from pocketclip.data.source import Gift, SourceSettings
from pocketclip.data.sources.image_files import ImageFiles, locate, read_text
from pocketclip.errors import UserError


class CocoSourceConfig(SourceSettings):
    """`coco:ANNOTATIONS.json,IMAGES_DIR`."""

    positional: ClassVar[tuple[str, ...]] = ("file", "images")
    places: ClassVar[frozenset[str]] = frozenset({"file", "images"})
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions"})
    kind: Literal["coco"] = "coco"
    file: Path
    images: Path
    max_captions: PositiveInt | None = None
    """Of an image, the first ones; None: all of them."""

    def read(self) -> ImageFiles:
        """Read the annotations; images without a caption are left out."""
        values = _read(file := locate(self.file))
        try:
            names = {image["id"]: image["file_name"] for image in values["images"]}
            captions: dict[str, list[str]] = {}
            for annotation in values["annotations"]:
                captions.setdefault(names[annotation["image_id"]], []).append(annotation["caption"])
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{file}: not COCO captions: needs 'images' and 'annotations' with 'caption' (missing {error})."
            ) from error
        return _image_files(f"coco:{self.file}", file, self, captions)


class KarpathySourceConfig(SourceSettings):
    """`karpathy:FILE.json,IMAGES_DIR,split=val`."""

    positional: ClassVar[tuple[str, ...]] = ("file", "images", "split")
    places: ClassVar[frozenset[str]] = frozenset({"file", "images"})
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions"})
    kind: Literal["karpathy"] = "karpathy"
    file: Path
    images: Path
    split: str = "train"
    """One or more of the file's splits joined by `+`, as in `train+restval`."""
    max_captions: PositiveInt | None = None
    """Of an image, the first ones, as papers take five of COCO's; None: all of them."""

    def read(self) -> ImageFiles:
        """Read one split, or several."""
        values = _read(file := locate(self.file))
        try:
            splits = {image["split"] for image in values["images"]}
            wanted = set(self.split.split("+"))
            if not wanted <= splits:
                raise UserError(f"{file}: no split '{self.split}'. Splits: {', '.join(sorted(splits))}.")
            captions = {
                str(Path(image.get("filepath", ""), image["filename"])): [text["raw"] for text in image["sentences"]]
                for image in values["images"]
                if image["split"] in wanted
            }
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{file}: not a Karpathy split: needs 'images' with 'filename', 'split' and 'sentences' "
                f"(missing {error})."
            ) from error
        return _image_files(f"karpathy:{self.file}#{self.split}", file, self, captions)


def _read(file: Path) -> Any:
    try:
        return json.loads(read_text(file))
    except ValueError as error:
        raise UserError(f"{file}: not valid JSON ({error}).") from error


def _image_files(
    name: str, file: Path, config: CocoSourceConfig | KarpathySourceConfig, captions: dict[str, list[str]]
) -> ImageFiles:
    for image, texts in captions.items():
        if not all(isinstance(text, str) for text in (image, *texts)):
            raise UserError(f"{file}: a file name or caption is not text ({image!r}: {str(texts)[:60]}).")
    if config.max_captions is not None:
        name += f" (at most {config.max_captions} captions an image)"
    chosen = {image: texts[: config.max_captions] for image, texts in captions.items()}
    return ImageFiles.annotated(name, file, locate(config.images), chosen)
