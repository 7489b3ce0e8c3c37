"""The bank: drawn from training data alone, written by a run, added to a bundle, named in its card."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pocketclip
from conftest import QuietWatch, encode_picture, tiny_recipe_settings
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.bundle import content_digest
from pocketclip.cost.weigh import folder_bytes
from pocketclip.data import open_source
from pocketclip.data.identity import picture_ids
from pocketclip.errors import UserError
from pocketclip.evaluate.task import measure
from pocketclip.evaluate.tasks import Retrieval, TaskData
from pocketclip.hubs import FILE, Csls, Hubs, LogSumExp
from pocketclip.models.tower import NoTower
from pocketclip.recipe import Recipe
from pocketclip.records import EvalResult, Interval, RunRecord, read_records
from pocketclip.run import hubs as module
from pocketclip.run.hubs import HEADING, add_hubs, hubs_seconds, make_hubs, with_hubs
from pocketclip.run.train import train


@pytest.mark.parametrize(
    ("count", "times"),
    [(5, [1] * 5), (8, [1] * 8), (11, [1] * 5 + [2] * 3), (24, [3] * 8), (99, [3] * 8)],
)
def test_a_bank_is_of_captions_of_as_many_pictures_as_there_are(
    count: int,
    times: list[int],
    tiny_pretrained: PretrainedModel,
    make_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    really = PretrainedModel.encode_text

    def encode_text(model: PretrainedModel, texts: list[str]) -> object:
        asked.extend(texts)
        return really(model, texts)

    monkeypatch.setattr(PretrainedModel, "encode_text", encode_text)
    source = open_source(f"folder:{make_folder(8, 3)}", place="x")
    hubs = make_hubs(tiny_pretrained, source, LogSumExp(num_captions=count, num_images=6), seed=1)
    assert (hubs.captions.dtype, hubs.images.dtype) == (np.float16, np.float16)
    assert (len(hubs.captions), len(hubs.images)) == (min(count, 24), 6)
    assert len(set(asked)) == len(asked)
    assert sorted(Counter(text.split()[1] for text in asked).values()) == times
    assert set(hubs.pictures) <= set(picture_ids(source))
    assert len(hubs.pictures) == max(6, min(8, count))


@dataclass
class MadeUpRun:
    """What is asked of a run, with as many pictures of training data as the test says."""

    recipe: Recipe
    model: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(image_encoder=NoTower()))
    tokenizer: object = None
    preprocess: object = None
    device: str = "cpu"
    train_source: range = range(0)


@pytest.mark.parametrize(
    ("asked", "there", "of_all", "expected"),
    [({}, 6000, 6000, 2000), ({"num_images": 500}, 6000, 6000, 500), ({}, 128, 1500, 1500), ({}, 10, 10, 10)],
)
def test_what_a_bank_takes_is_known_from_a_few(
    asked: dict[str, int], there: int, of_all: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seconds for whatever comes first, and a tenth of one for each picture with its captions."""
    clock = 0.0
    sizes: list[tuple[int, int]] = []

    class NoModel:
        def __init__(self, *parts: object) -> None: ...

        def to(self, device: str) -> "NoModel":
            return self

    def made(model: NoModel, source: range, settings: LogSumExp) -> SimpleNamespace:
        nonlocal clock
        count = min(len(source), settings.num_images)
        clock += 2 + 0.1 * count
        sizes.append((settings.num_images, settings.num_captions))
        return SimpleNamespace(images=range(count))

    monkeypatch.setattr(module, "PretrainedModel", NoModel)
    monkeypatch.setattr(module, "make_hubs", made)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock)
    run: Any = MadeUpRun(Recipe.parse({**tiny_recipe_settings(), "hubs": asked}, place="x"), train_source=range(there))
    whole: Any = range(of_all)
    assert hubs_seconds(run, whole) == pytest.approx(2 + 0.1 * expected)
    assert all(images <= 96 and images < captions for images, captions in sizes)
    run.recipe = Recipe.parse(tiny_recipe_settings(), place="x")
    assert hubs_seconds(run, whole) == 0


