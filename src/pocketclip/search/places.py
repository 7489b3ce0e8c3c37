"""Where indexed pictures lie: kept as absolute places, and looked for again when an index is searched."""

import os
from pathlib import Path


def file_of(place: str) -> str:
    """The file that a picture is, or lies in, such as the shard of `a.tar: dog.jpg`; empty where there is none."""
    end = len(place)
    while end > 0:
        if os.path.isfile(place[:end]):  # noqa: PTH113 (a million of them)
            return place[:end]
        end = place.rfind(":", 0, end)
    return ""


def lasting(place: str) -> tuple[str, str]:
    """A place as it can be read in any folder, and the file in it; drawn pictures and those of a hub have no file."""
    file = file_of(place)
    whole = os.path.abspath(file) if file else ""  # noqa: PTH100
    return whole + place[len(file) :], whole


def find_again(file: str, made: str, folder: Path) -> str | None:
    """A file that was there when an index was written in `made`, or None where it is gone.

    It is where it was, or on the same way from the index as then: index and pictures may have moved together.
    """
    moved = os.path.normpath(folder.absolute() / os.path.relpath(file, made)) if made else file
    return next((path for path in (file, moved) if os.path.exists(path)), None)  # noqa: PTH110


def first_gone(file: str) -> str:
    """The outermost part of a place that is not there any more: a folder that was renamed, or the file alone."""
    gone = Path(file)
    while gone != gone.parent and not gone.parent.exists():
        gone = gone.parent
    return str(gone)


def source_is_gone(source: str, typed_in: str) -> bool:
    """Whether the first place of a source that was typed in a folder is not there any more."""
    place = source.rpartition(":")[2].split(",")[0]
    return not os.path.exists(os.path.join(typed_in, os.path.expanduser(place)))  # noqa: PTH110, PTH111, PTH118
