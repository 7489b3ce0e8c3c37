"""`pocketclip index`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pocketclip.cli.options import Device, MaxBrokenShare, Model, SourceText


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
    from pocketclip.asked import lasting_name, open_model
    from pocketclip.cli.progress import reporter, tell_left_out
    from pocketclip.data import open_source
    from pocketclip.features.encode import embed_source
    from pocketclip.run.embedding import item_lines
    from pocketclip.search import Index, Item

    opened = open_source(source, place="SOURCE")
    loaded = open_model(model, device=device)
    with reporter(max_broken_share, len(opened)) as shown:
        tell_left_out(shown, opened)
        embeddings = embed_source(loaded, opened, shown)
    items = [Item(**json.loads(line)) for line in item_lines(opened, embeddings.indices)]
    Index.write(out, model=lasting_name(model), source=opened.name, embeddings=embeddings.images, items=items)
    typer.echo(f'{len(items):,} images. Search them: pocketclip search "a red boat" --index {out}', err=True)
