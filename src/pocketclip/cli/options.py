"""Options that several commands share, and what some of them do to the text that was typed."""

import sys
from typing import Annotated

import typer


def wants_json(asked: bool) -> bool:
    """JSON when asked for, or when the output goes to a file or another program."""
    return asked or not sys.stdout.isatty()


MODEL_HELP = (
    "A bundle, a run folder, or a bundle's name on the Hugging Face hub; of other libraries open_clip:NAME/PRETRAINED, "
    "hf:NAME or timm:NAME."
)
Model = Annotated[str, typer.Option("--model", help=MODEL_HELP)]
Recipe = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe (pocketclip list recipes).")]
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
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.", callback=wants_json)]
