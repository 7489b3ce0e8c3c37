"""Which shard files a user means: a range, stars, a folder, or several of these."""

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from pocketclip.data.sources.image_files import locate
from pocketclip.errors import UserError

_SPLITS = re.compile(r"(?<![a-z])(train|val|valid|validation|dev|test|restval)(?![a-z])")


def expand_shards(pattern: str) -> list[Path]:
    """The shard files that `name-{000000..000002}.tar`, `name-*.tar`, a folder or a plain name stands for.

    Several of these may be joined by `::`. All must exist.
    """
    if "://" in pattern or pattern.startswith("pipe:"):
        raise UserError(f"{pattern}: shards are read from disk; fetch them first, as with: wget {pattern}")
    if "::" in pattern:
        return [path for part in pattern.split("::") for path in expand_shards(part)]
    pattern = os.path.expanduser(pattern)  # noqa: PTH111 (a Path would take a pattern's last slash away)
    if (match := re.search(r"\{(\d+)\.\.(\d+)\}", pattern)) is not None:
        first, last = match.groups()
        if int(first) > int(last):
            raise UserError(f"{pattern}: the range runs backwards; write {{{last}..{first}}}.")
        numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
        before, after = pattern[: match.start()], pattern[match.end() :]
        return [path for number in numbers for path in expand_shards(f"{before}{number}{after}")]
    if (match := re.search(r"\{([^{}]*,[^{}]*)\}", pattern)) is not None:
        before, after = pattern[: match.start()], pattern[match.end() :]
        return [path for name in match[1].split(",") for path in expand_shards(f"{before}{name}{after}")]
    if "*" in pattern or "?" in pattern:
        root = os.environ.get("POCKETCLIP_DATA", "data")
        stars = pattern.replace("[", "[[]")  # a bracket is a folder's own
        files = sorted(glob.glob(stars)) or sorted(glob.glob(os.path.join(glob.escape(root), stars)))  # noqa: PTH118, PTH207
        if not files:
            raise UserError(f"{pattern}: no shard matches (looked here and in {root}).{_there(Path(pattern).parent)}")
        return [Path(name) for name in files]
    try:
        path = locate(Path(pattern))
    except UserError as error:
        raise UserError(f"{error}{_there(Path(pattern).parent)}") from None
    return _of_folder(path) if path.is_dir() else [path]


def _of_folder(folder: Path) -> list[Path]:
    """All shards of a folder, unless their names tell of several splits."""
    files = _shards_in([folder])
    if not files:
        raise UserError(f"{folder}: no .tar files in this folder; for pictures in a folder write folder:{folder}")
    splits = {split for file in files for split in _SPLITS.findall(file.stem.lower())}
    if len(splits) > 1:
        lines = " or ".join(f"webdataset:{folder}/*{split}*.tar" for split in sorted(splits))
        raise UserError(f"{folder}: holds shards of several splits; write {lines}")
    return files


def _there(folder: Path) -> str:
    """Which shards a folder has, and how to write them, for the error of a name that is not there."""
    with_stars = any(mark in str(folder) for mark in "*?")
    files = [] if with_stars else _shards_in([folder, Path(os.environ.get("POCKETCLIP_DATA", "data")) / folder])
    if not files:
        return ""
    shown = ", ".join(file.name for file in files[:3]) + (", ..." if len(files) > 3 else "")
    return f" In {files[0].parent} there are {shown}: webdataset:{files[0].parent}/*.tar reads all of them."


def _shards_in(folders: Iterable[Path]) -> list[Path]:
    found = (sorted(file for file in folder.glob("*.tar") if not file.name.startswith(".")) for folder in folders)
    return next((files for files in found if files), [])
