"""How well an image tower's frozen features tell classes apart."""

from typing import Literal

from pocketclip.evaluate.probe import ProbeTask


class LinearProbe(ProbeTask):
    """Accuracy of a classifier on the image tower's frozen features, against the tower before training."""

    kind: Literal["linear_probe"] = "linear_probe"
    needs = frozenset({"classes", "training data"})
    heading = "Linear probe"
