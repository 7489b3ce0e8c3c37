"""Data sets with classes, by name: what each class is called and in which sentences, as published; one JSON file each.

Each file says where its facts are from (`origin`). A set that takes its names from another one says so with `of`.
"""

import functools
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pocketclip.config import Config
from pocketclip.errors import UserError, unknown_choice

DEFAULT_TEMPLATES = "one"
"""Of a source that belongs to no named set."""
SLOTS = ("{}", "{c}")
"""Where the name of a class goes; the second is how CLIP_benchmark's files write it."""
_FOLDER = files(__name__)


class ClassSet(Config):
    """One data set: the names a model chooses among, and which of them is right for each class of the data."""

    title: str
    origin: str
    of: str = ""
    """Another set, whose names, folders and templates these are where they are not given here."""
    shift_of: str = ""
    """The set that this one tests a model's robustness against."""
    class_names: tuple[str, ...] = ()
    """(C,), what a model chooses among."""
    classes: tuple[str, ...] = ()
    """Of the folders of another set those that this one has; empty for all."""
    groups: tuple[str, ...] = ()
    """(G,), what the data's own classes are called, where they are not `class_names`."""
    folders: tuple[str, ...] = ()
    """(G,), what each class's folder is called, beside its name and its number."""
    right: tuple[tuple[int, ...], ...] = ()
    """(G,), which of `class_names` are right for each of `groups`; empty for one each."""
    templates: str | tuple[str, ...] = DEFAULT_TEMPLATES
    """Their name, or sentences."""
    metrics: tuple[str, ...] = ("top1_accuracy", "top5_accuracy", "mean_class_accuracy")
    """The one that papers report first."""
    optional: tuple[str, ...] = ()
    """Folders that may be absent."""
    more_folders: bool = False
    """Whether the data have further classes, which are not asked about."""
    nested: bool = False
    """Whether folders lie in folders, such as `a/airport_terminal`; a class is the whole way."""
    flat: Literal["", "imagenet_val", "imagenet_real"] = ""
    """How images are numbered, such that their classes are known without folders; see `flat.py`."""
    variants: tuple[str, ...] = ()
    """Words in the names of the folders of several versions, whose scores differ."""

    @property
    def group_names(self) -> tuple[str, ...]:
        """(G,), what the data's own classes are called."""
        return self.groups or self.class_names


def set_names() -> list[str]:
    """Every set that is known by name."""
    return sorted(Path(file.name).stem for file in _FOLDER.iterdir() if file.name.endswith(".json"))


@functools.cache
def class_set(name: str) -> ClassSet:
    """A set by its name, with what it takes from another one filled in.

    Raises:
        UserError: no such set.
    """
    if name not in set_names():
        raise unknown_choice("protocol", name, set_names())
    own = ClassSet.parse(json.loads((_FOLDER / f"{name}.json").read_text("utf-8")), place=f"{name}.json")
    if not own.of:
        return own
    whole = class_set(own.of)
    chosen = [whole.folders.index(folder) for folder in own.classes] or range(len(whole.class_names))
    taken = {
        "class_names": tuple(whole.class_names[number] for number in chosen),
        "folders": own.folders or tuple(whole.folders[number] for number in chosen),
        "templates": whole.templates,
    }
    return own.model_copy(update=taken)


def template_names() -> list[str]:
    """Every list of templates that is known by name."""
    return sorted(Path(file.name).stem for file in (_FOLDER / "templates").iterdir() if file.name.endswith(".json"))


def read_templates(name: str) -> tuple[str, ...]:
    """Sentences with `{}` for the class, by the name of a shipped list, or from a file with one a line.

    Raises:
        UserError: no such list or file, or a line without its slot.
    """
    if name in template_names():
        values = json.loads((_FOLDER / "templates" / f"{name}.json").read_text("utf-8"))
        return tuple(values["templates"])
    if not Path(name).is_file():
        known = ", ".join(template_names())
        raise UserError(
            f"--set templates={name}: no such templates. Known: {known}; or a file with a sentence a line, "
            "in which {} stands for the class, such as: a photo of a {}."
        )
    return with_slots(read_lines(Path(name), "templates"), name)


def with_slots(lines: Sequence[tuple[int, str]], place: str) -> tuple[str, ...]:
    """Numbered lines as templates, the slot written `{}` in all; a UserError names the line that has none."""
    templates = []
    for number, line in lines:
        template = line
        for slot in SLOTS:
            template = template.replace(slot, SLOTS[0])
        if SLOTS[0] not in template:
            raise UserError(
                f"{place}: line {number}: has no {{}} where the name of the class goes (got {line!r}), "
                "such as: a photo of a {}."
            )
        templates.append(template)
    return tuple(templates)


def read_lines(file: Path, what: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not empty, with their numbers from 1; a UserError where there is none."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}: is no UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8."
        ) from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}).") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise UserError(f"{file}: has no {what}; write one a line.")
    return lines