def test_a_seed_draws_the_same_again(tiny_pretrained: PretrainedModel, make_folder: Callable[..., Path]) -> None:
    source = open_source(f"folder:{make_folder(8)}", place="x")
    settings = LogSumExp(num_captions=5, num_images=3)
    first, again, other = (make_hubs(tiny_pretrained, source, settings, seed=seed).digest for seed in (0, 0, 1))
    assert first == again != other


def test_what_cannot_be_read_is_left_out(tiny_pretrained: PretrainedModel, make_folder: Callable[..., Path]) -> None:
    folder = make_folder(6)
    (folder / "002.jpg").write_bytes(b"no picture")
    source = open_source(f"folder:{folder}", place="x")
    assert len(make_hubs(tiny_pretrained, source, LogSumExp()).images) == 5
    for file in folder.glob("*.jpg"):
        file.write_bytes(b"no picture")
    with pytest.raises(UserError, match="no picture can be read"):
        make_hubs(tiny_pretrained, open_source(f"folder:{folder}", place="x"), LogSumExp())


def test_pictures_without_captions_make_no_bank(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encode_picture())
    with pytest.raises(UserError, match="no sample has a caption; a bank of hubs needs"):
        make_hubs(tiny_pretrained, open_source(f"folder:{tmp_path}", place="x"), LogSumExp())


def recipe(**hubs: object) -> Recipe:
    return Recipe.parse({**tiny_recipe_settings(num_steps=2), "hubs": hubs}, place="test")


def test_a_recipe_without_a_bank_keeps_its_hash() -> None:
    plain = Recipe.parse(tiny_recipe_settings(), place="test")
    assert "hubs" not in plain.model_dump()
    assert recipe().fingerprint() != Recipe.parse(tiny_recipe_settings(num_steps=2), place="test").fingerprint()
    assert recipe().hubs == LogSumExp()
    assert recipe(kind="csls").hubs == Csls(kind="csls")
    assert Recipe.parse(recipe(kind="csls").model_dump(mode="json"), place="again") == recipe(kind="csls")


def test_a_run_writes_a_bank_of_its_training_data_alone_and_scores_with_it(tmp_path: Path) -> None:
    outcome = train(
        recipe(num_captions=10, num_images=6), tmp_path / "run", name="tiny", watch=QuietWatch(), resume=False
    )
    loaded = pocketclip.load(tmp_path / "run", device="cpu")
    assert loaded.hubs is not None
    assert outcome.model.hubs is not None
    assert loaded.hubs.digest == outcome.model.hubs.digest
    val = outcome.splits["val"]
    assert not np.isin(picture_ids(val.source), loaded.hubs.pictures).any()
    records = read_records(tmp_path / "run")
    evaluation = next(record for record in records if isinstance(record, EvalResult))
    run = next(record for record in records if isinstance(record, RunRecord))
    assert run.seconds["hubs"] > 0
    assert isinstance(evaluation.metrics["corrected_mean_recall"], Interval)
    again = measure(Retrieval(), loaded, TaskData(val.source))
    assert again.metrics == evaluation.metrics
    assert "text to image, corrected" in loaded.card.replace("→", "to")
    assert f"{HEADING}\n" in loaded.card
    assert "over 10 captions and 6 pictures of" in loaded.card


@pytest.mark.slow
def test_a_run_without_a_bank_scores_the_same_but_for_the_corrected(tmp_path: Path) -> None:
    plain = train(
        Recipe.parse(tiny_recipe_settings(num_steps=2), place="test"), tmp_path / "a", name="x", watch=QuietWatch()
    )
    both = train(recipe(num_captions=10, num_images=6), tmp_path / "b", name="x", watch=QuietWatch())
    assert plain.model.hubs is None
    assert not (tmp_path / "a" / "bundle" / FILE).exists()
    own = plain.splits["val"].result.metrics
    assert {name: both.splits["val"].result.metrics[name] for name in own} == own


