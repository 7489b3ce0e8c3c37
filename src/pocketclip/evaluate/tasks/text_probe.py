"""How well a text tower's frozen features tell classes apart."""

from typing import Literal

from pocketclip.evaluate.probe import ProbeTask


class TextProbe(ProbeTask):
    """Accuracy of a classifier on the text tower's frozen features, against the tower before training."""

    kind: Literal["text_probe"] = "text_probe"
    needs = frozenset({"texts", "training data"})
    heading = "Text probe"
    modality = "text"
