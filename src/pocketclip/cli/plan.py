"""`pocketclip plan`."""

from typing import TYPE_CHECKING, Annotated

import typer

from pocketclip.cli.options import Json, wants_json

if TYPE_CHECKING:
    from pocketclip.cost.plan import Plan


def plan(
    recipe: Annotated[
        str, typer.Argument(help="A YAML file, or the name of a shipped recipe (pocketclip list recipes).")
    ],
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
        float | None, typer.Option(metavar="DOLLARS_PER_HOUR", help="In the place of the listed price.")
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Train a few steps on this machine first.")] = False,
    changes: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")
    ] = [],  # noqa: B006 (typer copies it)
    json_lines: Json = False,
) -> None:
    """Say what a training takes before you spend it: hours, dollars, storage.

    \b
    The speed is the one you give, else a record's, else a published one, else an estimate with a range
    (docs/plan.md).

    \b
    Example:
      pocketclip plan flickr/flickr8k_heads_cpu --hardware laptop-cpu-2 --price 0.10
    """
    import json

    from pocketclip.recipe import find_recipe, list_recipes, load_recipe, recipe_folder
    from pocketclip.run.plan import plan_run

    loaded = load_recipe(recipe, changes)
    path = find_recipe(recipe)
    shipped = {recipe_folder() / f"{name}.yaml": name for name in list_recipes()}
    found = plan_run(
        loaded,
        shipped.get(path.resolve(), shipped.get(path, recipe)),
        hardware,
        changes=tuple(changes),
        throughput=throughput,
        num_samples=samples,
        dollars_per_hour=price,
        measure=measure,
    )
    if wants_json(json_lines):
        typer.echo(json.dumps(found.model_dump(mode="json")))
    else:
        _show(found)


def _show(found: "Plan") -> None:
    """The plan to stdout, where its numbers come from to stderr."""
    from pocketclip.cli.tables import print_table
    from pocketclip.report.table import plan_rows

    print_table(f"{found.recipe} on {found.hardware}", ["", ""], plan_rows(found))
    typer.echo(f"Samples: {found.samples_source}.\nSpeed: {found.throughput.source}.", err=True)
    if found.dollars_per_hour is not None:
        typer.echo(f"Price: {found.price_source}.", err=True)
    for note in found.notes:
        typer.echo(f"Note: {note}.", err=True)
