"""How a user writes a source: `KIND:PLACE,...`, or the place alone where what lies there tells its kind."""

import glob
import json
import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from pocketclip.data.sources.delimited import CAPTION_COLUMNS, IMAGE_COLUMNS, columns_of
from pocketclip.data.sources.image_files import find, locate, read_text
from pocketclip.data.sources.sugarcrepe import PARTS
from pocketclip.data.sources.winogavil import COLUMNS as ASSOCIATION_COLUMNS
from pocketclip.errors import UserError, unknown_choice
from pocketclip.files import did_you_mean
from pocketclip.preprocess import IMAGE_SUFFIXES

KINDS = {
    **{".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"},
    **{".tar": "webdataset", ".tgz": "webdataset"},
}
"""Kinds of source that a file's suffix tells, in any letter case and with `.gz` behind it."""
_NEED_IMAGES = {
    "coco": "COCO annotations without the pictures",
    "karpathy": "a Karpathy split file without the pictures",
    "flickr": "a Flickr token file without the pictures",
    "nlvr2": "NLVR2 lines without the pictures",
    "sugarcrepe": "SugarCrepe's captions without COCO's pictures",
    "winoground": "Winoground's lines without the pictures",
    "aro": "captions of ARO without the pictures",
    "winogavil": "associations of WinoGAViL without the pictures",
    "cuhk_pedes": "descriptions of CUHK-PEDES without the pictures",
    "icfg_pedes": "descriptions of ICFG-PEDES without the pictures",
    "rstp_reid": "descriptions of RSTPReid without the pictures",
}
_KEYS = {
    "nlvr2": {"identifier", "sentence", "label"},
    "sugarcrepe": {"filename", "caption", "negative_caption"},
    "winoground": {"image_0", "image_1", "caption_0", "caption_1"},
    "aro": {"image_path", "true_caption", "false_caption"},
    "winogavil": set(ASSOCIATION_COLUMNS),
    "cuhk_pedes": {"id", "captions", "file_path", "split"},
    "rstp_reid": {"id", "captions", "img_path", "split"},
}
_FIRST_LINE = 1 << 16
_RANGE = re.compile(r"\{\d+\.\.\d+\}")
_COMMA = re.compile(r",(?![^{},]*(?:,[^{},]*)*\})")
"""Commas, but those of a pattern such as `{train,val}`."""
_TOKEN = re.compile(r"[^\t]+#\d+\t")
"""How a line of a Flickr token file begins."""


def _joined_names(value: Any) -> Any:
    names = value.split("+") if isinstance(value, str) and value else value
    if isinstance(names, (list, tuple)) and (not all(names) or len(set(names)) < len(names)):
        raise ValueError(f"names differ and none is empty, such as region+year (got {'+'.join(map(str, names))!r})")
    return names


Names = Annotated[tuple[str, ...], BeforeValidator(_joined_names)]
"""Several names of a setting, which a user joins with `+`, since a comma ends a setting."""


def split_text(text: str, kinds: Mapping[str, type[Any]]) -> dict[str, Any]:
    """`KIND:PLACE[,PLACE][,key=value]` as a mapping; a config's `positional` names the settings that need no key.

    Without a kind, what lies at the first place tells it. A comma belongs to a name where such a file or folder is.

    Raises:
        ValueError: the kind or a setting is unknown, or there are more places than the kind takes.
        UserError: what lies at the place is no source, or one of a kind that needs further places.
    """
    kind, colon, rest = text.partition(":")
    if kind in kinds and (colon or not (_needs_a_place(kinds[kind]) and _is_there(text))):
        parts = _COMMA.split(rest) if rest else []
    else:
        parts = _COMMA.split(text)
        place = ",".join(parts[: _length(parts)])
        if ":" in place.replace("::", "") and not _is_there(place):
            raise ValueError(f"{unknown_choice('kind of source', kind, kinds)}{_suffix_help(place)}")
        kind = kind_of_place(place, kinds)
        if len(parts) == _length(parts) and kind in _NEED_IMAGES:
            raise UserError(f"{place}: {_NEED_IMAGES[kind]}; name their folder, too: {kind}:{place},IMAGES_DIR")
    return {"kind": kind, **_settings(parts, kind, kinds[kind])}


