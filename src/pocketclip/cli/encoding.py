"""Embedding a source with a progress bar. Commands import this in their bodies: it loads torch."""

import json

from pocketclip.cli.progress import reporter
from pocketclip.data import open_source
from pocketclip.data.broken import BrokenItems
from pocketclip.data.encode import Embeddings
from pocketclip.data.source import Source
from pocketclip.evaluate.tasks import embed_source
from pocketclip.hardware import keep_freed_memory
from pocketclip.models.pretrained import PretrainedModel


def embed_with_progress(
    text: str, model: str, device: str, max_broken_share: float
) -> tuple[Source, Embeddings, list[str]]:
    """Embed what `text` names; returns the source, its embeddings and one JSON line an image.

    Raises:
        UserError: the source or the model cannot be opened, or too many items are broken.
    """
    source = open_source(text, place="SOURCE")
    keep_freed_memory()
    loaded = PretrainedModel.from_pretrained(model).to(device)
    broken = BrokenItems(len(source), max_broken_share, setting="--max-broken-share")
    with reporter() as shown:

        def progress(done: int, messages: list[str]) -> None:
            for message in broken.add(messages):
                shown.note(f"left out: {message}")
            shown.encoding("images", done, len(source))

        embeddings = embed_source(loaded, source, progress)
    lines = []
    for index in embeddings.indices:
        sample = source[int(index)]
        values = {"key": sample.key, "place": sample.place, "captions": list(sample.captions)}
        lines.append(json.dumps(values, ensure_ascii=False))
    return source, embeddings, lines
