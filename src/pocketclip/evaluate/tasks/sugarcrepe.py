"""SugarCrepe: is a picture's caption told from one in which something was added, replaced or swapped?"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from pocketclip.embedder import Embedder
from pocketclip.evaluate.choice import ChoiceTask
from pocketclip.evaluate.task_data import TaskData
from pocketclip.records import EvalResult
from pocketclip.stages.watch import SILENT, Watch


class Sugarcrepe(ChoiceTask):
    """Whether the true caption is nearer than a false one: a record for each kind of change, and their mean."""

    kind: Literal["sugarcrepe"] = "sugarcrepe"
    heading = "SugarCrepe"

    def guessing(self, num_images: int) -> Mapping[str, float]:
        return {"accuracy": 0.5}

    def parts(self, model: Embedder, data: TaskData, watch: Watch = SILENT) -> list[EvalResult]:
        """A record for each of the files, which are kinds of change; none where there is but one."""
        source, embeddings = data.source, data.embeddings(model, watch)
        there = np.unique(self.answers(embeddings, source)["kinds"]).tolist()
        return [self.record_of_kind(embeddings, source, kind) for kind in there] if len(there) > 1 else []
