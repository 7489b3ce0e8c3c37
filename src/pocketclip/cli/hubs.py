"""`pocketclip hubs`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pocketclip.cli.loading import loading
from pocketclip.cli.options import Device, MaxBrokenShare
from pocketclip.cli.telling import tell


def hubs(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A bundle or a run folder.")],
    data: Annotated[str, typer.Option("--data", metavar="SOURCE", help="Its training data, as KIND:PLACE.")],
    out: Annotated[
        Path | None, typer.Option(help="A new folder for the bundle with its bank; without it MODEL gets it.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="num_captions, num_images, scale; or kind=csls, num_nearest."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    device: Device = "auto",
    max_broken_share: MaxBrokenShare = 0.01,
) -> None:
    """Give a model a bank by which scores are corrected, so that hubs do not come first.

    Some pictures are near to every sentence. A bank of training captions and pictures says which: `evaluate` then
    reports corrected scores beside the plain ones, and `index` and `search` rank by them. In a recipe: hubs: {}.

    \b
    Examples:
      pocketclip hubs runs/mine --data folder:photos
      pocketclip hubs runs/mine --data folder:photos --set scale=10 --out better
    """
    from pocketclip.asked import library_model
    from pocketclip.asked.bundle import PretrainedModel
    from pocketclip.cli.progress import reporter, tell_left_out
    from pocketclip.config import apply_change
    from pocketclip.data import open_source
    from pocketclip.errors import UserError
    from pocketclip.hubs import settings_of
    from pocketclip.run.hubs import add_hubs, make_hubs

    if library_model(model) is not None:
        raise UserError(f"{model}: a model of another library, whose files have no room for a bank.")
    values: dict[str, Any] = {}
    for change in changes or []:
        apply_change(values, change, example="scale=30")
    settings = settings_of(values, place="--set")
    source = open_source(data, place="--data")
    with loading(model):
        loaded = PretrainedModel.from_pretrained(model).to(device)
    with reporter(max_broken_share, len(source)) as shown:
        tell_left_out(shown, source)
        bank = make_hubs(loaded, source, settings, seed=seed, watch=shown)
    place = add_hubs(model, loaded, bank, out)
    tell(f"{place}: {bank.told}, {place.stat().st_size / 2**20:.1f} MiB")