def test_a_run_that_cannot_have_a_bank_says_so_before_it_trains(
    tmp_path: Path, make_folder: Callable[..., Path]
) -> None:
    settings = tiny_recipe_settings(num_steps=2)
    folder = make_folder(12)
    for file in folder.glob("*.txt"):
        file.unlink()
    settings["data"] = {"train": f"folder:{folder}", "val": "scenes:8,image_size=32"}
    with pytest.raises(UserError, match="caption"):
        train(Recipe.parse({**settings, "hubs": {}}, place="x"), tmp_path / "run", name="x", watch=QuietWatch())
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.fixture
def bundle(tiny_pretrained: PretrainedModel, tmp_path: Path) -> Path:
    return tiny_pretrained.save_pretrained(tmp_path / "runs" / "mine" / "bundle", card="# Tiny\n\n## Training\n\nx\n")


def bank(model: PretrainedModel, folder: Path, **settings: int) -> Hubs:
    return make_hubs(model, open_source(f"folder:{folder}", place="x"), LogSumExp(**settings))


def test_a_bundle_gets_a_bank_and_keeps_all_else(
    bundle: Path, tiny_pretrained: PretrainedModel, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    before = content_digest(bundle), folder_bytes(bundle)
    loaded = pocketclip.load(bundle, device="cpu")
    hubs = bank(loaded, make_folder(6))
    assert add_hubs(str(bundle.parent), loaded, hubs, None) == bundle / FILE
    again = pocketclip.load(bundle.parent, device="cpu")
    assert again.hubs is not None
    assert again.hubs.digest == hubs.digest
    assert content_digest(bundle) == before[0]  # indexes of the model stay its own
    assert folder_bytes(bundle) > before[1] + len(hubs.to_bytes()) - 1  # as `cost` counts a bundle
    kept = pocketclip.load(again.save_pretrained(tmp_path / "kept"), device="cpu")
    assert kept.hubs is not None
    assert kept.hubs.digest == hubs.digest
    assert kept.for_scores().hubs is kept.hubs
    assert PretrainedModel.from_pretrained(bundle, text_only=True).hubs is not None


def test_a_copy_gets_it_where_a_folder_is_named(bundle: Path, make_folder: Callable[..., Path], tmp_path: Path) -> None:
    loaded = pocketclip.load(bundle, device="cpu")
    hubs = bank(loaded, make_folder(6))
    assert add_hubs(str(bundle), loaded, hubs, tmp_path / "with") == tmp_path / "with" / FILE
    assert pocketclip.load(tmp_path / "with", device="cpu").hubs is not None
    assert pocketclip.load(bundle, device="cpu").hubs is None
    with pytest.raises(UserError, match="is there already"):
        add_hubs(str(bundle), loaded, hubs, tmp_path / "with")


def test_a_bank_of_another_width_is_refused(bundle: Path) -> None:
    rows = np.eye(4, dtype=np.float16)
    (bundle / FILE).write_bytes(Hubs(LogSumExp(), rows, rows, np.zeros(0, np.int64), "x").to_bytes())
    with pytest.raises(UserError, match="of 4 numbers each, and the model's are of 16"):
        pocketclip.load(bundle, device="cpu")
    (bundle / FILE).unlink()  # as the message says
    assert pocketclip.load(bundle, device="cpu").hubs is None


@pytest.mark.parametrize(
    "card", ["", "x", "# A\n", "# A\n\n## Training\n\nb\n", "# A\n\n## Hubs\n\nold\n\n## Training\n\nb\n"]
)
def test_a_card_names_the_newest_bank_once(card: str) -> None:
    rows = np.eye(4, dtype=np.float16)
    hubs = [Hubs(LogSumExp(), rows, rows, np.zeros(0, np.int64), name) for name in ("first", "second")]
    once = with_hubs(card, hubs[1])
    assert with_hubs(with_hubs(card, hubs[0]), hubs[1]) == once
    assert once.count(HEADING) == 1
    assert "4 captions and 4 pictures of second" in " ".join(once.split())
    assert "old" not in once
    assert ("## Training\n\nb\n" in once) == ("## Training" in card)
    assert HEADING not in with_hubs(once, None)
