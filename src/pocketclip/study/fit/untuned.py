"""A fit whose time is over when its heads are trained: their stage becomes the last one, and is not done again."""

from pathlib import Path

from pocketclip.files import write_atomically
from pocketclip.recipe import Recipe, dump_recipe
from pocketclip.run.fit import fit_to_data
from pocketclip.train.checkpoint import CheckpointFolder


def without_tuning(recipe: Recipe, folder: Path) -> tuple[Recipe, float]:
    """The recipe with the heads alone, of which the run in `folder` is made one that goes on.

    Returns it with the seconds that training the heads took, which a run that goes on counts a second time.
    """
    values = recipe.model_dump(mode="json")
    values |= {"train": values["heads_first"], "heads_first": None}
    rest = Recipe.parse(values, place="fit")
    write_atomically(folder / "recipe.yaml", dump_recipe(fit_to_data(rest)[0]))
    heads, train = folder / "checkpoints" / "heads_first", folder / "checkpoints" / "train"
    state = CheckpointFolder(heads).load_newest()
    if state is not None and not train.exists():
        heads.rename(train)
    return rest, sum(state["progress"]["seconds"].values()) if state is not None else 0.0
