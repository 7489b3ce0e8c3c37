"""Emoji drawn in other styles, with the same names and splits as OpenMoji's: a real shift of style to be tested on.

The npm packages `@iconify-json/noto`, `twemoji`, `fluent-emoji-flat` and others hold a set of drawings each:
`icons.json` has them, `chars.json` says which characters they are of, `info.json` whose they are. `emoji` gives the
names, `resvg-py` draws. Emoji with a skin tone are left out, as of OpenMoji.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from pocketclip.data.keys import content_id
from pocketclip.data.left_out import LeftOut
from pocketclip.data.source import Gift, Sample, Source, SourceSettings
from pocketclip.data.sources.image_files import locate
from pocketclip.data.sources.openmoji import bare_code, drawings, has_skin_tone, named_emoji, split_of
from pocketclip.errors import UserError, first_line, require

FORM = "see https://iconify.design/docs/types/iconify-json.html"
HOW = "get one with: npm pack @iconify-json/noto && tar xzf iconify-json-noto-*.tgz, and give the folder 'package'"
_MOST_PARENTS = 10


class IconifySourceConfig(SourceSettings):
    """`iconify:FOLDER` or `iconify:FOLDER,test`, of a package such as @iconify-json/noto."""

    positional: ClassVar[tuple[str, ...]] = ("folder", "split")
    places: ClassVar[frozenset[str]] = frozenset({"folder", "names"})
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions", "classes"})
    kind: Literal["iconify"] = "iconify"
    folder: Path
    split: Literal["train", "val", "test", "all"] = "all"
    image_size: int = Field(default=160, ge=16, le=1024)
    names: Path | None = None
    """The package `emojibase-data`, or its `data.json` of a language: captions are its label and tags instead."""
    shared_with: str | None = None
    """`openmoji` or folders of other sets, joined by +: only emoji that all of them have, so that classes are equal."""

    def read(self) -> "IconifySource":
        """List the emoji of a split; drawing happens when one is read."""
        require("resvg_py", extra="quickstart")
        folder = _folder_of(self.folder)
        icons, found = _read(folder / "icons.json"), drawn_codes(folder)
        known, texts = named_emoji(), None if self.names is None else _labels(locate(self.names))
        shared = [_codes_of(place) for place in (self.shared_with or "").split("+") if place]
        passed: dict[str, list[str]] = {}
        entries = []
        for code, name in sorted(found.items()):
            if code not in known:
                tone = has_skin_tone(code)
                what = "emoji with a skin tone passed over" if tone else "drawings that are no emoji passed over"
                passed.setdefault(what, []).append(name)
            elif (svg := _svg(icons, name)) is None:
                passed.setdefault("emoji without their drawing passed over", []).append(name)
            elif not all(code in others for others in shared):
                passed.setdefault(f"emoji that are not in {self.shared_with} passed over", []).append(name)
            elif self.split in ("all", split_of(known[code][0])):
                captions = known[code] if texts is None else texts.get(code, known[code])
                entries.append(Emoji(code, name, known[code][0], captions, svg))
        if not entries:
            raise UserError(f"{folder}: no emoji of {self.split}; {HOW}.")
        source = IconifySource(_written(self), str(folder / "icons.json"), entries, self.image_size, _credit(folder))
        object.__setattr__(
            source, "left_out", [LeftOut(what, len(names), tuple(names[:3])) for what, names in passed.items()]
        )
        return source


@dataclass(frozen=True)
class Emoji:
    """A drawing and what it is of."""

    code: str
    """Its code points without variation selectors."""
    drawing: str
    """What the set calls it."""
    name: str
    """Its Unicode name, which is its class."""
    captions: tuple[str, ...]
    svg: str


@dataclass(frozen=True)
class IconifySource(Source):
    """Emoji drawn at `image_size` pixels on white, each a class of its own."""

    name: str
    file: str
    entries: list[Emoji]
    image_size: int
    credit: str
    drawn = True

    def __len__(self) -> int:
        return len(self.entries)

    def sample(self, index: int) -> Sample:
        entry, side = self.entries[index], self.image_size
        resvg = require("resvg_py", extra="quickstart")
        png = bytes(resvg.svg_to_bytes(svg_string=entry.svg, width=side, height=side, background="white"))
        return Sample(entry.code, png, entry.captions, self.place(index), index)

    def place(self, index: int) -> str:
        return f"{self.file}, icon {self.entries[index].drawing}"

    def picture_id(self, index: int) -> int:
        return content_id(self.entries[index].svg.encode())  # what is drawn, at any size

    def captions(self, index: int) -> tuple[str, ...]:
        return self.entries[index].captions

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.entries)

    def label(self, index: int) -> int:
        return index

    def stamp(self) -> Any:
        drawn = [[entry.code, entry.captions, self.picture_id(number)] for number, entry in enumerate(self.entries)]
        return [self.image_size, drawn]


def drawn_codes(folder: Path) -> dict[str, str]:
    """What a set calls the drawing of each character, by its code points without variation selectors."""
    file = folder / "chars.json"
    if not file.is_file():
        raise UserError(f"{folder}: no chars.json, so nobody knows which emoji its drawings are; {HOW}.")
    chars = _read(file)
    if wrong := next((code for code, name in chars.items() if not isinstance(name, str)), None):
        raise UserError(f"{file}: {wrong} should be the name of a drawing; {FORM}.")
    return {bare_code(code): name for code, name in chars.items()}


def _folder_of(place: Path) -> Path:
    """Where `icons.json` is: the folder itself, or `package` in it as npm packs it."""
    folder = locate(place)
    for tried in (folder, folder / "package"):
        if (tried / "icons.json").is_file():
            return tried
    raise UserError(f"{folder}: no icons.json, which a package of drawings has; {HOW}.")


def _codes_of(place: str) -> frozenset[str]:
    """The emoji of another set, or of OpenMoji."""
    return frozenset(drawings() if place == "openmoji" else drawn_codes(_folder_of(Path(place))))


def _written(config: IconifySourceConfig) -> str:
    shared = f",shared_with={config.shared_with}" if config.shared_with else ""
    return f"iconify:{config.folder},{config.split}{shared}"


def _read(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as JSON ({first_line(error)}).") from error
    if not isinstance(values, dict) or (file.name == "icons.json" and not isinstance(values.get("icons"), dict)):
        raise UserError(f"{file}: does not have the form of a set of drawings; {FORM}.")
    return values


def _credit(folder: Path) -> str:
    """Whose drawings they are and under which licence, as the package says."""
    file = folder / "info.json"
    info = _read(file) if file.is_file() else _read(folder / "icons.json").get("info")
    info = info if isinstance(info, Mapping) else {}
    author, licence = (part if isinstance(part, Mapping) else {} for part in (info.get("author"), info.get("license")))
    where = f" ({author['url']})" if author.get("url") else ""
    title = licence.get("title") or licence.get("spdx") or "that the package does not name"
    by = f"{author.get('name') or 'unnamed authors'}{where}"
    return f"Emoji drawings: {info.get('name') or folder} by {by}, licence {title}"


def _svg(icons: Mapping[str, Any], name: str) -> str | None:
    """A drawing as a square SVG of its own; None where the set has none. An alias is its parent, turned or mirrored."""
    turns, mirrored = 0, [False, False]
    box: dict[str, Any] = {}
    for _ in range(_MOST_PARENTS):
        own = icons["icons"].get(name)
        found = own if own is not None else (icons.get("aliases") or {}).get(name)
        if not isinstance(found, Mapping):
            return None
        turns += int(found.get("rotate", 0))
        mirrored = [mirrored[0] ^ bool(found.get("hFlip")), mirrored[1] ^ bool(found.get("vFlip"))]
        box = {key: found[key] for key in ("left", "top", "width", "height") if key in found} | box
        if own is not None:
            body = found.get("body")
            box = {key: icons[key] for key in ("left", "top", "width", "height") if key in icons} | box
            return _square(body, box, turns % 4, mirrored) if isinstance(body, str) else None
        name = str(found.get("parent"))
    return None


def _square(body: str, box: Mapping[str, Any], turns: int, mirrored: list[bool]) -> str:
    """Drawn in the middle of a square, since pictures are square; turns are by 90 degrees clockwise."""
    left, top, width, height = (float(box.get(key, default)) for key, default in _BOX.items())
    side, x, y = max(width, height), left + width / 2, top + height / 2
    scale = f"{-1 if mirrored[0] else 1} {-1 if mirrored[1] else 1}"
    if turns or any(mirrored):
        body = f'<g transform="translate({x} {y}) rotate({90 * turns}) scale({scale}) translate({-x} {-y})">{body}</g>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{x - side / 2:g} {y - side / 2:g} {side:g} {side:g}">{body}</svg>'
    )


_BOX = {"left": 0, "top": 0, "width": 16, "height": 16}
"""Of a drawing whose set does not say otherwise."""


def _labels(place: Path) -> dict[str, tuple[str, ...]]:
    """Label and tags of each emoji by its code points."""
    file = next((own for own in (place / "en/data.json", place / "package/en/data.json") if own.is_file()), place)
    try:
        rows = json.loads(file.read_bytes())
        return {bare_code(row["hexcode"]): tuple(dict.fromkeys([row["label"], *row.get("tags", [])])) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file}: not the data.json of emojibase-data ({type(error).__name__}: {first_line(error)}); get it with: "
            "npm pack emojibase-data, unpack it, and give the folder 'package'."
        ) from error
