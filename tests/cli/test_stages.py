"""`embed`, `data filter` and `data features` as commands."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import build_tiny_pretrained
from pocketclip.features.cache import cache_folder

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_pretrained().save_pretrained(tmp_path_factory.mktemp("model") / "bundle", card="")


def test_embed_goes_on_with_resume_and_refuses_another_source(pocketclip: Run, bundle: Path, tmp_path: Path) -> None:
    command = ("embed", "scenes:5,image_size=32", "--model", bundle, "--out", tmp_path / "out")
    assert pocketclip(*command).code == 0
    before = (tmp_path / "out" / "images.npy").stat().st_mtime_ns
    ended = pocketclip(*command, "--resume")
    assert (ended.code, ended.out) == (0, "")
    assert "5 images and 10 captions" in ended.err
    assert (tmp_path / "out" / "images.npy").stat().st_mtime_ns == before
    other = pocketclip("embed", "scenes:6,image_size=32", "--model", bundle, "--out", tmp_path / "out", "--resume")
    assert other.code == 1
    assert "manifest.json: made_from.source is " in other.err


def test_embed_stops_above_the_share_of_broken_items(
    pocketclip: Run, bundle: Path, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_folder(5)
    (folder / "002.jpg").write_bytes(b"junk")
    command = ("embed", folder, "--model", bundle, "--out", tmp_path / "out")
    ended = pocketclip(*command, "--max-broken-share", "0")
    assert ended.code == 1
    assert "--max-broken-share" in ended.err
    ended = pocketclip(*command, "--resume")
    assert ended.code == 0
    assert "left out: " in ended.err
    assert np.load(tmp_path / "out" / "images.npy").shape == (4, 16)
    again = pocketclip(*command, "--resume")  # finished, and says the same
    assert "1 item was left out." in again.err
    assert pocketclip(*command, "--resume", "--max-broken-share=0").code == 1


def test_filter_tells_what_each_rule_dropped(pocketclip: Run, make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_folder(6)
    (folder / "003.jpg").write_bytes((folder / "001.jpg").read_bytes())
    (folder / "004.txt").write_text("short\na caption of six words altogether\n")
    ended = pocketclip(
        "data", "filter", folder, "--out", tmp_path / "out", "--name", "kept", "--samples-per-shard", "2",
        "--drop-duplicate-images", "--min-caption-words", "2", "--min-image-side", "10", "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    (line,) = ended.out.splitlines()
    values = json.loads(line)
    assert (values["num_images"], values["num_kept_images"], values["num_kept_captions"]) == (6, 5, 9)
    assert values["dropped_images"] == {"min_image_side": 0, "drop_duplicate_images": 1, "no_caption_left": 0}
    assert values["dropped_captions"] == {"min_caption_words": 1}
    assert "drop_duplicate_images: 1 images dropped" in ended.err
    place = f"webdataset:{tmp_path / 'out'}/kept-{{000000..000002}}.tar"
    assert place in ended.err
    inspected = json.loads(pocketclip("data", "inspect", place, "--json").out)
    assert (inspected["num_images"], inspected["num_captions"], inspected["num_same_images"]) == (5, 9, 0)


def test_filter_by_a_model_keeps_the_most_similar_captions(pocketclip: Run, bundle: Path, tmp_path: Path) -> None:
    source = "scenes:10,image_size=32"
    assert pocketclip("embed", source, "--model", bundle, "--out", tmp_path / "embedded").code == 0
    images, texts, owners = (
        np.load(tmp_path / "embedded" / f"{name}.npy") for name in ("images", "texts", "text_images")
    )
    best = np.argsort(-(images[owners] * texts).sum(axis=1), kind="stable")[:5]
    ended = pocketclip("data", "filter", source, "--out", tmp_path / "kept", "--model", bundle, "--keep-share", "0.25")
    assert ended.code == 0, ended.err
    embedded = pocketclip(
        "embed", f"webdataset:{tmp_path / 'kept'}/data-000000.tar", "--model", bundle, "--out", tmp_path
    )
    assert embedded.code == 0
    items = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    lines = (tmp_path / "embedded" / "items.jsonl").read_text().splitlines()
    all_items = [json.loads(line) for line in lines]
    wanted = sorted((all_items[owners[row]]["key"], all_items[owners[row]]["captions"][row % 2]) for row in best)
    assert sorted((item["key"], caption) for item in items for caption in item["captions"]) == wanted


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "no rule is given"),
        (["--keep-share", "0.5"], "add --model MODEL"),
        (["--min-image-side", "3", "--model", "x"], "--model has no effect"),
        (["--min-image-side", "0"], "min_image_side"),
        (["--min-image-side", "3", "--ray-address", "auto"], "add --engine ray"),
    ],
)
def test_filter_explains_rules_that_make_no_sense(
    pocketclip: Run, tmp_path: Path, options: list[str], reason: str
) -> None:
    ended = pocketclip("data", "filter", "scenes:3", "--out", tmp_path / "out", *options)
    assert ended.code == 1
    assert reason in ended.err
    assert not (tmp_path / "out").exists()


def test_an_unknown_engine_is_wrong_usage(pocketclip: Run, tmp_path: Path) -> None:
    assert pocketclip("data", "filter", "scenes:3", "--out", tmp_path, "--engine", "spark").code == 2


def test_features_are_there_when_training_starts(
    pocketclip: Run, tiny_recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    file = tiny_recipe_file(cache={})
    ended = pocketclip("data", "features", file, "--set", "train.num_steps=2", "--json")
    assert json.loads(ended.out) == {"num_images_train": 24, "num_images_val": 8}
    before = {path: path.stat().st_mtime_ns for path in cache_folder().rglob("*.npy")}
    assert pocketclip("train", file, "--out", tmp_path / "run").code == 0
    assert {path: path.stat().st_mtime_ns for path in cache_folder().rglob("*.npy")} == before
    assert len(before) == 2 * (2 + 4)


def test_features_of_a_recipe_that_caches_nothing(pocketclip: Run, tiny_recipe_file: Callable[..., Path]) -> None:
    ended = pocketclip("data", "features", tiny_recipe_file())
    assert (ended.code, "caches no features" in ended.err) == (1, True)


def dated_back(file: Path) -> None:
    """Other bytes of the same length under the same time, as a copying tool leaves them."""
    data, status = bytearray(file.read_bytes()), file.stat()
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "train's test split", "embed", "convert"])
def test_verified_work_does_not_go_on_with_other_bytes(
    pocketclip: Run,
    make_folder: Callable[..., Path],
    tiny_recipe_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bundle: Path,
    command: str,
) -> None:
    """Even where no time of a file tells: here all of them are hidden."""
    monkeypatch.setattr("pocketclip.data.sources.folder.file_stamp", lambda path: [str(path)])
    photos, others, out = make_folder(40), make_folder(48, name="others"), tmp_path / "out"
    for picture in sorted(others.glob("*"))[:80]:  # the first 40 and their captions, which are the training pictures
        picture.unlink()
    recipe = ["train", tiny_recipe_file(), "--set", "data.val=", "--set"]
    words: dict[str, list[object]] = {
        "train": [*recipe, f"data.train=folder:{photos}"],
        "train's test split": [*recipe, f"data.train=folder:{photos}", "--set", f"data.test=folder:{others}"],
        "embed": ["embed", f"folder:{photos}", "--model", bundle],
        "convert": ["data", "convert", f"folder:{photos}"],
    }
    asked = [*words[command], "--out", out, "--verify"]
    assert pocketclip(*asked).code == 0
    again = asked if command == "convert" else [*asked, "--resume"]
    assert pocketclip(*again).code == 0
    dated_back(others / "043.jpg" if "test" in command else photos / "003.jpg")
    refused = pocketclip(*again)
    assert refused.code == 1
    trained = "1 with other bytes"
    reasons = {"train": trained, "train's test split": trained, "embed": "made_from.source", "convert": "of other data"}
    assert reasons[command] in refused.err


CAPTION_RULES = [["--min-caption-words", "2"], ["--max-caption-words", "9"], ["--drop-duplicate-captions"]]


@pytest.mark.parametrize("rule", CAPTION_RULES)
def test_filter_says_that_photos_have_no_captions_and_leaving_the_rule_out_helps(
    pocketclip: Run, make_folder: Callable[..., Path], tmp_path: Path, rule: list[str]
) -> None:
    folder = make_folder(4)
    for file in folder.glob("*.txt"):
        file.unlink()
    command = ("data", "filter", folder, "--out", tmp_path / "out")
    ended = pocketclip(*command, *rule)
    assert ended.code == 1
    assert f"none of its 4 images has a caption, and {rule[0]} can only choose by captions." in ended.err
    ended = pocketclip(*command, "--min-image-side", "3", "--json", "--resume")
    assert json.loads(ended.out)["num_kept_images"] == 4
    assert "4 of 4 images never had a caption: not dropped" in ended.err


def test_filter_tells_photos_without_captions_from_those_that_lost_theirs(
    pocketclip: Run, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_folder(6)
    for number in (1, 3):
        (folder / f"{number:03d}.txt").unlink()
    (folder / "004.txt").write_text("short")
    ended = pocketclip("data", "filter", folder, "--out", tmp_path / "out", "--min-caption-words", "2", "--json")
    values = json.loads(ended.out)
    assert (values["num_kept_images"], values["num_without_caption"]) == (3, 2)
    assert values["dropped_images"] == {"no_caption_left": 3}
    assert "2 of 6 images never had a caption: dropped with those that lost theirs" in ended.err
