"""`pocketclip index`."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from pocketclip.cli.loading import loading
from pocketclip.cli.options import Device, MaxBrokenShare, Model, SourceText
from pocketclip.cli.telling import tell


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
    from pocketclip.asked.index import Index, fingerprint_of
    from pocketclip.cli.progress import reporter, tell_left_out
    from pocketclip.data import open_source
    from pocketclip.features.encode import embed_source
    from pocketclip.run.embedding import item_lines
    from pocketclip.search import Item

    opened = open_source(source, place="SOURCE")
    with loading(model):
        loaded = open_model(model, device=device)
    lasting = lasting_name(model)
    fingerprint = fingerprint_of(lasting, loaded)  # before the work: the bundle may be trained again meanwhile
    with reporter(max_broken_share, len(opened)) as shown:
        tell_left_out(shown, opened)
        embeddings = embed_source(loaded, opened, shown)
    Index.write(
        out,
        model=lasting,
        model_fingerprint=fingerprint,
        source=source,
        typed_in=str(Path.cwd()),
        embeddings=embeddings.images,
        hubs=loaded.hubs,
        items=[Item(**json.loads(line)) for line in item_lines(opened, embeddings.indices)],
    )
    command = f'pocketclip search "a red boat" --index {shlex.quote(str(out))}'
    tell(f"{len(embeddings.images):,} images. Search them: {command}")
