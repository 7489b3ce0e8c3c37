"""What the quickstart adds to a run: cost, pictures, a searchable index and the page about it all."""

from pathlib import Path

from pocketclip.bundle import content_digest
from pocketclip.cost.weigh import measure_cost
from pocketclip.records import CostResult, write_record
from pocketclip.report.gallery import make_gallery, write_gallery
from pocketclip.report.runs import write_report
from pocketclip.run.train import Outcome
from pocketclip.search import Index, Item


def finish(outcome: Outcome, *, device: str) -> tuple[CostResult, Path]:
    """Weigh the model, draw the gallery, index the `test` split of a run and write the report.

    Returns the cost, timed on `device`, and the report's place.
    """
    folder, model, test = outcome.folder, outcome.model, outcome.splits["test"]
    cost = measure_cost(
        model.model,
        name=outcome.record.name,
        image_size=model.preprocess.image_size,
        context_length=model.tokenizer.context_length,
        device=device,
        seconds=0.5,
        bundle=folder / "bundle",
    )
    write_record(cost, folder, "cost")
    write_gallery(make_gallery("test", test.source, test.embeddings), folder)
    samples = [test.source[int(index)] for index in test.embeddings.indices]
    items = [Item(sample.key, sample.place, list(sample.captions)) for sample in samples]
    Index.write(
        folder / "index",
        model=folder / "bundle",
        model_fingerprint=content_digest(folder / "bundle"),
        source=test.source.name,
        embeddings=test.embeddings.images,
        items=items,
        hubs=model.hubs,
    )
    return cost, write_report([folder], folder / "report.html")
