"""`pocketclip quickstart`."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from pocketclip.cli.options import Device
from pocketclip.cli.telling import asked, tell


def quickstart(
    out: Annotated[Path, typer.Option(help="The run's folder; an earlier quickstart there is replaced.")] = Path(
        "runs/quickstart"
    ),
    device: Device = "auto",
) -> None:
    """The whole story on real drawings, under a minute on two cores: train, measure, weigh, search.

    Learns which emoji a sentence means from OpenMoji's drawings and their Unicode names, and is tested on emoji
    whose concepts it never saw. Downloads nothing.
    """
    from pocketclip.errors import UserError, require_extra

    require_extra("quickstart", "train", "study")
    tell(
        "Learning to find emoji by their names (drawings by OpenMoji, CC BY-SA 4.0).\n"
        "Loading torch and the pretrained towers takes a few seconds..."
    )
    from pocketclip.cli.progress import reporter
    from pocketclip.cli.tables import print_cost, print_results
    from pocketclip.files import holds_only
    from pocketclip.recipe import dump_recipe, load_recipe
    from pocketclip.report.quickstart import finish
    from pocketclip.run.setup import START
    from pocketclip.run.train import train

    recipe = load_recipe("quickstart/openmoji")
    theirs = out / "recipe.yaml"
    if theirs.is_file() and theirs.read_text(encoding="utf-8") == dump_recipe(recipe):
        tell(f"{out}: an earlier quickstart, which is replaced.")
        shutil.rmtree(out)
    elif out.exists() and not holds_only(out, *START):
        raise UserError(f"{out}: holds something other than a quickstart of this version; choose another --out.")
    with reporter() as shown:
        outcome = train(recipe, out, name="quickstart", watch=shown, device=device)
    cost, page = finish(outcome, device=device)
    print_results(evaluated.result for evaluated in outcome.splits.values())
    print_cost(cost)
    test = outcome.splits["test"].result
    typer.echo(
        f"\nThe test emoji are of concepts never seen in training. Chance R@1: {1 / test.num_images:.2%}.\n\n"
        f"Look at it:          {page}"
    )
    if asked.quiet:
        return
    typer.echo(
        f'Search the emoji:    pocketclip search "something sweet to eat" --index {out}/index -n 5\n'
        "Train on your own:   pocketclip fit folder:PHOTOS --budget 2min --out runs/mine\n"
        "                     (PHOTOS holds dog.jpg with its captions in dog.txt, one a line)"
    )
