"""What a method minimises, one method a file; each maps features and a batch to named, weighted losses."""

from typing import Annotated

from pydantic import Field

from pocketclip.objectives.contrastive import ContrastiveObjectiveConfig
from pocketclip.objectives.distillation import DistillationObjectiveConfig
from pocketclip.objectives.pairs import PairsObjectiveConfig
from pocketclip.objectives.reinforced import ReinforcedObjectiveConfig
from pocketclip.objectives.s_smke import SSmkeObjectiveConfig

ObjectiveConfig = Annotated[
    ContrastiveObjectiveConfig
    | ReinforcedObjectiveConfig
    | DistillationObjectiveConfig
    | SSmkeObjectiveConfig
    | PairsObjectiveConfig,
    Field(discriminator="kind"),
]
"""The union of every method; its members are told apart by `kind`."""
