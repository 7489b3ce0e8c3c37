"""What lies in a folder of pictures: the pictures, the captions beside each, and all that is passed over, by kind."""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from pocketclip.data.keys import PackedTexts
from pocketclip.data.left_out import LeftOut
from pocketclip.errors import pip_install
from pocketclip.preprocess import HEIC_SUFFIXES, IMAGE_SUFFIXES

SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "icon\r", "$recycle.bin"})
"""What systems and cameras leave behind; in small letters. Hidden files and folders are none of ours either."""
SIDECARS = (".json", ".txt")
"""Of two beside one picture the first is read."""
TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
ANNOTATIONS = frozenset({"captions.txt", "captions.json", "metadata.json", "annotations.json", "labels.txt"})
"""Names that stand for a whole folder, not for a picture that is called so."""
OTHER_PICTURES = frozenset(
    [
        ".svg",
        ".psd",
        ".jxl",
        ".jp2",
        ".heics",
        ".ico",
        ".tga",
        ".dng",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".orf",
        ".rw2",
        ".raf",
        ".raw",
        ".dds",
        ".exr",
        ".hdr",
        ".eps",
    ]
)
VIDEOS = frozenset([".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".3gp", ".mts"])


@dataclass
class Walk:
    """The pictures below a root, in the order of their names."""

    root: str
    pictures: PackedTexts = field(default_factory=PackedTexts)
    """Names below the root."""
    sidecars: PackedTexts = field(default_factory=PackedTexts)
    """Of each picture the file beside it; empty where there is none."""
    left_out: tuple[LeftOut, ...] = ()

    @classmethod
    def of(cls, root: Path) -> "Walk":
        """Look into every folder; links are followed, each real file once."""
        walk, seen = cls(str(root)), _Seen(str(root))
        names: list[tuple[list[str], str]] = []
        for folder, files in seen.folders():
            pictures = [name for name in files if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES]
            beside = _sidecars(files, pictures, folder, seen)
            names += [(f"{folder}{name}".split(os.sep), beside.get(name, "")) for name in pictures]
        for parts, sidecar in sorted(names):
            name = os.sep.join(parts)
            walk.pictures.append(name)
            walk.sidecars.append(f"{name[: len(name) - len(parts[-1])]}{sidecar}" if sidecar else "")
        walk.left_out = seen.left_out()
        return walk


class _Seen:
    """Goes through folders, and counts what is passed over."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._passed: dict[tuple[str, str], list[str]] = defaultdict(list)
        """Names by what they are and what to do."""
        self._folders = {os.path.realpath(root)}
        self._linked: set[str] = set()

    def pass_over(self, what: str, name: str, cure: str = "") -> None:
        """Count one thing."""
        self._passed[what, cure].append(name)

    def left_out(self) -> tuple[LeftOut, ...]:
        """All that was counted."""
        counted = sorted(self._passed.items())
        return tuple(LeftOut(what, len(names), tuple(sorted(names)[:3]), cure) for (what, cure), names in counted)

    def folders(self) -> Iterator[tuple[str, list[str]]]:
        """Each folder below the root, as `a/b/` or empty, with its files; real ones first, then those of links."""
        waiting, links = [""], list[str]()
        while waiting or links:
            if not waiting:  # only now is known what is there without links
                link = links.pop(0)
                if self._enters(link):
                    waiting.append(f"{link}{os.sep}")
                continue
            folder = waiting.pop()
            files: list[str] = []
            try:
                entries = sorted(os.scandir(os.path.join(self.root, folder)), key=lambda entry: entry.name)
            except OSError as error:
                self.pass_over(f"folders that cannot be read ({error.strerror})", folder)
                continue
            for entry in entries:
                name = f"{folder}{entry.name}"
                if entry.name.startswith(".") or entry.name.lower() in SYSTEM_FILES:
                    if entry.is_dir() or os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                        self.pass_over("hidden files or folders passed over", name)
                elif entry.is_symlink():
                    self._see_link(name, entry, files, links)
                elif entry.is_dir():
                    waiting.append(f"{name}{os.sep}")
                    self._folders.add(os.path.realpath(os.path.join(self.root, name)))
                elif entry.is_file():
                    files.append(entry.name)
                else:
                    self.pass_over("pipes or devices passed over", name)
            yield folder, files

    def _see_link(self, name: str, entry: "os.DirEntry[str]", files: list[str], links: list[str]) -> None:
        if entry.is_dir():
            links.append(name)
        elif not entry.is_file():
            self.pass_over("links that lead nowhere passed over", name)
        elif (target := os.path.realpath(entry.path)) in self._linked or self._is_walked(target):
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                self.pass_over("links to pictures that are read already passed over", name)
        else:
            self._linked.add(target)
            files.append(entry.name)

    def _is_walked(self, target: str) -> bool:
        """Whether a real file lies below the root, where it is met without its link."""
        inside = os.path.relpath(target, os.path.realpath(self.root))
        hidden = any(part.startswith(".") or part.lower() in SYSTEM_FILES for part in PurePath(inside).parts)
        return not hidden and os.path.splitext(target)[1].lower() in IMAGE_SUFFIXES

    def _enters(self, link: str) -> bool:
        """Whether a link to a folder leads to one that was not met yet."""
        target = os.path.realpath(os.path.join(self.root, link))
        if target in self._folders or os.path.realpath(self.root).startswith(f"{target}{os.sep}"):
            self.pass_over("links to folders that are read already passed over", link)
            return False
        self._folders.add(target)
        return True


def _sidecars(files: list[str], pictures: list[str], folder: str, seen: _Seen) -> dict[str, str]:
    """The file of captions of each of a folder's pictures that has one; all other files are counted."""
    texts: dict[tuple[str, str], str] = {}
    for name in files:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in SIDECARS and name.lower() not in ANNOTATIONS:
            texts.setdefault((stem, suffix.lower()), name)
    beside: dict[str, str] = {}
    used = set()
    for picture in pictures:
        stem = os.path.splitext(picture)[0]
        found = [texts[name, suffix] for name in (stem, picture) for suffix in SIDECARS if (name, suffix) in texts]
        used.update(found)
        if found:
            beside[picture] = found[0]
            for name in found[1:]:
                seen.pass_over("further files of captions of one picture passed over", f"{folder}{name}")
    for name in files:
        if name not in used and os.path.splitext(name)[1].lower() not in IMAGE_SUFFIXES:
            _count(name, folder, seen)
    return beside


def _count(name: str, folder: str, seen: _Seen) -> None:
    """Count a file that is neither a picture nor belongs to one."""
    path, suffix = f"{folder}{name}", os.path.splitext(name)[1].lower()
    if suffix in TABLES or name.lower() in ANNOTATIONS:
        kind = {".jsonl": "jsonl", ".parquet": "parquet", ".json": "coco"}.get(suffix, "csv")
        where = os.path.join(seen.root, folder)
        cure = f"if captions are in it, read {kind}:{os.path.join(seen.root, path)},{where.rstrip(os.sep) or '.'}"
        seen.pass_over("files that may describe all pictures not read", path, cure)
    elif suffix in HEIC_SUFFIXES:
        seen.pass_over(f"{suffix} files passed over", path, pip_install("[heic]"))
    elif suffix in OTHER_PICTURES:
        seen.pass_over(f"{suffix} files passed over", path, "save them as JPEG or PNG")
    elif suffix in VIDEOS:
        seen.pass_over(f"{suffix} files passed over", path, "videos are no pictures")
    elif suffix == ".tar":
        seen.pass_over(".tar files passed over", path, f"shards are read as webdataset:{os.path.join(seen.root, path)}")
    elif suffix in SIDECARS:
        seen.pass_over(f"{suffix} files without a picture passed over", path)
    else:
        seen.pass_over(f"{suffix or 'nameless kinds of'} files passed over", path)
