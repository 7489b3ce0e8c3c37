"""What a method minimises, one method a file; each maps features and a batch to named, weighted losses."""

from typing import Annotated

from pydantic import Field

from pocketclip.objectives.contrastive import ContrastiveObjective, ContrastiveObjectiveConfig
from pocketclip.objectives.distillation import DistillationObjective, DistillationObjectiveConfig
from pocketclip.objectives.pairs import PairsObjective, PairsObjectiveConfig
from pocketclip.objectives.reinforced import ReinforcedObjective, ReinforcedObjectiveConfig
from pocketclip.objectives.s_smke import SSmkeObjective, SSmkeObjectiveConfig

ObjectiveConfig = Annotated[
    ContrastiveObjectiveConfig
    | ReinforcedObjectiveConfig
    | DistillationObjectiveConfig
    | SSmkeObjectiveConfig
    | PairsObjectiveConfig,
    Field(discriminator="kind"),
]
"""The union of every method; its members are told apart by `kind`."""

__all__ = [
    "ContrastiveObjective",
    "ContrastiveObjectiveConfig",
    "DistillationObjective",
    "DistillationObjectiveConfig",
    "ObjectiveConfig",
    "PairsObjective",
    "PairsObjectiveConfig",
    "ReinforcedObjective",
    "ReinforcedObjectiveConfig",
    "SSmkeObjective",
    "SSmkeObjectiveConfig",
]
