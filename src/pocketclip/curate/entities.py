"""DataComp's text-based filter: captions that name a thing of a list, such as ImageNet-21k's."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pocketclip.errors import UserError, require, unreadable

_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Entities:
    """Words in small letters, their plurals among them."""

    words: frozenset[str]

    @classmethod
    def read(cls, file: Path) -> Self:
        """A line names a thing, by several names with commas between; names of several words are not looked for.

        DataComp looks a word up in WordNet and takes its first meaning; here any meaning counts.
        """
        with unreadable(f"{file}: cannot be read as a list of words"):
            lines = file.read_text(encoding="utf-8-sig").lower().splitlines()
        names = {name.strip() for line in lines for name in line.split(",")}
        single = {name for name in names if _WORD.fullmatch(name)}
        if not single:
            raise UserError(f"{file}: names no thing in one word; should have one name a line, or some with commas.")
        return cls(frozenset(single | set(map(plural, single))))

    def named_in(self, captions: Any) -> npt.NDArray[np.bool_]:
        """(N,) whether a caption of a pyarrow column names one."""
        arrow, compute = require("pyarrow", extra="parquet"), require("pyarrow.compute", extra="parquet")
        split = compute.split_pattern_regex(compute.utf8_lower(captions.fill_null("")), "[^a-z]+")
        owners = compute.list_parent_indices(split).to_numpy()
        named = compute.is_in(compute.list_flatten(split), value_set=arrow.array(sorted(self.words)))
        named_owners = owners[named.to_numpy(zero_copy_only=False)]
        return np.bincount(named_owners, minlength=len(captions)) > 0


def plural(word: str) -> str:
    """The regular one."""
    if re.search(r"(s|x|z|ch|sh)$", word):
        return f"{word}es"
    return f"{word[:-1]}ies" if re.search(r"[^aeiou]y$", word) else f"{word}s"
