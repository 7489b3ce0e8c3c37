"""`pocketclip index`."""

from pathlib import Path
from typing import Annotated

import typer

from pocketclip.cli.options import Device, MaxBrokenShare, Model, SourceText, source_text


def index(
    source: SourceText,
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder of the index.")] = Path("index"),
    device: Device = "auto",
    max_broken_share: MaxBrokenShare = 0.01,
) -> None:
    """Make a folder of pictures searchable by sentence.

    \b
    Example:
      pocketclip index photos --model runs/mine --out index
      pocketclip search "two dogs in the snow" --index index
    """
    import json

    from pocketclip.asked import lasting_name
    from pocketclip.cli.encoding import embed_with_progress
    from pocketclip.search import Index, Item

    opened, embeddings, lines = embed_with_progress(source_text(source), model, device, max_broken_share)
    items = [Item(**json.loads(line)) for line in lines]
    Index.write(out, model=lasting_name(model), source=opened.name, embeddings=embeddings.images, items=items)
    typer.echo(f'{len(items):,} images. Search them: pocketclip search "a red boat" --index {out}', err=True)
