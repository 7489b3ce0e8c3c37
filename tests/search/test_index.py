"""The index against brute force, and its files."""

import json
from pathlib import Path

import numpy as np
import pytest

from pocketclip.errors import UserError
from pocketclip.hubs import Hubs, LogSumExp
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


def test_an_index_that_is_open_stays_as_it_was_while_it_is_made_again(tmp_path: Path) -> None:
    before = make(tmp_path)
    expected = np.array(before.embeddings)
    part = Index.write(
        tmp_path / "index", model=tmp_path, source="x", embeddings=before.embeddings[10:20], items=before.items[10:20]
    )
    assert np.array_equal(part.embeddings, expected[10:20])
    assert np.array_equal(before.embeddings, expected)


def test_another_librarys_model_is_kept_by_its_name(tmp_path: Path) -> None:
    vectors, items = np.ones((1, 1), np.float32), [Item("a", "", [])]
    index = Index.write(tmp_path / "i", model="open_clip:a/b", source="x", embeddings=vectors, items=items)
    assert index.config.model == index.model == "open_clip:a/b"
    index = Index.write(tmp_path, model=tmp_path / "hf:mine", source="x", embeddings=vectors, items=items)
    assert index.model == tmp_path / "hf:mine"


# Where pictures lie


def indexed(root: Path, folder: Path) -> Index:
    """Three photos below `root`, named from there, and a drawn one."""
    (root / "photos").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (root / "photos" / name).write_bytes(b"x")
    (root / "c.tar").write_bytes(b"x")
    places = [f"{root}/photos/a.jpg", f"{root}/photos/b.jpg", f"{root}/c.tar: c", "scenes: scene 3"]
    items = [Item(place[-5:], place, []) for place in places]
    source, typed_in = "photos", str(root)
    (root / "model").mkdir()
    vectors = np.eye(4, dtype=np.float32)
    return Index.write(folder, model=root / "model", source=source, typed_in=typed_in, embeddings=vectors, items=items)


def found(index: Index) -> list[tuple[str, bool | None]]:
    return [(hit.place, hit.exists) for hit in index.search(np.ones(4, np.float32))]


def test_places_are_whole_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    (tmp_path / "c.tar").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    items = [Item("a", "photos/a.jpg", []), Item("c", "c.tar: c", []), Item("s", "scenes: scene 3", [])]
    Index.write(Path("index"), model="hf:x", source="photos", embeddings=np.ones((3, 4), np.float32), items=items)
    monkeypatch.chdir("/")
    assert found(Index.open(str(tmp_path / "index"))) == [
        (str(tmp_path / "photos" / "a.jpg"), True),
        (f"{tmp_path / 'c.tar'}: c", True),
        ("scenes: scene 3", None),
    ]


def test_pictures_that_are_gone_are_marked_and_told(tmp_path: Path) -> None:
    root = tmp_path / "here"
    index = indexed(root, tmp_path / "index")
    (root / "photos" / "b.jpg").unlink()
    assert [exists for _, exists in found(index)] == [True, False, True, None]
    (told,) = index.remarks(index.search(np.ones(4, np.float32)))
    assert told.startswith(f"1 of 4 results is gone from disk ({root}/photos/b.jpg). Index again: cd {root} && ")
    assert "pocketclip index photos --model" in told
    (root / "photos").rename(root / "fotos")
    (told,) = index.remarks(index.search(np.ones(4, np.float32)))
    assert told.startswith(f"2 of 4 results are gone from disk ({root}/photos). Index again: pocketclip index SOURCE ")
    (root / "c.tar").unlink()
    assert f"({root}/photos, ...)" in index.remarks(index.search(np.ones(4, np.float32)))[0]
    assert index.remarks(index.search(np.array([0, 0, 0, 1], np.float32), 1)) == []


