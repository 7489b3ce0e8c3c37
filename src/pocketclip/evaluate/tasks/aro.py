"""ARO: are attributes, relations and the order of words told from false ones?"""

import functools
from importlib import resources
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pocketclip.evaluate.choice import ChoiceTask, Flags

MIN_EXAMPLES = 25
"""Of two attributes, for the published mean to count them."""


@functools.cache
def relations_left_out() -> frozenset[str]:
    """Relations that the published mean leaves out, such as those that hold both ways."""
    return frozenset(resources.files(__package__).joinpath("aro_left_out.txt").read_text(encoding="utf-8").splitlines())


class Aro(ChoiceTask):
    """Whether the true caption is nearest, over all examples and in the mean over relations or attributes."""

    kind: Literal["aro"] = "aro"
    heading = "ARO"
    each_kind = False  # there are dozens
    mean_over: Literal["published", "all"] = "published"
    """Relations but some, and pairs of attributes with 25 examples at least, as the published scores; or all."""

    def counts_for_mean(self, kinds: npt.NDArray[Any]) -> Flags:
        if self.mean_over == "all":
            return super().counts_for_mean(kinds)
        names, of_each, counts = np.unique(kinds, return_inverse=True, return_counts=True)
        counted = [
            count >= MIN_EXAMPLES if "_" in name else name not in relations_left_out()  # two attributes are A_B
            for name, count in zip(names.tolist(), counts.tolist(), strict=True)
        ]
        return np.array(counted, np.bool_)[of_each]
