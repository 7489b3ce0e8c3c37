"""`pocketclip train`."""

import shlex
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketclip.cli import STARTED
from pocketclip.cli.options import Changes, Device, Json, Price, Recipe, Verify
from pocketclip.cli.telling import tell

if TYPE_CHECKING:
    from pocketclip.run.train import Outcome


def train(
    recipe: Recipe,
    changes: Changes = [],  # noqa: B006 (typer copies it)
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/RECIPE_NAME by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    verify: Verify = False,
    device: Device = "auto",
    price: Price = None,
    energy: Annotated[bool, typer.Option("--energy", help="Measure the run's energy (needs codecarbon).")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Write where the time of some early steps went to OUT/profile.")
    ] = False,
    fsdp: Annotated[
        bool, typer.Option("--fsdp", help="With torchrun: spread the weights over the processes (FSDP2).")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
    json_lines: Json = False,
) -> None:
    """Train a model from a recipe; ends with a measured bundle you can load, search with and ship.

    `pocketclip fit` writes a recipe for your own pictures; this command carries out any.

    \b
    Examples:
      pocketclip train flickr/flickr8k_heads_cpu --set seed=1
      pocketclip train runs/mine/recipe.yaml --out runs/again

    \b
    On several GPUs or machines (docs/distributed.md):
      torchrun --nproc-per-node 8 -m pocketclip train RECIPE --out runs/mine
    """
    from pocketclip.cli.progress import reporter
    from pocketclip.errors import UserError
    from pocketclip.recipe import dump_recipe, load_recipe
    from pocketclip.run.fit import fit_to_data
    from pocketclip.shipped_recipes import find_recipe

    loaded = load_recipe(recipe, changes)
    if dry_run:
        with suppress(UserError), reporter() as shown:  # data that are not here are fitted when they are
            loaded, _ = fit_to_data(loaded, shown)
        typer.echo(dump_recipe(loaded), nl=False)
        return
    name = find_recipe(recipe).stem
    folder = out or Path("runs") / name
    if name == "recipe":  # a run folder's own copy
        name = folder.name

    from pocketclip import distributed
    from pocketclip.files import alone_in
    from pocketclip.run.train import train as run_training

    with ExitStack() as stack:
        stack.enter_context(distributed.started(device))
        shown = stack.enter_context(reporter(quiet=not distributed.is_main()))
        distributed.on_main(lambda: stack.enter_context(alone_in(folder)))
        outcome = run_training(
            loaded,
            folder,
            name=name,
            watch=shown,
            resume=resume,
            device=device,
            dollars_per_hour=price,
            with_energy=energy,
            with_profile=profile,
            with_sharding=fsdp,
            verify=verify,
            started=STARTED,
        )
        is_main = distributed.is_main()
    if is_main:
        show_outcome(outcome, as_json=json_lines)


def show_outcome(outcome: "Outcome", *, as_json: bool) -> None:
    """Scores to stdout, where things lie to stderr."""
    from pocketclip.cli.tables import print_results
    from pocketclip.evaluate.tasks import task_of
    from pocketclip.report.gallery import make_gallery, write_gallery

    folder = outcome.folder
    split = "test" if "test" in outcome.splits else "val"
    shown = outcome.splits[split]
    if "captions" in task_of(shown.result).needs:  # pictures for sentences, and not pairs of them
        write_gallery(make_gallery(split, shown.source, shown.embeddings), folder)
    print_results((evaluated.result for evaluated in outcome.splits.values()), as_json=as_json)
    if broken := outcome.record.broken_items:
        items = "1 item was" if len(broken) == 1 else f"{len(broken):,} items were"
        tell(f"{items} left out; see broken_items in {folder}/records/run.json.")
    tell(f"Bundle: {folder}/bundle   Pictures and curves: {shlex.join(['pocketclip', 'report', str(folder)])}")
