"""SugarCrepe: is a picture's caption told from one in which something was added, replaced or swapped?"""

from collections.abc import Mapping
from typing import Literal

from pocketclip.evaluate.choice import ChoiceTask


class Sugarcrepe(ChoiceTask):
    """Whether the true caption is nearer than a false one, by the kind of change and in the mean over kinds."""

    kind: Literal["sugarcrepe"] = "sugarcrepe"
    heading = "SugarCrepe"

    def guessing(self, num_images: int) -> Mapping[str, float]:
        return {"accuracy": 0.5}