def _needs_a_place(config: type[Any]) -> bool:
    """Whether the kind alone opens nothing, so that a folder of that name is meant."""
    return any(field.is_required() for name, field in config.model_fields.items() if name != "kind")


def _settings(parts: list[str], kind: str, config: type[Any]) -> dict[str, str]:
    """Places and settings by name."""
    values: dict[str, str] = {}
    positional = list(config.positional)
    places = getattr(config, "places", frozenset(positional))
    while parts:
        key, equals, first = parts[0].partition("=")
        named = bool(equals) and key in config.model_fields
        if not named and positional and positional[0] in places and _is_there(",".join(parts[: _length(parts)])):
            key, named, first = positional[0], True, parts[0]  # whatever signs its name holds
        if named and key in values:
            raise ValueError(f"'{key}' is given twice")
        if named:
            rest = [first, *parts[1:]]
            length = _length(rest) if key in places else 1
            values[key] = ",".join(rest[:length])
            positional = [name for name in positional if name != key]
            parts = parts[length:]
            continue
        if equals and key.isidentifier():
            known = [name for name in config.model_fields if name != "kind"]
            raise ValueError(str(unknown_choice(f"setting of {kind}", key, known)))
        if not positional:
            raise ValueError(f"'{parts[0]}' is one place too many; {kind} takes {', '.join(config.positional)}")
        values[positional.pop(0)] = parts.pop(0)
    return values


def _length(parts: Sequence[str]) -> int:
    """How many comma-separated parts are the name of the first place: the most that are there together, else one."""
    return next((count for count in range(len(parts), 1, -1) if _is_there(",".join(parts[:count]))), 1)


def _is_there(place: str) -> bool:
    """Whether a file, a folder or one that a pattern stands for is there."""
    if not place or find(Path(place)) is not None:
        return bool(place)
    if not _is_pattern(place):
        return False
    stars = os.path.expanduser(_RANGE.sub("*", place).replace("[", "[[]"))  # noqa: PTH111
    below = os.path.join(glob.escape(os.environ.get("POCKETCLIP_DATA", "data")), stars)  # noqa: PTH118
    return any(next(glob.iglob(pattern), None) is not None for pattern in (stars, below))  # noqa: PTH207


def _is_pattern(place: str) -> bool:
    return any(sign in place for sign in "*?{") or "::" in place


def _suffix_help(place: str) -> str:
    """What to add to an unknown kind where the text may be meant for a place."""
    if "://" in place:
        return f" Data are read from disk: fetch them first, as with: wget {place}"
    return f" Nor is there a file or folder {place!r}.{did_you_mean(Path(place))}"


def kind_of_place(place: str, kinds: Mapping[str, type[Any]]) -> str:
    """The kind of source that lies at a place; where that is not certain, an error with the line to type."""
    path = find(Path(place)) if place else None
    suffix = _suffix(place.split("::")[0])
    if path is None:
        if suffix in KINDS and (not _is_pattern(place) or KINDS[suffix] in ("webdataset", "parquet")):
            return KINDS[suffix]  # opening says where it was looked for
        if _is_pattern(place):
            raise UserError(
                f"{place}: a pattern stands for .tar or .parquet files; for pictures give their folder: "
                f"folder:{re.split(r'[*?{]', place)[0].rpartition('/')[0] or '.'}"
            )
        if place and (suffix or "/" in place or not get_close_matches(place, kinds, n=1)):
            locate(Path(place))  # says where it looked
        raise ValueError(f"{unknown_choice('kind of source', place, kinds)}{_suffix_help(place)}")
    if path.is_dir():
        return _kind_of_folder(path)
    kind = KINDS.get(suffix) or _kind_of_file(place, path, suffix)
    if kind == "csv":
        return _kind_of_header(path)
    return _kind_of_lines(path) if kind == "jsonl" else kind


