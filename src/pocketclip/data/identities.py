"""Who the pictures of a source show, where several show the same: what person search is trained and measured by."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketclip.data.source import Source
from pocketclip.errors import BrokenItemError, UserError

NO_IDENTITY = -1
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Identities:
    """Who N samples show."""

    values: Numbers
    """(N,), a place in `names`, or NO_IDENTITY."""
    names: tuple[str, ...]
    """In the order in which they are met."""

    @property
    def num_images(self) -> Numbers:
        """(I,) of each identity."""
        return np.bincount(self.values[self.values != NO_IDENTITY], minlength=len(self.names))


def find_identities(source: Source) -> Identities:
    """Who every sample of a source shows; NO_IDENTITY where that is not told, or cannot be read."""
    values, places = np.full(len(source), NO_IDENTITY, np.int64), dict[str, int]()
    for index in range(len(source) if "identities" in source.gives else 0):
        try:
            name = source.identity(index)
        except BrokenItemError:
            continue
        if name is not None:
            values[index] = places.setdefault(name, len(places))
    return Identities(values, tuple(places))


def read_identities(source: Source) -> Identities:
    """The same of a source that has to tell of some."""
    found = find_identities(source)
    if not found.names:
        raise UserError(
            f'{source.name}: no image has an identity. Identities come from "identity" in the JSON of '
            "webdataset:SHARDS, from a column of a table with csv:FILE,identity=COLUMN, and from the kinds "
            "cuhk_pedes, icfg_pedes, rstp_reid, person_table and pedestrians."
        )
    return found
