"""`pocketclip embed`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pocketclip.cli.loading import loading
from pocketclip.cli.options import Device, MaxBrokenShare, Model, SourceText, Verify
from pocketclip.cli.stages import EngineOption, RayAddress, Resume
from pocketclip.cli.telling import tell


def embed(
    source: SourceText,
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for the arrays.")],
    device: Device = "auto",
    engine: EngineOption = "local",
    ray_address: RayAddress = None,
    resume: Resume = False,
    verify: Verify = False,
    max_broken_share: MaxBrokenShare = 0.01,
) -> None:
    """Embed a source's images and captions as numpy arrays.

    Writes images.npy (N, D), texts.npy (Q, D), text_images.npy (Q,) and items.jsonl to --out.

    \b
    Example:
      pocketclip embed folder:photos --model runs/mine --out embedded
    """
    from pocketclip.cli.progress import reporter
    from pocketclip.models.running.precision import resolve_device
    from pocketclip.run.embedding import open_embedding, write_embeddings
    from pocketclip.stages.cluster import open_engine

    with loading(model):
        found = str(resolve_device(device))  # imports torch
    open_stage = partial(open_embedding, source, model, found, verify=verify)
    with open_engine(engine, ray_address) as compute:
        with reporter() as shown:
            stage = open_stage(watch=shown)
        with reporter(max_broken_share, stage.num_samples) as shown:
            num_images, num_texts = write_embeddings(stage, open_stage, out, compute, shown, resume=resume)
    tell(f"{num_images:,} images and {num_texts:,} captions in {out}")
