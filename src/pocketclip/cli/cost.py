"""`pocketclip cost`."""

import json
from typing import Annotated, Literal

import typer

from pocketclip.cli.loading import loading
from pocketclip.cli.options import MODEL_HELP, Device, Json, Price


def cost(
    model: Annotated[
        str, typer.Argument(metavar="MODEL_OR_RECIPE_OR_SIZE", help=f"A recipe, a size, or a model. {MODEL_HELP}")
    ],
    device: Device = "auto",
    precision: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Of the timings.")] = "auto",
    seconds: Annotated[float, typer.Option(help="Spent on each of the four timings.")] = 1.0,
    price: Price = None,
    energy: Annotated[bool, typer.Option("--energy", help="Measure the energy too (needs codecarbon).")] = False,
    json_lines: Json = False,
) -> None:
    """Weigh a model: parameters, multiply-accumulates, latency, throughput, memory.

    \b
    Examples:
      pocketclip cost runs/mine
      pocketclip cost mobileclip_s0
      pocketclip cost open_clip:MobileCLIP-S1/datacompdr
      pocketclip cost flickr/resnet50_distilbert_flickr30k --price 0.50
    """
    from pocketclip.cli.progress import reporter
    from pocketclip.cli.tables import print_cost

    with loading(model):
        from pocketclip.run.cost import cost_of  # and with it torch
    with reporter() as shown:
        weighed = cost_of(
            model,
            device=device,
            precision=precision,
            seconds=seconds,
            dollars_per_hour=price,
            with_energy=energy,
            watch=shown,
        )
    if json_lines:
        typer.echo(json.dumps(weighed.to_json()))
    else:
        print_cost(weighed)
