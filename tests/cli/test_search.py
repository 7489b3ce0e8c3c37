"""`index` and `search` as a stranger tries them: from other folders, after moves, with a picture, with nothing."""

import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import build_tiny_pretrained, encode_picture

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_pretrained().save_pretrained(tmp_path_factory.mktemp("model") / "bundle", card="x")


@pytest.fixture
def here(
    pocketclip: Run, bundle: Path, make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with photos, a run, and an index whose name has a space."""
    make_folder(5, 1)
    shutil.copytree(bundle, tmp_path / "runs" / "mine" / "bundle")
    monkeypatch.chdir(tmp_path)
    ended = pocketclip("index", "photos", "--model", "runs/mine", "--out", "my index", "--device", "cpu")
    assert ended.code == 0, ended.err
    assert "--index 'my index'" in ended.err
    return tmp_path


def hits(ended: Any) -> list[dict[str, Any]]:
    assert ended.code == 0, ended.err
    return [json.loads(line) for line in ended.out.splitlines()]


def paste(pocketclip: Run, text: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command that a message ends with, as a shell does."""
    line = text.strip().rpartition("ndex again: ")[2].splitlines()[0]
    change, both, command = line.rpartition(" && ")
    if both:
        monkeypatch.chdir(shlex.split(change)[1])
    words = shlex.split(command)
    assert words[0] == "pocketclip"
    return pocketclip(*words[1:])


def test_places_are_absolute_from_every_folder(pocketclip: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "other").mkdir()
    monkeypatch.chdir(here / "other")
    found = hits(pocketclip("search", "a red circle", "--index", "../my index", "--count", "3", "--json"))
    assert len(found) == 3
    assert set(found[0]) == {"score", "key", "place", "captions", "exists"}
    assert {hit["place"] for hit in found} < {str(here / "photos" / f"{number:03d}.jpg") for number in range(5)}
    assert all(hit["exists"] is True for hit in found)


def test_a_deleted_picture_is_marked_and_the_printed_command_mends_it(
    pocketclip: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "photos" / "002.jpg").unlink()
    (here / "photos" / "002.txt").unlink()
    (here / "other").mkdir()
    monkeypatch.chdir(here / "other")
    ended = pocketclip("search", "red", "--index", "../my index")
    assert {Path(hit["place"]).name for hit in hits(ended) if not hit["exists"]} == {"002.jpg"}
    assert "1 of 5 results is gone from disk" in ended.err
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert f"{here}/photos/002.jpg  (gone)" in pocketclip("search", "red", "--index", "../my index").out
    monkeypatch.chdir(here)
    assert " photos/002.jpg  (gone)" in pocketclip("search", "red", "--index", "my index").out
    monkeypatch.chdir(here / "other")
    again = paste(pocketclip, ended.err, monkeypatch)
    assert again.code == 0, again.err
    monkeypatch.undo()
    ended = pocketclip("search", "red", "--index", here / "my index")
    assert (len(hits(ended)), "gone" in ended.err) == (4, False)
    assert "The index holds no more than these 4 images." in ended.err


def test_a_picture_is_a_query_too(pocketclip: Run, here: Path) -> None:
    for query in (["./photos/003.jpg"], ["--image", "photos/003.jpg"]):
        ended = pocketclip("search", *query, "--index", "my index", "-n", "1")
        assert [hit["key"] for hit in hits(ended)] == ["003"]
        assert ("./photos/003.jpg is a picture" in ended.err) == (query[0] != "--image")
    (here / "photo").write_bytes(encode_picture(4))
    ended = pocketclip("search", "photo", "--index", "my index", "-n", "1")
    assert "photo is a file, too, and was searched for as words; as a picture: --image photo" in ended.err
    assert hits(pocketclip("search", "--image", "photo", "--index", "my index", "-n", "1"))[0]["key"] == "004"


@pytest.mark.parametrize("words", [[], [""], [" \n "], ["a dog", "--image", "photos/003.jpg"]])
def test_search_says_what_it_wants(pocketclip: Run, here: Path, words: list[str]) -> None:
    ended = pocketclip("search", *words, "--index", "my index")
    assert (ended.code, ended.out) == (1, "")
    assert 'give one thing to search for: a sentence, such as "two dogs in the snow", or --image FILE' in ended.err


def test_a_picture_that_is_not_there_is_told_with_the_nearest(pocketclip: Run, here: Path) -> None:
    ended = pocketclip("search", "photos/03.jpg", "--index", "my index")
    assert ended.code == 1
    assert "photos/03.jpg: cannot read the picture (No such file or directory). Did you mean 'photos/0" in ended.err
    assert "is a picture" not in ended.err


@pytest.mark.parametrize("count", [3, 4000])
def test_a_long_sentence_is_cut_with_a_word(pocketclip: Run, here: Path, count: int) -> None:
    ended = pocketclip("search", "red circle " * count, "--index", "my index", "-n", "2")
    assert len(hits(ended)) == 2
    assert ("only its first 16 tokens were read" in ended.err) == (count > 3)


def test_a_model_that_moved_is_named_and_may_be_given(
    pocketclip: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hits(pocketclip("search", "red", "--index", "my index"))
    os.rename("runs", "learnt")  # noqa: PTH104
    ended = pocketclip("search", "red", "--index", "my index")
    assert ended.code == 1
    assert "my index: the model that made this index cannot be opened. " in ended.err
    assert f"{Path('runs/mine/bundle')}: no such bundle or run folder." in ended.err
    assert ended.err.endswith("pocketclip index photos --model MODEL --out 'my index'\n")
    assert hits(pocketclip("search", "red", "--index", "my index", "--model", "learnt/mine")) == before
    again = paste(pocketclip, ended.err.replace("MODEL", "learnt/mine"), monkeypatch)
    assert again.code == 0, again.err
    assert hits(pocketclip("search", "red", "--index", "my index")) == before


def test_a_model_that_was_trained_again_is_told_and_the_printed_command_mends_it(
    pocketclip: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = build_tiny_pretrained()
    with torch.no_grad():
        next(other.model.text_head.parameters()).add_(1)
    other.save_pretrained("runs/mine/bundle", card="x")
    ended = pocketclip("search", "red", "--index", "my index")
    assert ended.code == 1
    assert "another model made this index than" in ended.err
    assert paste(pocketclip, ended.err, monkeypatch).code == 0
    assert hits(pocketclip("search", "red", "--index", "my index"))


def test_a_missing_piece_is_mended_by_the_printed_command(
    pocketclip: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "my index" / "items.jsonl").unlink()
    ended = pocketclip("search", "red", "--index", "my index")
    assert (ended.code, "items.jsonl: missing" in ended.err) == (1, True)
    assert paste(pocketclip, ended.err, monkeypatch).code == 0
    assert hits(pocketclip("search", "red", "--index", "my index"))


def test_shards_and_drawings_are_told_by_their_place(pocketclip: Run, here: Path) -> None:
    pocketclip("data", "convert", "folder:photos", "--out", "shards")
    assert pocketclip("index", "shards", "--model", "runs/mine", "--out", "i").code == 0
    found = hits(pocketclip("search", "red", "--index", "i"))
    assert all(hit["place"].startswith(f"{here}/shards/data-000000.tar: ") and hit["exists"] for hit in found)
    shutil.rmtree("shards")
    ended = pocketclip("search", "red", "--index", "i")
    assert not any(hit["exists"] for hit in hits(ended))
    assert f"gone from disk ({here}/shards). Index again: pocketclip index SOURCE" in ended.err
    assert pocketclip("index", "scenes:3,image_size=32", "--model", "runs/mine", "--out", "i").code == 0
    ended = pocketclip("search", "red", "--index", "i")
    assert [hit["exists"] for hit in hits(ended)] == [None] * 3
    assert "gone" not in ended.err


# What is not there


@pytest.mark.parametrize(
    ("words", "told", "near"),
    [
        (["index", "nope", "--model", "runs/mine"], "No such file or folder: nope", None),
        (["index", "photo", "--model", "runs/mine"], "No such file or folder: photo", "photos"),
        (["index", "folder:Photo", "--model", "runs/mine"], "No such file or folder: Photo", "photos"),
        (["embed", "photo", "--model", "runs/mine", "--out", "o"], "No such file or folder: photo", "photos"),
        (["data", "inspect", "./photo"], "No such file or folder: photo", "photos"),
        (["data", "convert", "photo", "--out", "o"], "No such file or folder: photo", "photos"),
        (["data", "filter", "photo", "--out", "o", "--min-image-side", "2"], "No such file or folder: photo", "photos"),
        (["evaluate", "runs/mine", "--data", "photo"], "No such file or folder: photo", "photos"),
        (["demo", "retrieval", "runs/mine", "--data", "photo"], "No such file or folder: photo", "photos"),
        (["index", "photos", "--model", "./runs/mien"], "./runs/mien: no such bundle or run folder", "runs/mine"),
        (["evaluate", "./runs/mien", "--data", "photos"], "no such bundle or run folder", "runs/mine"),
        (["evaluate", "runs/mien", "--data", "photos"], "runs/mien: not a folder here", "runs/mine"),
        (["cost", "runs/mien"], "runs/mien: neither a bundle nor a run folder", "runs/mine"),
        (["report", "run/mine"], "run/mine: no such run folder", "runs/mine"),
        (["search", "red", "--index", "my-index"], "my-index: no such folder of an index", "my index"),
        (["search", "red", "--index", "nope"], "nope: no such folder of an index", None),
    ],
)
def test_a_place_that_is_not_there_is_told_in_a_line(
    pocketclip: Run, here: Path, words: list[str], told: str, near: str | None
) -> None:
    ended = pocketclip(*words)
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert told in ended.err
    assert (f"Did you mean '{near}'?" in ended.err) if near else ("Did you mean" not in ended.err)
