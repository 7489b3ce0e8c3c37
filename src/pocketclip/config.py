"""Typed settings: the base class of every config, changes as `key=value`, and errors that name the key."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated, Any, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pocketclip.errors import UserError, nearest, unknown_choice


class Config(BaseModel):
    """Base of every config: unknown keys are errors, values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def parse(cls, values: Any, *, place: str) -> Self:
        """Build from plain values; every problem is reported at once as `place: key: reason (got value)`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UserError(explain(error, place, cls)) from None

    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any value."""
        return digest(self.model_dump(mode="json"))


def kinds_of(union: Any) -> dict[str, type[Any]]:
    """The registry that a union of configs is: each member by its `kind`, in the order of the union."""
    return {kind: member for member in _models(union) for kind in _kinds(member)}


def with_registered(union: Any, group: str) -> Any:
    """A union of configs, and those that other installed packages add to it by entry point.

    >>> # their pyproject.toml
    >>> # [project.entry-points."pocketclip.losses"]
    >>> # hardest = "their_package.hardest:HardestNegativeLossConfig"

    Raises:
        UserError: a package's config cannot be loaded, or its `kind` is taken.
    """
    taken = kinds_of(union)
    base, *annotations = get_args(union) if get_origin(union) is Annotated else (union,)
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        place = f"package {point.dist.name if point.dist else point.value}: its entry point '{point.name}' of {group}"
        try:
            member = point.load()
            kinds = kinds_of(member)
        except Exception as error:  # whatever a package does when it is imported
            raise UserError(f"{place} cannot be loaded ({error}); update it or uninstall it.") from error
        if not kinds or not kinds.keys().isdisjoint(taken):
            raise UserError(f"{place} should be a config with a kind of its own (got {', '.join(kinds) or member!r}).")
        base, taken = base | member, {**taken, **kinds}
    return Annotated[(base, *annotations)] if annotations else base


def digest(values: Any) -> str:
    """Sixteen hex digits of any JSON-like value, the same in every process and on every machine."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def apply_change(values: dict[str, Any], change: str, *, example: str = "train.num_steps=100") -> None:
    """Set one dotted key of plain values, in place, from `key=value` as typed behind `--set`; the value is YAML.

    The keys above it are made where they are missing. `example` is a change that would fit, for the message.
    """
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise UserError(f"--set {change}: should be KEY=VALUE, such as {example}.")
    try:
        value = yaml.safe_load(text) if text else None
    except yaml.reader.ReaderError:  # a name with bytes that YAML has no characters for
        value = text
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"--set {change}: the value is not valid YAML ({error}).") from error
    if isinstance(value, str) and not text.startswith(("'", '"')):
        value = text  # YAML would read `webdataset: x` as a mapping, and keeps other texts as they are
    apply_setting(values, key.strip(), value, said=f"--set {change}")


def apply_setting(values: dict[str, Any], key: str, value: Any, *, said: str) -> None:
    """Set one dotted key of plain values, in place; `said` is what asked for it, for the message.

    Below a list, such as `early_stages`, comes the `name` of one of its members.
    """
    *above, last = key.split(".")
    parts = iter(above)
    for part in parts:
        if values.get(part) is None:
            values[part] = {}
        below = values[part]
        if part == "model" and isinstance(below, str):  # the name of a size
            below = values[part] = {"size": below}
        if isinstance(below, list):
            named = {one["name"]: one for one in below if isinstance(one, dict) and "name" in one}
            if named and (below := named.get(next(parts, None))) is None:
                raise UserError(f"{said}: {part} is a list; name one of {', '.join(map(str, named))} behind it.")
        if not isinstance(below, dict):
            raise UserError(f"{said}: '{part}' is the value {below!r}, which has no keys below it.")
        values = below
    values[last] = value


@dataclass(frozen=True)
class Problem:
    """What is wrong with one key."""

    key: str
    reason: str
    is_unknown: bool = False
    """Whether nobody reads the key, or no member of a union is called so."""


def explain(error: ValidationError, place: str, expected: Any) -> str:
    """One line per problem: where, which key, why, and the value that was given.

    `expected` is the config class that was validated, or an annotation of some; misspelt keys get the nearest of its.
    """
    return "\n".join(f"{place}: {problem.key}: {problem.reason}" for problem in problems_of(error, expected))


def problems_of(error: ValidationError, expected: Any) -> list[Problem]:
    """Every problem once; see `explain`."""
    found = []
    for problem in error.errors(include_url=False):
        keys, known = _as_written(expected, problem["loc"])
        key = ".".join(keys) or "(whole)"
        reason = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            found.append(Problem(key, "is required"))
            continue
        if problem["type"] == "extra_forbidden":
            reason = f"u{str(unknown_choice('key', keys[-1], known))[1:]}"
        elif problem["type"] == "union_tag_invalid":
            kinds = re.findall(r"'([^']*)'", problem["ctx"]["expected_tags"])
            reason = str(unknown_choice("kind", problem["ctx"]["tag"], kinds))
        elif problem["type"] == "literal_error" and isinstance(problem["input"], str):
            choices = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
            reason = f"did you mean '{near}'? {reason}" if (near := nearest(problem["input"], choices)) else reason
        is_unknown = problem["type"] in ("extra_forbidden", "union_tag_invalid", "literal_error")
        says_itself = problem["type"] == "value_error" and isinstance(problem["input"], dict)  # of several keys
        got = "" if says_itself else f" (got {repr(problem['input'])[:80]})"
        found.append(Problem(key, reason + got, is_unknown))
    return list(dict.fromkeys(found))


def _as_written(expected: Any, location: Sequence[int | str]) -> tuple[list[str], list[str]]:
    """A problem's keys as the user wrote them, and the keys that are known at that place.

    Pydantic adds the kind of a union's member, which stands in no file.
    """
    keys: list[str] = []
    here = known = _models(expected)
    for part in location:
        chosen = [model for model in here if part in _kinds(model)]
        if len(here) > 1 and chosen:
            here = known = chosen
            continue
        keys.append(str(part))
        known = here
        fields = [model.model_fields[part] for model in here if isinstance(part, str) and part in model.model_fields]
        if fields:
            here = [model for field in fields for model in _models(field.annotation)]
    return keys, list(dict.fromkeys(name for model in known for name in model.model_fields))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The config classes inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    """What a member of a union is called."""
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()
