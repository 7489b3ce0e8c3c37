"""ICFG-PEDES: 54,522 pictures of 4,102 people with a sentence each, https://arxiv.org/abs/2107.12666."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pocketclip.data.left_out import LeftOut
from pocketclip.data.sources.people import Described, PeopleSettings

FEWEST_IDS = 100
"""Of a split; where fewer of them are in another split too, that is taken for a mistake."""


class IcfgPedesSourceConfig(PeopleSettings):
    """`icfg_pedes:ICFG-PEDES.json,imgs,split=test`; it has no `val`."""

    kind: Literal["icfg_pedes"] = "icfg_pedes"

    def told_apart(self, rows: list[Described]) -> tuple[list[Described], Sequence[LeftOut]]:
        """With `test-` before the ids of a test part that numbers its people from the start.

        Each person's pictures lie in a folder of their own, such as `test/0627`, so ids of one person are never taken
        for those of two.
        """
        ids: dict[str, dict[str, set[str]]] = {"train": {}, "test": {}}
        for row in rows:
            if row.split in ids:
                ids[row.split].setdefault(row.identity, set()).add(row.image.rpartition("/")[0])
        train, test = ids["train"], ids["test"]
        if len(test) < FEWEST_IDS or not all(who in train and not train[who] & test[who] for who in test):
            return rows, ()
        told = LeftOut("ids of the test part are others' in the training part, and are read as test-ID", len(test))
        return [replace(row, identity=f"test-{row.identity}") if row.split == "test" else row for row in rows], [told]
