"""What a method minimises, one method a file; each maps features and a batch to named, weighted losses."""

from pocketclip.objectives.contrastive import ContrastiveObjective, ContrastiveObjectiveConfig

ObjectiveConfig = ContrastiveObjectiveConfig
"""The union of every method; its members are told apart by `kind`."""

__all__ = ["ContrastiveObjective", "ContrastiveObjectiveConfig", "ObjectiveConfig"]
