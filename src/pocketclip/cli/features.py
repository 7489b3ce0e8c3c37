"""`pocketclip data features`."""

from pocketclip.cli.options import Changes, Device, Json, Recipe
from pocketclip.cli.stages import EngineOption, RayAddress
from pocketclip.cli.tables import print_one


def features(
    recipe: Recipe,
    changes: Changes = [],  # noqa: B006 (typer copies it)
    device: Device = "auto",
    engine: EngineOption = "local",
    ray_address: RayAddress = None,
    json_lines: Json = False,
) -> None:
    """Fill the feature cache that training with RECIPE reads: the towers run here, and `train` finds it all done.

    The cache is $POCKETCLIP_CACHE. A stopped call goes on where it was when called again.

    \b
    Example:
      pocketclip data features flickr/flickr8k_heads_cpu --engine ray
    """
    from pocketclip.cli.progress import reporter
    from pocketclip.recipe import load_recipe
    from pocketclip.run.features import fill_cache
    from pocketclip.stages.cluster import open_engine

    loaded = load_recipe(recipe, changes)
    with open_engine(engine, ray_address) as compute, reporter() as shown:
        counts = fill_cache(loaded, compute, shown, device=device)
    values = {f"num_images_{split}": count for split, count in counts.items()}
    rows = [[split, f"{count:,}"] for split, count in counts.items()]
    print_one(values, "feature cache", ["", "images"], rows, as_json=json_lines)
