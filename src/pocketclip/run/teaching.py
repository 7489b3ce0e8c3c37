"""Who teaches in a run: live teachers that see every batch, or what reinforced data hold of some."""

from dataclasses import dataclass

import torch

from pocketclip.data import Source
from pocketclip.data.teaching import StoredTeaching, TeacherReader
from pocketclip.errors import UserError
from pocketclip.recipe import Recipe
from pocketclip.train import Teach


@dataclass(frozen=True)
class Teaching:
    """What the stages of a run need to know of teachers."""

    widths: tuple[int, ...] = ()
    """Of each teacher that the objective hears."""
    live: Teach | None = None
    with_features: bool = False
    """Whether batches bring what the source stores."""
    readers: tuple[TeacherReader, ...] = ()


def open_teaching(recipe: Recipe, source: Source, device: torch.device) -> Teaching:
    """The teachers of a recipe, live ones on their device.

    Args:
        recipe: whose `teachers` to build.
        source: of training.
        device: where live teachers run.

    Raises:
        UserError: a teacher cannot be had, or the data hold no synthetic captions and some are asked for.
    """
    stored = StoredTeaching.of(source)
    asked = recipe.train.synthetic_captions_per_image
    if asked and stored is not None and stored.manifest.num_synthetic == 0:
        raise UserError(
            f"train.synthetic_captions_per_image: {asked}, but {stored.source.name} holds no synthetic captions; set "
            "it to 0, or reinforce again with a captioner."
        )
    if not recipe.objective.uses_teachers:
        return Teaching()
    assert stored is not None
    return Teaching(tuple(teacher.width for teacher in stored.manifest.teachers), with_features=True)
