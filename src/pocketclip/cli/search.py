"""`pocketclip search`."""

from pathlib import Path
from typing import Annotated

import typer

from pocketclip.cli.options import Json, wants_json


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
    import json

    from pocketclip.search import Index

    opened = Index.open(index)  # before the model: a wrong folder should not cost ten seconds

    from pocketclip.asked import open_model

    model = open_model(opened.model, text_only=True)
    hits = opened.search(model.encode_text(query)[0], count)
    if wants_json(json_lines):
        for hit in hits:
            values = {"score": round(hit.score, 4), "key": hit.item.key, "place": hit.item.place}
            typer.echo(json.dumps({**values, "captions": hit.item.captions}, ensure_ascii=False))
        return
    for hit in hits:
        caption = hit.item.captions[0] if hit.item.captions else ""
        typer.echo(f"{hit.score:6.3f}  {hit.item.place}  {caption}")
