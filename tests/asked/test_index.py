"""An index that is asked by sentence and by picture, with the model that made it."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import teachers as tiny
from conftest import build_tiny_pretrained, encode_picture
from pocketclip.asked import PretrainedModel, open_model
from pocketclip.asked.index import Index, fingerprint_of
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError
from pocketclip.hubs import FILE, Hubs, LogSumExp
from pocketclip.search import Item


def make_index(folder: Path, model: Path | str, loaded: Embedder, hubs: Hubs | None = None) -> Path:
    photos = folder / "photos"
    photos.mkdir()
    for number in range(5):
        (photos / f"{number}.jpg").write_bytes(encode_picture(number))
    files = sorted(photos.iterdir())
    Index.write(
        folder / "index",
        model=model,
        model_fingerprint=fingerprint_of(model, loaded),
        source="photos",
        typed_in=str(folder),
        embeddings=loaded.encode_image(files),
        items=[Item(file.stem, str(file), []) for file in files],
        hubs=hubs,
    )
    return folder / "index"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    model = build_tiny_pretrained()
    return make_index(tmp_path, model.save_pretrained(tmp_path / "bundle", card="x"), model)


def keys(hits: list[Any]) -> list[str]:
    return [hit.item.key for hit in hits]


def test_a_sentence_finds_what_its_vector_does(place: Path) -> None:
    index = Index.open(str(place))
    model = open_model(place.parent / "bundle", device="cpu")
    expected = keys(index.search(model.encode_text("a red circle")[0], 3))
    assert keys(index.search("a red circle", 3)) == expected
    assert keys(Index.open(place, model=model).search("a red circle", 3)) == expected


@pytest.mark.parametrize("form", [str, Path, Image.open, lambda file: io.BytesIO(Path(file).read_bytes())])
def test_a_picture_finds_itself_first(place: Path, form: Callable[[Any], Any]) -> None:
    file = place.parent / "photos" / "3.jpg"
    (best, *_) = Index.open(place).search(form(file))
    assert (best.item.key, best.place) == ("3", str(file))
    assert best.score == pytest.approx(1, abs=0.01)
    assert keys(Index.open(place).by_picture(file, 1)) == ["3"]


def test_the_image_side_is_loaded_for_pictures_alone(place: Path) -> None:
    index = Index.open(place)
    index.search("a red circle")
    with pytest.raises(UserError, match="text_only=True"):
        index.reader.encode_image(place.parent / "photos" / "3.jpg")
    index.search(place.parent / "photos" / "3.jpg")
    assert Index.open(place).reader is not index.reader


@pytest.mark.parametrize("query", ["", " \n", None, 3, ["a", "b"], np.zeros((2, 2, 2, 2))])
def test_what_is_no_query_is_told(place: Path, query: Any) -> None:
    with pytest.raises(UserError, match="give one sentence or one picture"):
        Index.open(place).search(query)


def test_a_model_that_moved_is_named_with_the_cure(place: Path) -> None:
    bundle = place.parent / "bundle"
    before = keys(Index.open(place).search("a red circle"))
    bundle.rename(bundle.with_name("elsewhere"))
    with pytest.raises(UserError, match=f"{place}: the model that made this index cannot be opened. {bundle}: no such"):
        Index.open(place).search("a red circle")
    assert keys(Index.open(place, model=bundle.with_name("elsewhere")).search("a red circle")) == before


def test_a_model_that_was_trained_again_is_refused(place: Path) -> None:
    bundle = place.parent / "bundle"
    other = build_tiny_pretrained()
    with torch.no_grad():
        next(other.model.image_head.parameters()).add_(1)
    shutil.rmtree(bundle)
    other.save_pretrained(bundle, card="another card")
    for query in ("a red circle", place.parent / "photos" / "3.jpg"):
        with pytest.raises(UserError, match=f"another model made this index than {bundle} is now. Index again: cd"):
            Index.open(place).search(query)


def test_another_card_or_a_copy_is_the_same_model(place: Path) -> None:
    bundle = place.parent / "bundle"
    (bundle / "README.md").write_text("another card")
    shutil.copytree(bundle, place.parent / "copy")
    assert Index.open(place, model=str(place.parent / "copy")).search("a red circle")


def test_another_librarys_model_is_known_by_its_weights(tmp_path: Path) -> None:
    tiny.write_huggingface_teacher(tmp_path / "clip")
    name = f"hf:{tmp_path / 'clip'}"
    place = make_index(tmp_path, name, open_model(name, device="cpu"))
    assert keys(Index.open(place).search(tmp_path / "photos" / "2.jpg", 1)) == ["2"]
    shutil.copytree(tmp_path / "clip", tmp_path / "copy")
    assert keys(Index.open(place, model=f"hf:{tmp_path / 'copy'}").search(tmp_path / "photos" / "2.jpg", 1)) == ["2"]
    shutil.rmtree(tmp_path / "clip")
    tiny.write_huggingface_teacher(tmp_path / "clip", seed=1)
    with pytest.raises(UserError, match="another model made this index"):
        Index.open(place).search("a red circle")


def test_it_is_offered_at_the_top() -> None:
    import pocketclip

    assert pocketclip.Index is Index
    assert {"Index", "load", "__version__", "open_model"} <= set(dir(pocketclip))
    with pytest.raises(UserError, match=r"another library; open it with pocketclip\.open_model\('hf:x/y'\)"):
        pocketclip.load("hf:x/y")


def give_bank(model: PretrainedModel, seed: int = 0) -> Hubs:
    """A bank of sentences that lie where few pictures do, so that it changes who comes first."""
    rows = model.encode_text([f"a red circle {seed} {number}" for number in range(9)]).astype(np.float16)
    model.hubs = Hubs(LogSumExp(scale=5 + seed), rows, rows, np.zeros(0, np.int64), "folder:photos")
    return model.hubs


def corrected_index(folder: Path) -> tuple[Path, PretrainedModel]:
    model = build_tiny_pretrained()
    give_bank(model)
    return make_index(folder, model.save_pretrained(folder / "bundle", card="x"), model, hubs=model.hubs), model


def test_sentences_are_ranked_by_corrected_scores_pictures_by_the_cosine(tmp_path: Path) -> None:
    place, model = corrected_index(tmp_path)
    index, vector = Index.open(place), model.encode_text("a red circle")[0]
    cosines = np.asarray(index.embeddings) @ vector
    ranked = cosines - model.hubs.of_images(np.asarray(index.embeddings))  # type: ignore[union-attr]
    best = [str(number) for number in np.argsort(-ranked, kind="stable")]
    usual = [str(number) for number in np.argsort(-cosines, kind="stable")]
    assert best != usual
    assert keys(index.search("a red circle")) == keys(index.search(vector, corrected=True)) == best
    assert keys(index.search("a red circle", corrected=False)) == keys(index.search(vector)) == usual
    picture = place.parent / "photos" / "3.jpg"
    assert index.search(picture, 1)[0].corrected is None
    assert index.by_picture(picture, 1)[0].corrected is None
    with pytest.raises(UserError, match="searches by a picture"):
        index.search(picture, corrected=True)
    assert index.bank_remarks() == []


def test_an_index_without_a_bank_is_searched_as_before(place: Path) -> None:
    index = Index.open(place)
    assert all(hit.corrected is None for hit in index.search("a red circle"))
    assert index.bank_remarks() == []
    with pytest.raises(UserError, match="had no bank"):
        index.search("a red circle", corrected=True)


def test_another_bank_than_the_indexs_is_told(tmp_path: Path) -> None:
    place, model = corrected_index(tmp_path)
    bundle = tmp_path / "bundle"
    give_bank(model, seed=1)
    (bundle / FILE).write_bytes(model.hubs.to_bytes())  # type: ignore[union-attr]
    (remark,) = Index.open(place).bank_remarks()
    assert "another bank corrected; the model has another one now. Index again: " in remark
    (bundle / FILE).unlink()
    (remark,) = Index.open(place).bank_remarks()
    assert "the model has none now" in remark
    assert all(hit.corrected is not None for hit in Index.open(place).search("red"))


def test_an_index_from_before_the_bank_is_told(place: Path) -> None:
    model = open_model(place.parent / "bundle", device="cpu")
    assert isinstance(model, PretrainedModel)
    (place.parent / "bundle" / FILE).write_bytes(give_bank(model).to_bytes())
    index = Index.open(place)
    assert index.search("red", 1)[0].corrected is None
    assert "the index is older than its model's bank. Index again: " in index.bank_remarks()[0]