def test_pictures_and_model_that_moved_with_the_index_are_found(tmp_path: Path) -> None:
    indexed(tmp_path / "a", tmp_path / "a" / "index")
    (tmp_path / "a").rename(tmp_path / "b")
    index = Index.open(tmp_path / "b" / "index")
    assert found(index)[0] == (f"{tmp_path}/b/photos/a.jpg", True)
    assert found(index)[2] == (f"{tmp_path}/b/c.tar: c", True)
    assert index.model == tmp_path / "b" / "model"


def test_an_index_that_moved_alone_still_knows_pictures_and_model(tmp_path: Path) -> None:
    indexed(tmp_path / "a", tmp_path / "a" / "index")
    (tmp_path / "else" / "where").mkdir(parents=True)
    (tmp_path / "a" / "index").rename(tmp_path / "else" / "where" / "index")
    index = Index.open(tmp_path / "else" / "where" / "index")
    assert found(index)[0] == (f"{tmp_path}/a/photos/a.jpg", True)
    assert index.model == tmp_path / "a" / "model"


# What an index says


def test_it_shows_itself_in_one_line(tmp_path: Path) -> None:
    index = make(tmp_path)
    told = f"num_images=50, embed_dim=8, source='folder:x', model='{tmp_path}/bundle'"
    assert (repr(index), len(index)) == (f"Index('{tmp_path}/index', {told})", 50)


