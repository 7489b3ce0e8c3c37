"""COCO captions and Karpathy's splits, both JSON annotations over a folder of pictures."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from pocketclip.data.left_out import LeftOut
from pocketclip.data.source import Gift, SourceSettings
from pocketclip.data.sources.image_files import ImageFiles, locate, read_text
from pocketclip.data.sources.table import Captions
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
        """Read the annotations; images without a caption are left out, and counted."""
        values = _read(file := locate(self.file))
        told, captions, unknown = Captions(("caption",)), dict[str, list[str]](), list[str]()
        try:
            names = _names_by_id(values["images"], file)
            for annotation in values["annotations"]:
                name = names.get(identifier := _plain_id(annotation["image_id"]))
                if name is None:
                    unknown.append(identifier)
                    continue
                place = f"{file}: annotation {annotation.get('id', '')} of image {identifier} ({name})"
                captions.setdefault(name, []).extend(told.read(annotation, place))
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{file}: not COCO captions: needs 'images' and 'annotations' with 'caption' (missing {error})."
            ) from error
        captions = {name: texts for name, texts in captions.items() if texts}
        if unknown and not captions:
            raise UserError(f"{file}: none of its {len(unknown):,} annotations is of one of its {len(names):,} images.")
        bare = [name for name in dict.fromkeys(names.values()) if name not in captions]
        cut = "their image ids are not in 'images'"
        passed = (
            *([LeftOut("annotations passed over", len(unknown), _first(unknown), cut)] if unknown else []),
            *([LeftOut("images without a caption passed over", len(bare), _first(bare))] if bare else []),
        )
        return _image_files(f"coco:{self.file}", file, self, captions, (*told.left_out, *passed))


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
        """Read one split, or several; each sample's metadata tell of which it is."""
        values = _read(file := locate(self.file))
        root = locate(self.images)
        told, captions, metadata = Captions(("sentences",)), dict[str, list[str]](), dict[str, dict[str, str]]()
        try:
            splits = {image["split"] for image in values["images"]}
            wanted = set(self.split.split("+"))
            if not wanted <= splits:
                raise UserError(f"{file}: no split '{self.split}'. Splits: {', '.join(sorted(splits))}.")
            for image in values["images"]:
                if image["split"] in wanted:
                    name = _karpathy_name(image.get("filepath", ""), image["filename"], root)
                    captions.setdefault(name, []).extend(told.read(image, f"{file}: image {name}"))
                    metadata.setdefault(name, {"split": image["split"]})
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{file}: not a Karpathy split: needs 'images' with 'filename', 'split' and 'sentences' "
                f"(missing {error})."
            ) from error
        return _image_files(f"karpathy:{self.file}#{self.split}", file, self, captions, told.left_out, metadata)


def _names_by_id(images: Any, file: Path) -> dict[str, str]:
    """File names by id; two names for one id are a UserError, since captions would go to the wrong picture."""
    names: dict[str, str] = {}
    for image in images:
        name, identifier = image["file_name"], _plain_id(image["id"])
        if not isinstance(name, str):
            raise UserError(f"{file}: the file name of image {identifier} is not text ({name!r}).")
        other = names.setdefault(identifier, name)
        if os.path.normpath(other.replace("\\", "/")) != os.path.normpath(name.replace("\\", "/")):
            raise UserError(
                f"{file}: image id {identifier} is given twice, for {other!r} and {name!r}: captions would go to the "
                "wrong picture. Give each image an id of its own."
            )
    return names


def _plain_id(value: Any) -> str:
    """7, "7" and 7.0 are one id."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _karpathy_name(folder: str, name: str, root: Path) -> str:
    """With the folder that the file names, unless the picture lies right inside `root`."""
    deep = Path(folder, name)
    return name if folder and not (root / deep).exists() and (root / name).exists() else str(deep)


def _first(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))[:3]


def _read(file: Path) -> Any:
    try:
        return json.loads(read_text(file))
    except ValueError as error:
        raise UserError(f"{file}: not valid JSON ({error}).") from error


def _image_files(
    name: str,
    file: Path,
    config: CocoSourceConfig | KarpathySourceConfig,
    captions: dict[str, list[str]],
    left_out: Sequence[LeftOut],
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
) -> ImageFiles:
    behind = f",split={config.split}" if isinstance(config, KarpathySourceConfig) else ""
    if config.max_captions is not None:
        name += f" (at most {config.max_captions} captions an image)"
        behind += f",max_captions={config.max_captions}"
    written = (f"{config.kind}:{config.file}", behind)
    source = ImageFiles.annotated(
        name, file, locate(config.images), captions, left_out, written=written, metadata=metadata
    )
    return replace(source, texts=[texts[: config.max_captions] for texts in source.texts])
