"""Running a model over a source with a progress bar. Commands import this in their bodies: it loads torch."""

from collections.abc import Iterator
from contextlib import contextmanager

from pocketclip.asked import open_model
from pocketclip.cli.progress import reporter
from pocketclip.data import open_source
from pocketclip.data.source import Source
from pocketclip.embedder import Embedder
from pocketclip.features.encode import Embeddings, embed_source
from pocketclip.run.embedding import item_lines
from pocketclip.stages.watch import Watch


@contextmanager
def opened(
    text: str, model: str, device: str, max_broken_share: float, *, place: str
) -> Iterator[tuple[Source, Embedder, Watch]]:
    """A source, a model, and what shows how far the one is through the other.

    Args:
        text: the source as it was typed.
        model: as `open_model` takes it.
        device: `cpu`, `cuda` or `auto`.
        max_broken_share: of the source's items.
        place: option or argument that `text` came from.

    Raises:
        UserError: the source or the model cannot be opened, or too many items are broken.
    """
    source = open_source(text, place=place)
    loaded = open_model(model, device=device)
    with reporter(max_broken_share, len(source)) as shown:
        yield source, loaded, shown


def embed_with_progress(
    text: str, model: str, device: str, max_broken_share: float
) -> tuple[Source, Embeddings, list[str]]:
    """Embed what `text` names; returns the source, its embeddings and one JSON line an image.

    Raises:
        UserError: see `opened`.
    """
    with opened(text, model, device, max_broken_share, place="SOURCE") as (source, loaded, progress):
        embeddings = embed_source(loaded, source, progress)
    return source, embeddings, item_lines(source, embeddings.indices)