def test_an_index_of_an_earlier_version_is_searched_with_a_word(tmp_path: Path) -> None:
    folder = make(tmp_path).folder
    values = json.loads((folder / "index.json").read_text())
    kept = {key: values[key] for key in ("model", "source", "num_images", "embed_dim", "date")}
    (folder / "index.json").write_text(json.dumps({"format_version": 1, **kept}))
    lines = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    for line in lines:
        del line["file"]
    (folder / "items.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    index = Index.open(folder)
    hits = index.search(np.ones(8, np.float32), 2)
    assert [hit.exists for hit in hits] == [None, None]
    assert "an earlier version made this index" in index.remarks(hits)[0]
    assert index.remarks(hits)[0].endswith(f"pocketclip index SOURCE --model MODEL --out {folder}")


def test_an_index_of_a_later_version_asks_for_an_update(tmp_path: Path) -> None:
    folder = make(tmp_path).folder
    (folder / "index.json").write_text('{"format_version": 9, "secret": 1}')
    with pytest.raises(UserError, match=r"index\.json: of version 9, and this pocketclip reads up to 3; update it"):
        Index.open(folder)


@pytest.mark.parametrize("part", ["items.jsonl", "embeddings.npy"])
def test_a_missing_part_is_named_with_the_command(tmp_path: Path, part: str) -> None:
    index = indexed(tmp_path / "a", tmp_path / "a" / "index")
    (index.folder / part).unlink()
    with pytest.raises(UserError, match=f"index/{part}: missing; the index is incomplete. Index again: cd .* photos"):
        Index.open(index.folder)


def test_a_misspelt_index_is_told_with_the_nearest(tmp_path: Path) -> None:
    folder = make(tmp_path).folder
    with pytest.raises(UserError, match=rf"indx: no such folder of an index\. Did you mean '{folder}'\?"):
        Index.open(folder.with_name("indx"))


def test_an_index_inside_a_folder_is_pointed_at(tmp_path: Path) -> None:
    folder = make(tmp_path).folder
    with pytest.raises(UserError, match=f"{tmp_path}: no index here. There is one inside: {folder}"):
        Index.open(tmp_path)


def test_fewer_than_one_is_no_count(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"count should be at least 1 \(got 0\)"):
        make(tmp_path).search(np.ones(8, np.float32), 0)


def bank(width: int = 8, count: int = 30, seed: int = 5) -> Hubs:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    return Hubs(LogSumExp(), rows, rows, np.zeros(0, np.int64), "folder:photos")


def with_bank(folder: Path, hubs: Hubs | None, count: int = 50) -> Index:
    plain = make(folder, count)
    vectors = np.array(plain.embeddings)  # no view of the file that is written anew
    return Index.write(
        folder / "index", model=folder / "bundle", source="x", embeddings=vectors, items=plain.items, hubs=hubs
    )


@pytest.mark.parametrize("count", [1, 7, 49, 50, 60])
def test_corrected_hits_are_those_of_asking_every_image(tmp_path: Path, count: int) -> None:
    index, hubs = with_bank(tmp_path, bank()), bank()
    for seed in range(20):
        query = np.random.default_rng(seed).normal(size=8).astype(np.float32)
        query /= np.linalg.norm(query)
        cosines = np.asarray(index.embeddings) @ query
        ranked = cosines - hubs.of_images(np.asarray(index.embeddings))
        expected = sorted(range(50), key=lambda number: (-ranked[number], number))[:count]
        hits = index.search(query, count, corrected=True)
        assert [hit.item.key for hit in hits] == [f"k{number}" for number in expected]
        assert [hit.score for hit in hits] == [float(cosines[number]) for number in expected]  # the cosine stays
        assert [hit.corrected for hit in hits] == [float(ranked[number]) for number in expected]
        one = np.concatenate([query, [1]]).astype(np.float32)  # an inner product with one more number says the same
        more = np.concatenate([index.embeddings, -index.taken[:, None]], axis=1) @ one  # type: ignore[index]
        np.testing.assert_allclose(more, ranked, atol=1e-6)


def test_without_correction_nothing_changes(tmp_path: Path) -> None:
    query = np.ones(8, np.float32) / np.sqrt(8).astype(np.float32)
    plain = make(tmp_path / "a").search(query, 9)
    assert with_bank(tmp_path / "b", bank()).search(query, 9) == plain
    assert "corrected_score" not in plain[0].to_json()


def test_of_equal_images_at_the_cut_the_first_come(tmp_path: Path) -> None:
    vectors = np.ones((9, 1), np.float32)
    items = [Item(str(number), "", []) for number in range(9)]
    one = Hubs(LogSumExp(), *(np.ones((1, 1), np.float16),) * 2, np.zeros(0, np.int64), "x")
    index = Index.write(tmp_path / "i", model=tmp_path, source="x", embeddings=vectors, items=items, hubs=one)
    for corrected in (True, False):
        hits = index.search(np.ones(1, np.float32), 4, corrected=corrected)
        assert [hit.item.key for hit in hits] == ["0", "1", "2", "3"]
    assert index.search(np.ones(1, np.float32), 1, corrected=True)[0].to_json()["corrected_score"] == 0


def test_an_index_without_a_bank_corrects_nothing_and_says_how(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"its model had no bank.*pocketclip hubs .*bundle --data SOURCE"):
        make(tmp_path).search(np.ones(8, np.float32), 1, corrected=True)


def test_an_index_that_is_made_again_without_a_bank_forgets_it(tmp_path: Path) -> None:
    assert with_bank(tmp_path, bank()).config.hubs == bank().digest
    again = with_bank(tmp_path, None)
    assert (again.config.hubs, again.taken) == ("", None)
    assert not (again.folder / "hubs.npy").exists()


def test_earlier_versions_read_an_index_without_a_bank(tmp_path: Path) -> None:
    values = json.loads((make(tmp_path).folder / "index.json").read_text())
    assert values["format_version"] == 2
    assert "hubs" not in values
    values = json.loads((with_bank(tmp_path, bank()).folder / "index.json").read_text())
    assert values["format_version"] == 3  # and they say of one with a bank that they have to be updated


@pytest.mark.parametrize(
    "array",
    [np.zeros(49, np.float32), np.zeros(50), np.full(50, np.nan, np.float32), np.zeros((50, 1), np.float32), None],
)
def test_damaged_corrections_are_a_users_error(tmp_path: Path, array: np.ndarray | None) -> None:
    folder = with_bank(tmp_path, bank()).folder
    if array is None:
        (folder / "hubs.npy").unlink()
    else:
        np.save(folder / "hubs.npy", array)
    with pytest.raises(UserError, match=r"hubs\.npy.*Index again"):
        Index.open(folder)
