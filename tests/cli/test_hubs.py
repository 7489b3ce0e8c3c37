"""`hubs`, and what `evaluate`, `index` and `search` do then, as a user types them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import build_tiny_pretrained
from pocketclip.hubs import FILE

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_pretrained().save_pretrained(tmp_path_factory.mktemp("model") / "bundle", card="x")


@pytest.fixture
def here(bundle: Path, make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_folder(9, 2)
    make_folder(6, 2, name="more")
    shutil.copytree(bundle, tmp_path / "runs" / "mine" / "bundle")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(ended: Any) -> list[dict[str, Any]]:
    assert ended.code == 0, ended.err
    return [json.loads(line) for line in ended.out.splitlines()]


def test_from_a_bank_to_corrected_scores(pocketclip: Run, here: Path) -> None:
    (plain,) = lines(pocketclip("evaluate", "runs/mine", "--data", "folder:more", "--device", "cpu"))
    ended = pocketclip("hubs", "runs/mine", "--data", "folder:photos", "--set", "num_images=4", "--device", "cpu")
    assert ended.code == 0, ended.err
    assert "log-sum-exp, scale 10, over 18 captions and 4 pictures of folder:photos, 0.0 MiB" in ended.err
    assert (here / "runs" / "mine" / "bundle" / FILE).is_file()
    (both,) = lines(pocketclip("evaluate", "runs/mine", "--data", "folder:more", "--device", "cpu"))
    assert both["text_to_image_recall@1"] == plain["text_to_image_recall@1"]
    assert set(both["corrected_text_to_image_recall@1"]) == {"value", "low", "high"}
    table = pocketclip("evaluate", "runs/mine", "--data", "folder:more", "--device", "cpu", "--format", "table").out
    assert "text → image, corrected" in table
    rows = pocketclip("evaluate", "runs/mine", "--data", "folder:more", "--device", "cpu", "--format", "csv").out
    (row,) = [row for row in rows.splitlines() if ",corrected_text_to_image_recall@1," in row]
    assert row.endswith(",12")  # of as many sentences


def test_an_index_from_before_is_told_and_the_printed_command_mends_it(pocketclip: Run, here: Path) -> None:
    assert pocketclip("index", "more", "--model", "runs/mine", "--device", "cpu").code == 0
    before = pocketclip("search", "picture 3", "--json")
    assert "bank" not in before.err
    assert pocketclip("hubs", "runs/mine", "--data", "photos", "--device", "cpu").code == 0
    ended = pocketclip("search", "picture 3", "--json")
    assert lines(ended) == lines(before)
    assert "the index is older than its model's bank" in ended.err
    command = ended.err.rpartition("Index again: ")[2].splitlines()[0].split()
    assert command[0] == "pocketclip"
    assert pocketclip(*command[1:]).code == 0
    corrected = pocketclip("search", "picture 3", "--json")
    assert "Index again" not in corrected.err
    found = lines(corrected)
    assert [hit["corrected_score"] for hit in found] == sorted((hit["corrected_score"] for hit in found), reverse=True)
    scores = [hit["score"] for hit in found]
    assert ("--plain ranks" in corrected.err) == (scores != sorted(scores, reverse=True))
    plain = pocketclip("search", "picture 3", "--json", "--plain")
    assert lines(plain) == lines(before)
    assert "orrected" not in plain.err
    picture = lines(pocketclip("search", "--image", "more/003.jpg", "--json"))
    assert "corrected_score" not in picture[0]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("search", "a", "--corrected"), "had no bank. Make one, and index again: pocketclip hubs "),
        (("search", "--image", "more/003.jpg", "--corrected"), "leave it out where --image is given"),
        (("search", "more/003.jpg", "--corrected"), "searches by a picture"),
        (("hubs", "runs/mine", "--data", "more", "--set", "scale=0"), "--set: scale"),
        (("hubs", "runs/mine", "--data", "more", "--set", "kind=cslz"), "Did you mean 'csls'"),
        (("hubs", "runs/mine", "--data", "more", "--out", "more"), "--out more: is there already"),
        (("hubs", "open_clip:a/b", "--data", "more"), "another library"),
        (("hubs", "nothing", "--data", "more"), "nothing"),
    ],
)
def test_what_cannot_be_is_one_clear_line(pocketclip: Run, here: Path, words: tuple[str, ...], reason: str) -> None:
    assert pocketclip("index", "more", "--model", "runs/mine", "--device", "cpu").code == 0
    ended = pocketclip(*words)
    assert ended.code == 1
    assert reason in ended.err
    assert "Traceback" not in ended.err


def test_a_copy_leaves_the_model_alone(pocketclip: Run, here: Path) -> None:
    words = ("--data", "photos", "--set", "kind=csls", "--set", "num_nearest=3", "--device", "cpu")
    ended = pocketclip("hubs", "runs/mine", *words, "--out", "with")
    assert ended.code == 0, ended.err
    assert "CSLS, 3 nearest" in ended.err
    assert (here / "with" / FILE).is_file()
    assert not (here / "runs" / "mine" / "bundle" / FILE).exists()
