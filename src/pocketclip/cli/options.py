"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str, typer.Option(help="cpu, cuda, or auto for the first GPU if there is one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")]
MODEL_HELP = (
    "A bundle, a run folder, or a bundle's name on the Hugging Face hub; of other libraries open_clip:NAME/PRETRAINED, "
    "hf:NAME or timm:NAME."
)
Model = Annotated[str, typer.Option("--model", help=MODEL_HELP)]
MaxBrokenShare = Annotated[float, typer.Option(min=0, max=1, help="Stop above this share of broken items.")]
SourceText = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="KIND:PLACE, such as folder:photos, csv:pairs.csv or webdataset:data/x-{000000..000002}.tar; "
        "see `pocketclip list sources`. A plain folder works too.",
        show_default=False,
    ),
]


def source_text(text: str) -> str:
    """A plain folder stands for `folder:DIR`."""
    return f"folder:{text}" if ":" not in text and Path(text).is_dir() else text


def wants_json(asked: bool) -> bool:
    """JSON when asked for, or when the output goes to a file or another program."""
    import sys

    return asked or not sys.stdout.isatty()
