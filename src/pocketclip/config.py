"""Typed settings: the base class of every config, and errors that name the key."""

import hashlib
import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pocketclip.errors import UserError


class Config(BaseModel):
    """Base of every config: unknown keys are errors, values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def parse(cls, values: Any, *, place: str) -> Self:
        """Build from plain values; every problem is reported at once as `place: key: reason (got value)`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UserError(explain(error, place)) from None

    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any value."""
        return digest(self.model_dump(mode="json"))


def digest(values: Any) -> str:
    """Sixteen hex digits of any JSON-like value, the same in every process and on every machine."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def explain(error: ValidationError, place: str) -> str:
    """One line per problem: where, which key, why, and the value that was given."""
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"]) or "(whole)"
        reason = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            reason = "unknown key"
        shown = repr(problem["input"])
        if problem["type"] == "missing":
            lines.append(f"{place}: {key}: is required")
        else:
            lines.append(f"{place}: {key}: {reason} (got {shown[:80]})")
    return "\n".join(dict.fromkeys(lines))
