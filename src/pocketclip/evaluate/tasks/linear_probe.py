"""How well an image tower's frozen features tell classes apart."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from pocketclip.data.labels import Classes
from pocketclip.data.source import Source
from pocketclip.evaluate.frozen import like_training
from pocketclip.evaluate.probe import ProbeTask
from pocketclip.evaluate.tower import Examples


class LinearProbe(ProbeTask):
    """Accuracy of a classifier on the image tower's frozen features, against the tower before training."""

    kind: Literal["linear_probe"] = "linear_probe"
    needs = frozenset({"classes", "training data"})
    heading = "Linear probe"
    keeps_head = True

    in_distribution: str = "none"
    """Images like those that are learned from, as KIND:PLACE, which the score is set beside: the gap of a variant."""

    def like_training(self, train: Examples, classes: Classes) -> tuple[Source, npt.NDArray[np.int64]] | None:
        if self.in_distribution == "none":
            return None
        assert isinstance(train, Source)
        return like_training(self.in_distribution, train, classes)
