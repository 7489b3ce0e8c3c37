"""The texts of a sample in a shard: the JSON that carries captions, class and metadata, and its simpler neighbours."""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from pocketclip.data.captions import EMPTY_WORDS, clean_captions, is_empty_word, parse_captions
from pocketclip.data.source import Sample
from pocketclip.errors import BrokenItemError

NAMED = frozenset({"captions", "caption", "label", "identity", "key", "metadata"})
"""Keys with a meaning of their own; metadata that are called so stand inside of `metadata`."""
LONGEST_EMPTY = max(map(len, EMPTY_WORDS))
LARGEST_LABEL = 2**31 - 1


class SampleText(NamedTuple):
    """What is said of a picture."""

    captions: tuple[str, ...] = ()
    label: int | None = None
    metadata: Mapping[str, Any] = {}
    identity: str | None = None


def to_json(sample: Sample, further: Mapping[str, Any]) -> bytes:
    """A sample's captions, key, label, identity and metadata with `further` keys, as `from_json` reads them back.

    A BrokenItemError names metadata that are no plain JSON values.
    """
    label = {} if sample.label is None else {"label": sample.label}
    identity = {} if sample.identity is None else {"identity": sample.identity}
    values: dict[str, Any] = {"captions": list(sample.captions), "key": sample.key, **label, **identity, **further}
    taken = NAMED | further.keys()
    if inside := {name: value for name, value in sample.metadata.items() if name in taken}:
        values["metadata"] = inside
    values |= {name: value for name, value in sample.metadata.items() if name not in taken}
    try:
        text = json.dumps(values, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise BrokenItemError(f"{sample.place}: its metadata cannot be written as JSON ({error}).") from error
    return text.encode(errors="backslashreplace")  # a lone surrogate, such as U+D83D, becomes \ud83d, as JSON has it


def from_json(data: bytes, *, place: str, own: Collection[str] = (), needed: bool = True) -> SampleText:
    """Captions (`captions` or `caption`), `label`, `identity`, and as metadata all keys but the `own` ones of a reader.

    Captions may be missing where there is a label or an identity, or where they are not `needed`; BrokenItemError for
    all else.
    """
    values = json.loads(decoded(data, place=place))
    shape = f'{place}: should hold {{"captions": ["...", "..."]}}'
    if not isinstance(values, dict):
        raise BrokenItemError(f"{shape}.")
    given = next((values[name] for name in ("captions", "caption") if values.get(name) is not None), None)
    if given is None and needed and not values.keys() & {"captions", "caption", "label", "identity"}:
        raise BrokenItemError(f"{shape}.")
    try:
        # Of what somebody stored beside each caption, none may be dropped
        captions = clean_captions(parse_captions(given, place=place)) if own else given_captions([given], place=place)
    except BrokenItemError as error:
        reason = str(error).removeprefix(f"{place}: ").partition("; name")[0]
        raise BrokenItemError(f"{shape}; {reason}.") from None
    label = None if values.get("label") is None else parse_label(values["label"])
    metadata = {name: value for name, value in values.items() if name not in NAMED and name not in own}
    if isinstance(inside := values.get("metadata"), dict) and inside.keys() <= NAMED | set(own):
        metadata |= inside
    elif "metadata" in values:
        metadata["metadata"] = inside
    return SampleText(captions, label, metadata, parse_identity(values.get("identity")))


def from_lines(data: bytes, *, place: str) -> tuple[str, ...]:
    """The captions of a text file, one a line; only line feeds end a line."""
    return given_captions(decoded(data, place=place).split("\n"), place=place)


def given_captions(values: Iterable[Any], *, place: str) -> tuple[str, ...]:
    """Clean captions of values as `parse_captions` takes them, without words that stand for none."""
    texts = [text for value in values for text in parse_captions(value, place=place)]
    return tuple(text for text in clean_captions(texts) if len(text) > LONGEST_EMPTY or not is_empty_word(text))


def parse_label(value: Any) -> int:
    """A class's number as JSON or a file has it; ValueError or TypeError for what is none."""
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(f"a label is a whole number (got {value})")
    try:
        label = int(value)
    except ValueError:
        shown = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        line = "a label is a whole number, counted from 0 over the lines of classnames.txt"
        raise ValueError(f"{line} (got {shown.strip()[:30]!r})") from None
    if abs(label) > LARGEST_LABEL:
        raise ValueError(f"a label is at most {LARGEST_LABEL:,} (got {str(value)[:30]})")
    return label


def parse_identity(value: Any) -> str | None:
    """Who or what is shown, as JSON or a table has it: a text or a whole number; ValueError for what is neither."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise ValueError(f"an identity is a text or a whole number (got {str(value)[:30]})")
    return (str(value).strip() or None) if value is not None else None


def decoded(data: bytes, *, place: str) -> str:
    """UTF-8 with or without its mark; BrokenItemError where it is something else, UTF-16 by name."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data:
        raise BrokenItemError(f"{place}: the captions hold NUL bytes, as UTF-16 does; save them as UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BrokenItemError(f"{place}: the captions are not valid UTF-8 ({error.reason}).") from error
