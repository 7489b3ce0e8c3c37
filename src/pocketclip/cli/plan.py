"""`pocketclip plan`."""

import json
from typing import Annotated

import typer

from pocketclip.cli import STARTED
from pocketclip.cli.options import Changes, Json, Recipe
from pocketclip.cli.tables import print_table
from pocketclip.cli.telling import tell


def plan(
    recipe: Recipe,
    hardware: Annotated[
        str, typer.Option(metavar="NAME", help="A machine of `pocketclip list hardware`, or this.")
    ] = "this",
    throughput: Annotated[
        float | None, typer.Option(metavar="SAMPLES_PER_S", help="Speed, if you know it from a run of your own.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(metavar="N", help="Samples of an epoch, where the data are not on this machine.")
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(min=0, metavar="DOLLARS_PER_HOUR", help="Of the machine, in the place of the listed price."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Where the data are not here, train on drawn ones first.")
    ] = False,
    changes: Changes = [],  # noqa: B006 (typer copies it)
    json_lines: Json = False,
) -> None:
    """Say what a training takes before you spend it: hours, dollars, storage.

    The speed is the one you give; on this machine that of a rehearsal, in seconds, on some of the run's own data; else
    a record's, else a published one, else an estimate with a range (docs/plan.md).

    \b
    Example:
      pocketclip plan flickr/flickr8k_heads_cpu --hardware laptop-cpu-2 \\
        --price 0.10
    """
    from pocketclip.cli.progress import reporter
    from pocketclip.files import shipped
    from pocketclip.recipe import load_recipe
    from pocketclip.report.table import plan_rows
    from pocketclip.run.plan import plan_run
    from pocketclip.shipped_recipes import find_recipe, list_recipes

    loaded = load_recipe(recipe, changes)
    path = find_recipe(recipe)
    names = {shipped("recipes") / f"{name}.yaml": name for name in list_recipes()}
    with reporter() as shown:
        planned = plan_run(
            loaded,
            names.get(path.resolve(), names.get(path, recipe)),
            hardware,
            changes=tuple(changes),
            throughput=throughput,
            num_samples=samples,
            dollars_per_hour=price,
            measure=measure,
            started=STARTED,
            watch=shown,
        )
    if json_lines:
        typer.echo(json.dumps(planned.model_dump(mode="json")))
        return
    print_table(f"{planned.recipe} on {planned.hardware}", ["", ""], plan_rows(planned))
    tell(f"Samples: {planned.samples_source}.\nSpeed: {planned.throughput.source}.")
    if planned.dollars_per_hour is not None:
        tell(f"Price: {planned.price_source}.")
    for note in planned.notes:
        tell(f"Note: {note}.")
