"""The index against brute force, and its files."""

import json
from pathlib import Path

import numpy as np
import pytest

from pocketclip.errors import UserError
from pocketclip.search import Index, Item


def make(folder: Path, count: int = 50, width: int = 8) -> Index:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(count, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = [Item(f"k{number}", f"/photos/{number}.jpg", [f"caption {number}"]) for number in range(count)]
    return Index.write(folder / "index", model=folder / "bundle", source="folder:x", embeddings=vectors, items=items)


def test_hits_are_the_nearest_in_order(tmp_path: Path) -> None:
    index = make(tmp_path)
    query = index.embeddings[7] * 0.8 + index.embeddings[3] * 0.6
    scores = np.asarray(index.embeddings) @ query
    expected = sorted(range(50), key=lambda number: -scores[number])[:5]
    assert [hit.item.key for hit in index.search(query, 5)] == [f"k{number}" for number in expected]


def test_names_and_captions_come_back_as_they_were(tmp_path: Path) -> None:
    items = [Item("a", "caf\udce9\n.jpg", ["one\u2028two\x85three", "half \ud83d"])]
    index = Index.write(
        tmp_path / "i", model="hf:x", source="folder:caf\udce9", embeddings=np.ones((1, 1), np.float32), items=items
    )
    assert index.items == items
    assert index.config.source == "folder:caf\udce9"


def test_ties_come_in_the_order_of_the_index(tmp_path: Path) -> None:
    vectors = np.ones((4, 1), np.float32)
    items = [Item(str(number), "", []) for number in range(4)]
    index = Index.write(tmp_path / "i", model=tmp_path, source="x", embeddings=vectors, items=items)
    assert [hit.item.key for hit in index.search(np.ones(1, np.float32), 4)] == ["0", "1", "2", "3"]


def test_more_wanted_than_there_are(tmp_path: Path) -> None:
    assert len(make(tmp_path, count=3).search(np.ones(8, np.float32), 10)) == 3


def test_the_model_is_found_when_both_folders_move(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert Index.open(tmp_path / "b" / "index").model == tmp_path / "b" / "bundle"


def test_a_query_of_another_width_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds vectors of 8 numbers, the query has 4"):
        make(tmp_path).search(np.ones(4, np.float32), 1)


@pytest.mark.parametrize("damage", ["items.jsonl", "embeddings.npy", "index.json"])
def test_damage_is_a_users_error(tmp_path: Path, damage: str) -> None:
    folder = make(tmp_path).folder
    (folder / damage).write_text("{}\n")
    with pytest.raises(UserError, match=str(folder)):
        Index.open(folder)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    folder = make(tmp_path).folder
    np.save(folder / "embeddings.npy", np.array([{"x": 1}] * 50, dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="damaged"):
        Index.open(folder)


def test_a_write_that_was_cut_is_no_index(tmp_path: Path) -> None:
    folder = make(tmp_path).folder
    (folder / "index.json").unlink()
    with pytest.raises(UserError, match="no index here"):
        Index.open(folder)
    assert json.loads((folder / "items.jsonl").read_text().splitlines()[0])["key"] == "k0"


def test_another_librarys_model_is_kept_by_its_name(tmp_path: Path) -> None:
    vectors, items = np.ones((1, 1), np.float32), [Item("a", "", [])]
    index = Index.write(tmp_path / "i", model="open_clip:a/b", source="x", embeddings=vectors, items=items)
    assert index.config.model == index.model == "open_clip:a/b"
    index = Index.write(tmp_path, model=tmp_path / "hf:mine", source="x", embeddings=vectors, items=items)
    assert index.model == tmp_path / "hf:mine"
