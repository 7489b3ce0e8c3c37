"""`pocketclip data features`."""

import json

import typer

from pocketclip.cli.options import Changes, Device, Json, Recipe
from pocketclip.cli.stages import EngineOption, RayAddress
from pocketclip.cli.tables import print_table


def features(
    recipe: Recipe,
    changes: Changes = [],  # noqa: B006 (typer copies it)
    device: Device = "auto",
    engine: EngineOption = "local",
    ray_address: RayAddress = None,
    json_lines: Json = False,
) -> None:
    """Fill the feature cache that training with RECIPE reads: the towers run here, and `train` finds it all done.

    \b
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
    if json_lines:
        typer.echo(json.dumps({f"num_images_{split}": count for split, count in counts.items()}))
    else:
        print_table("feature cache", ["", "images"], [[split, f"{count:,}"] for split, count in counts.items()])
