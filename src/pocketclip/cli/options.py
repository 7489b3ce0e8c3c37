"""Options that several commands share, and what some of them do to the text that was typed."""

import sys
from typing import Annotated

import typer

from pocketclip.cli import telling


def asks_json(asked: bool) -> bool:
    """Whether JSON was asked for, by `--json` or `--format json`."""
    if asked and telling.asked.format in ("table", "csv"):
        raise typer.BadParameter(f"is --format json, and --format {telling.asked.format} was given; leave one out.")
    return asked or telling.asked.format == "json"


def wants_json(asked: bool) -> bool:
    """JSON when asked for, or when the output goes to a file or another program and no table was asked for."""
    return asks_json(asked) or (telling.asked.format is None and not sys.stdout.isatty())


MODEL_HELP = (
    "A bundle, a run folder, or a bundle's name on the Hugging Face hub; of other libraries open_clip:NAME/PRETRAINED, "
    "hf:NAME, st:NAME or timm:NAME."
)
Model = Annotated[str, typer.Option("--model", metavar="MODEL", help=MODEL_HELP)]
Recipe = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe (pocketclip list recipes)."),
]
Changes = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")]
SourceText = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="KIND:PLACE, such as folder:photos, csv:pairs.csv or webdataset:data/x-{000000..000002}.tar; "
        "see `pocketclip list sources`. A plain folder, table or pattern of shards works too.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto for the first GPU if there is one.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Read every picture again instead of trusting the times of files.")
]
MaxBrokenShare = Annotated[float, typer.Option(min=0, max=1, help="Stop above this share of broken items.")]
JSON_HELP = "The same as --format json."
Json = Annotated[bool, typer.Option("--json", help=JSON_HELP, callback=wants_json)]
Price = Annotated[
    float | None,
    typer.Option("--price", min=0, metavar="DOLLARS_PER_HOUR", help="Of this machine; adds what the work costs."),
]
