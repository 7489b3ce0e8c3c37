"""The retrieval demo: what a model finds in a source, drawn at random, with its recalls and its cost, on one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketclip.asked import library_model
from pocketclip.bundle import find_bundle
from pocketclip.data.captions import clean_captions
from pocketclip.data.identities import find_identities
from pocketclip.data.source import Source
from pocketclip.data.sources.openmoji import ATTRIBUTION
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError, require
from pocketclip.evaluate.tasks import EmbeddingTask, Retrieval, embedding_task, task_of
from pocketclip.features.encode import embed_source, encode_texts
from pocketclip.records import EvalResult, Provenance, RunRecord, read_records
from pocketclip.report.approaches import PUBLISHED, own_row
from pocketclip.report.gallery import Example, Gallery, find_images, make_gallery
from pocketclip.report.headline import headline
from pocketclip.report.page import make_room, write_page
from pocketclip.stages.watch import SILENT, Watch

NUM_IMAGE_QUERIES = 10
MAX_SENTENCES = 50
"""Of the user's own; keeps the page at a few MiB."""


@dataclass(frozen=True)
class Demo:
    """What the page shows."""

    name: str
    source: str
    num_images: int
    """Readable ones, with or without a caption."""
    seed: int
    result: EvalResult | None
    """None where no image has a caption, so that nothing can be right or wrong."""
    gallery: Gallery
    asked: list[Example]
    """The user's own sentences."""
    num_parameters: int
    context_length: int
    record: RunRecord | None
    """Of the run that made the model."""
    credit: str = ""
    """Whose pictures are shown, where that has to be said."""


def check_request(out: Path, sentences: Sequence[str]) -> list[str]:
    """What can go wrong before the work begins, and the page's folder; returns the sentences as they will be asked.

    Raises:
        UserError: a place that cannot be written, an empty sentence or too many, or jinja2 is missing.
    """
    require("jinja2", extra="study")
    make_room(out)
    if len(sentences) > MAX_SENTENCES:
        raise UserError(f"--sentence: at most {MAX_SENTENCES} fit on the page (got {len(sentences)}).")
    cleaned = clean_captions(sentences)
    if len(cleaned) < len(sentences):
        raise UserError("--sentence: one is empty; give a sentence, or leave the option out.")
    return list(cleaned)


def make_demo(
    place: str, model: Embedder, source: Source, *, sentences: Sequence[str] = (), seed: int = 0, watch: Watch = SILENT
) -> Demo:
    """Embed a source once, measure the recalls, draw the queries and look up what is nearest.

    The model's run record is looked for at `place`, which it was loaded from. `sentences` are the user's own, as
    `check_request` gives them; no image is known to be right for them.

    Raises:
        UserError: no readable picture, or no caption and no sentence either.
    """
    if len(source) == 0:
        raise UserError(f"{source.name}: no images.")
    record = find_run_record(place)  # a damaged one should not cost the embedding
    exact = model.for_scores()
    embeddings = embed_source(exact, source, watch)
    if len(embeddings.images) == 0:
        raise UserError(f"{source.name}: no picture can be read. The first: {embeddings.broken[0]}")
    if len(embeddings.texts) == 0 and not sentences:
        raise UserError(f"{source.name}: no readable picture has a caption; ask for something with --sentence TEXT.")
    result, gallery = None, Gallery("all", 0, [], [])
    if len(embeddings.texts):
        result = _task_of(source).result(embeddings, source)
        gallery = make_gallery("all", source, embeddings, seed=seed, num_image_queries=NUM_IMAGE_QUERIES)
    vectors = encode_texts(sentences, exact.encode_texts, exact.text_reader())
    return Demo(
        name=record.name if record is not None else _short_name(place),
        source=source.name,
        num_images=len(embeddings.images),
        seed=seed,
        result=result,
        gallery=gallery,
        asked=find_images(source, embeddings, sentences, vectors),
        num_parameters=model.num_parameters,
        context_length=exact.text_reader().context_length,
        record=record,
        credit=source.credit,
    )


def _task_of(source: Source) -> EmbeddingTask:
    """What its pages measure: by identity where the source says who is who."""
    return embedding_task("person_retrieval") if find_identities(source).names else Retrieval()


def find_run_record(place: str) -> RunRecord | None:
    """The record of the run that made a model; None for a bundle that left its run, one from a hub, or no bundle.

    Raises:
        UserError: there is no such model, or a record beside it is damaged.
    """
    if library_model(place) is not None:
        return None
    bundle = find_bundle(place)
    folder = bundle.parent if bundle.resolve().name == "bundle" else bundle
    return next((record for record in read_records(folder) if isinstance(record, RunRecord)), None)


def _short_name(place: str) -> str:
    """A folder's own name rather than where it lies on this machine; a hub name as it is."""
    if not Path(place).exists():
        return place
    path = Path(place).resolve()
    return path.parent.name if path.name == "bundle" else path.name


def write_demo(demo: Demo, out: Path) -> Path:
    """Write the page to an HTML file, whole or not at all."""
    own = own_row(demo.name, demo.num_parameters, demo.record)
    return write_page(
        out,
        "demo.html",
        demo=demo,
        task=Retrieval() if demo.result is None else task_of(demo.result),
        sentences=[] if demo.result is None else headline([demo.result]),
        approaches=[*PUBLISHED, own],
        own=own,
        provenance=Provenance() if demo.result is None else demo.result.provenance,
        attribution=demo.credit or (ATTRIBUTION if demo.source.startswith("openmoji") else ""),
    )
