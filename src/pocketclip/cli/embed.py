"""`pocketclip embed`."""

from pathlib import Path
from typing import Annotated

import typer

from pocketclip.cli.options import Device, MaxBrokenShare, Model, SourceText, source_text


def embed(
    source: SourceText,
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for the arrays.")],
    device: Device = "auto",
    max_broken_share: MaxBrokenShare = 0.01,
) -> None:
    """Embed a source's images and captions as numpy arrays.

    \b
    Writes images.npy (N, D), texts.npy (Q, D), text_images.npy (Q,) and items.jsonl to --out.

    \b
    Example:
      pocketclip embed folder:photos --model runs/mine --out embedded
    """
    import numpy as np

    from pocketclip.cli.encoding import embed_with_progress
    from pocketclip.files import cannot_write

    _, embeddings, items = embed_with_progress(source_text(source), model, device, max_broken_share)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in ("images", "texts", "text_images"):
            with (out / f"{name}.npy").open("wb") as file:
                np.save(file, getattr(embeddings, name))
        (out / "items.jsonl").write_text("".join(f"{item}\n" for item in items), encoding="utf-8")
    except OSError as error:
        raise cannot_write(out, error) from error
    typer.echo(f"{len(embeddings.images):,} images and {len(embeddings.texts):,} captions in {out}", err=True)
