"""Names of folders as words that a sentence can hold: `AnnualCrop`, `apple_pie`, `golden-retriever`, `n01440764`."""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from pocketclip.evaluate.class_sets import class_set

WORDNET = re.compile(r"n\d{8}")
_NUMBERED = re.compile(r"\d+\.(?=\D)")  # as in 001.Black_footed_Albatross
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[A-Z])(?=[A-Z][a-z])")


def to_words(names: Sequence[str]) -> tuple[str, ...]:
    """Class names as they stand in sentences; names that are words already stay as they are."""
    numbered = [_NUMBERED.match(name) is not None for name in names]
    plain = [_NUMBERED.sub("", name, count=1) if all(numbered) else name for name in names]
    humps = any(_has_hump(name) for name in plain)
    wordnet = _wordnet_names([name for name in plain if WORDNET.fullmatch(name)])
    return tuple(wordnet.get(name) or _words(name, humps=humps) for name in plain)


def _words(name: str, *, humps: bool) -> str:
    if " " in name:
        return name
    if "_" in name:
        return " ".join(name.replace("_", " ").split()) or name
    if "-" in name.strip("-"):
        parts = name.split("-")
        # The hyphen of t-shirt or x-ray, or of 737-200, belongs to the word
        apart = all(len(part) > 1 and part.isalpha() for part in parts)
        return " ".join(parts) if apart else name
    if not humps or not name[:1].isupper():
        return name
    parts = _HUMP.split(name)
    return " ".join(part if part.isupper() and len(part) > 1 else part.lower() for part in parts)


def _has_hump(name: str) -> bool:
    """Whether it is written like AnnualCrop."""
    return name.isalnum() and name[:1].isupper() and len(_HUMP.split(name)) > 1


def _wordnet_names(ids: Sequence[str]) -> dict[str, str]:
    """What synsets of WordNet are called: ImageNet's as CLIP calls them, others by the first of their words in timm."""
    if not ids:
        return {}
    imagenet = class_set("imagenet")
    known = dict(zip(imagenet.folders, imagenet.class_names, strict=True))
    spec = importlib.util.find_spec("timm") if any(name not in known for name in ids) else None
    if spec is not None and spec.origin is not None:
        file = Path(spec.origin).parent / "data" / "_info" / "imagenet_synset_to_lemma.txt"
        lines = file.read_text("utf-8").splitlines() if file.is_file() else []
        known = {own: words.split(",")[0] for own, _, words in (line.partition("\t") for line in lines)} | known
    return {name: known[name] for name in ids if name in known}


def key(name: str) -> str:
    """What names are compared by: letters and digits alone."""
    return "".join(character for character in name.casefold() if character.isalnum())
