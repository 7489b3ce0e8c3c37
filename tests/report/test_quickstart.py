"""What the quickstart adds to a run that is over: cost, gallery, index and the page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.cost import latency
from pocketclip.cost.weigh import measure_cost
from pocketclip.data import open_source
from pocketclip.evaluate.tasks import Retrieval
from pocketclip.features.encode import embed_source
from pocketclip.models import DualEncoder
from pocketclip.records import CostResult, RunRecord, read_records, write_record
from pocketclip.report import quickstart
from pocketclip.report.gallery import make_gallery, read_gallery
from pocketclip.report.quickstart import finish
from pocketclip.run.scores import EvaluatedSplit
from pocketclip.run.train import Outcome
from pocketclip.search import Index


@pytest.fixture
def outcome(
    tiny_pretrained: PretrainedModel,
    make_folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Outcome:
    """A run over pictures of which number 3 is broken, as training leaves it."""
    monkeypatch.setattr(latency, "WARM_UP_SECONDS", 0.0)
    monkeypatch.setattr(latency, "MIN_RUNS", 2)

    def briefly(model: DualEncoder, **options: Any) -> CostResult:
        return measure_cost(model, **{**options, "seconds": 0.0})

    monkeypatch.setattr(quickstart, "measure_cost", briefly)
    photos = make_folder(9)
    (photos / "003.jpg").write_bytes(b"no picture")
    source, folder = open_source(f"folder:{photos}"), tmp_path / "run"
    tiny_pretrained.save_pretrained(folder / "bundle", card="# Tiny\n")
    embeddings = embed_source(tiny_pretrained, source)
    result = Retrieval().result(embeddings, source, split="test")
    record = RunRecord(
        name="quick", seed=0, recipe_hash="ab", num_steps=4, num_images=9, num_captions=18, seconds={"total": 2.0}
    )
    write_record(result, folder, "retrieval_test")
    write_record(record, folder, "run")
    (folder / "metrics.jsonl").write_text('{"stage": "train", "step": 1, "epoch": 1, "loss": 2.0}\n')
    return Outcome(folder, tiny_pretrained, {"test": EvaluatedSplit(source, embeddings, result)}, record)


def test_the_cost_is_measured_of_the_runs_model_and_recorded(outcome: Outcome) -> None:
    cost, _ = finish(outcome, device="cpu")
    assert (cost.name, cost.metrics["device"]) == ("quick", "cpu")
    assert cost.metrics["parameters_total"] == sum(value.numel() for value in outcome.model.model.parameters())
    assert (cost.metrics["image_size"], cost.metrics["context_length"]) == (32, 16)
    assert float(cost.metrics["bundle_mib"] or 0) > 0
    assert cost in read_records(outcome.folder)


def test_every_readable_picture_can_be_searched_by_its_own_name(outcome: Outcome) -> None:
    finish(outcome, device="cpu")
    index = Index.open(outcome.folder / "index")
    assert [item.key for item in index.items] == [f"{number:03d}" for number in range(9) if number != 3]
    assert index.items[3].captions == ["picture 4 caption 0", "picture 4 caption 1"]
    assert all(Path(item.place).is_file() for item in index.items)
    for row, item in enumerate(index.items):
        (picture,) = outcome.model.encode_image(Path(item.place))
        assert index.search(picture, 1)[0].item == item
        # the index was filled through the fast decoder, whose pixels differ by one step here and there
        np.testing.assert_allclose(index.embeddings[row], picture, atol=2e-3)


def test_the_indexs_model_is_the_runs_bundle_wherever_the_run_is_moved(outcome: Outcome, tmp_path: Path) -> None:
    finish(outcome, device="cpu")
    moved = outcome.folder.rename(tmp_path / "moved")
    loaded = PretrainedModel.from_pretrained(Index.open(moved / "index").model)
    query = loaded.to("cpu", precision="float32").encode_text("picture 4")
    assert np.array_equal(query, outcome.model.encode_text("picture 4"))


def test_the_gallery_is_that_of_the_test_split(outcome: Outcome) -> None:
    finish(outcome, device="cpu")
    split = outcome.splits["test"]
    assert read_gallery(outcome.folder) == make_gallery("test", split.source, split.embeddings)


def test_the_page_holds_scores_pictures_cost_and_curve(outcome: Outcome) -> None:
    _, page = finish(outcome, device="cpu")
    assert page == outcome.folder / "report.html"
    text = page.read_text(encoding="utf-8")
    for part in (
        "test: 8 images, 16 captions",
        "text → image",
        "A sentence finds images",
        "An image finds sentences",
        "Cost",
        "Loss",
        "quick",
    ):
        assert part in text
