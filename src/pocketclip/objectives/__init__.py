"""What a method minimises, one method a file; each maps features and a batch to named, weighted losses."""

from pocketclip.objectives.config import ObjectiveConfig

__all__ = ["ObjectiveConfig"]
