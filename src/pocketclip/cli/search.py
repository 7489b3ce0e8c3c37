"""`pocketclip search`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pocketclip.cli.options import Json
from pocketclip.errors import printable


def search(
    query: Annotated[str, typer.Argument(help="A sentence.")],
    index: Annotated[Path, typer.Option("--index", help="Folder that `pocketclip index` made.")] = Path("index"),
    count: Annotated[int, typer.Option("-n", min=1, help="How many results.")] = 10,
    json_lines: Json = False,
) -> None:
    """Find images by a sentence.

    \b
    Example:
      pocketclip search "two dogs in the snow" --index index -n 5
    """
    from pocketclip.search import Index

    opened = Index.open(index)  # before the model: a wrong folder should not cost ten seconds

    from pocketclip.asked import open_model

    model = open_model(opened.model, text_only=True)
    for hit in opened.search(model.encode_text(query)[0], count):
        item = hit.item
        if json_lines:
            values = {"score": round(hit.score, 4), "key": item.key, "place": item.place, "captions": item.captions}
            typer.echo(json.dumps(values, ensure_ascii=False))
        else:
            caption = item.captions[0] if item.captions else ""
            typer.echo(f"{hit.score:6.3f}  {printable(item.place)}  {printable(caption)}")