def _suffix(name: str) -> str:
    """In small letters, without that of packing."""
    return Path(name.lower().removesuffix(".gz")).suffix


def _kind_of_folder(folder: Path) -> str:
    """Pictures, unless it holds no folders and only shards or Parquet files, or is what `reinforce` wrote."""
    if (folder / "reinforcement.json").is_file():
        return "reinforced"
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    suffixes = {_suffix(entry.name) for entry in entries}
    if suffixes & IMAGE_SUFFIXES or any(entry.is_dir() for entry in entries):
        return "folder"
    if {f"{part}.json" for part in PARTS} & {entry.name for entry in entries}:
        return "sugarcrepe"
    return next((KINDS[suffix] for suffix in (".tar", ".parquet") if suffix in suffixes), "folder")


def _kind_of_file(place: str, path: Path, suffix: str) -> str:
    """By what the file holds."""
    if suffix in IMAGE_SUFFIXES:
        raise UserError(f"{place}: one picture; give its folder: folder:{Path(place).parent}")
    if suffix in (".zip", ".7z", ".rar"):
        raise UserError(f"{place}: is packed; unpack it and give the folder.")
    text = read_text(path)
    first = next((line for line in text.split("\n") if line.strip()), "")
    if suffix == ".json" or first.startswith(("{", "[")):
        return _kind_of_json(place, text, first)
    if _TOKEN.match(first):
        return "flickr"
    columns = set(columns_of(first))
    if columns & set(IMAGE_COLUMNS) and columns & set(CAPTION_COLUMNS):
        return "csv"
    raise UserError(
        f"{place}: neither a table with a header of image and caption nor another file of pictures and captions "
        f"(begins with {first[:60]!r}). If you know its kind write KIND:{place}; `pocketclip list sources` shows all."
    )


def _kind_of_json(place: str, text: str, first: str) -> str:
    """COCO, Karpathy, or lines of JSON, which have a kind of their own."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        try:
            values = json.loads(first)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: not valid JSON ({error}).") from error
        return _kind_of_entry(values) or "jsonl"
    if isinstance(values, dict) and isinstance(values.get("images"), list):
        if isinstance(values.get("annotations"), list):
            return "coco"
        if any(isinstance(image, dict) and "sentences" in image for image in values["images"][:1]):
            return "karpathy"
    listed = values if isinstance(values, list) else [values, *(values.values() if isinstance(values, dict) else ())]
    if kinds := [kind for entry in listed[:2] if (kind := _kind_of_entry(entry)) is not None]:
        is_icfg = kinds[0] == "cuhk_pedes" and "icfg" in Path(place).name.lower()  # their entries are alike
        return "icfg_pedes" if is_icfg else kinds[0]
    if isinstance(values, list):
        raise UserError(f"{place}: a JSON list; write an object a line: jq -c '.[]' '{place}' > pairs.jsonl")
    if isinstance(values, dict) and set(values) & set(IMAGE_COLUMNS) and set(values) & set(CAPTION_COLUMNS):
        return "jsonl"  # of one line
    raise UserError(
        f"{place}: JSON, but neither COCO captions ('images' and 'annotations') nor a Karpathy split ('images' with "
        "'sentences')."
    )


def _kind_of_header(path: Path) -> str:
    """A table of pairs, unless its columns are those of another kind."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        columns = columns_of(lines.readline(_FIRST_LINE))
    return next((kind for kind, keys in _KEYS.items() if keys <= set(columns)), "csv")


def _kind_of_lines(path: Path) -> str:
    """JSON lines of pairs, unless the first has keys that tell another kind."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        first = lines.readline(_FIRST_LINE)
    try:
        return _kind_of_entry(json.loads(first)) or "jsonl"
    except (ValueError, RecursionError):
        return "jsonl"  # opening says what is wrong


def _kind_of_entry(entry: Any) -> str | None:
    """A kind whose entries have keys of their own."""
    return next((kind for kind, keys in _KEYS.items() if isinstance(entry, dict) and keys <= entry.keys()), None)
