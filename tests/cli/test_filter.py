"""`pocketclip data filter` as lists of ids, pictures and filters of rows, and training on what they wrote."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from conftest import build_tiny_pretrained, encode_picture
from pocketclip.data import open_source
from pocketclip.data.ids import read_ids
from pocketclip.recipe import load_recipe

Run = Callable[..., Any]
UIDS = [f"{number * 104729:032x}" for number in range(40)]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    table = {
        "uid": UIDS,
        "text": ["a dog in the snow"] * 30 + ["ein Hund und eine Katze"] * 10,
        "original_width": [300] * 40,
        "original_height": list(range(180, 220)),
        "clip_l14_similarity_score": [number / 100 for number in range(40)],
    }
    (tmp_path / "metadata").mkdir()
    pq.write_table(pa.table(table), tmp_path / "metadata" / "0.parquet")
    return tmp_path / "metadata"


def test_a_list_of_ids_needs_no_shards_and_is_read_by_a_recipe(
    pocketclip: Run, make_folder: Callable[..., Path], tmp_path: Path, tiny_recipe_file: Callable[..., Path]
) -> None:
    folder = make_folder(12)
    for number in (2, 5):
        (folder / f"{number:03d}.jpg").write_bytes(encode_picture(number, (9, 9)))
    ended = pocketclip("data", "filter", folder, "--ids", tmp_path / "kept.txt", "--min-image-side", "10", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["num_kept_images"] == 10
    assert (tmp_path / "kept.txt").read_text().split() == [f"{n:03d}" for n in range(12) if n not in (2, 5)]
    assert {path.name for path in tmp_path.iterdir()} <= {"photos", "kept.txt", "cache"}
    change = ended.err.rpartition("--set ")[2].split()[0]
    recipe = load_recipe(str(tiny_recipe_file()), [f"data.train=folder:{folder}", "data.val=null", change])
    assert recipe.data.subset is not None
    assert recipe.data.subset.ids == tmp_path / "kept.txt"


def test_shards_and_ids_are_of_the_same_samples(
    pocketclip: Run, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder, out = make_folder(6), tmp_path / "out"
    (folder / "003.txt").write_text("one\n")
    command = ("data", "filter", folder, "--out", out, "--min-caption-words", "2", "--ids", tmp_path / "kept.parquet")
    assert pocketclip(*command).code == 0
    kept = open_source(str(out / "*.tar"))
    assert pq.read_table(tmp_path / "kept.parquet").column("key").to_pylist() == [kept.key(n) for n in range(5)]
    (tmp_path / "kept.parquet").unlink()
    again = pocketclip(*command, "--resume")
    assert again.code == 1
    assert "the shards were finished before; filter without --resume" in again.err
    shutil.rmtree(out)
    assert pocketclip(*command).code == 0


@pytest.mark.parametrize("ending", [".svg", ".png"])
def test_the_cut_is_drawn(pocketclip: Run, make_folder: Callable[..., Path], tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"cut{ending}"
    command = ("data", "filter", make_folder(6), "--ids", tmp_path / "kept.txt", "--histogram", file)
    ended = pocketclip(*command, "--min-image-side", "21", "--max-caption-words", "7", "--language", "en")
    assert ended.code == 0, ended.err
    if ending == ".svg":
        text = file.read_text()
        assert all(word in text for word in (">21<", ">7<", ">image side<", ">caption words<", ">kept by all rules<"))
    else:
        with Image.open(file) as picture:
            assert picture.size[0] > 600


def test_scores_of_a_model_rank_a_subset(pocketclip: Run, make_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = build_tiny_pretrained().save_pretrained(tmp_path / "bundle", card="")
    folder, scores = make_folder(8), tmp_path / "scores.parquet"
    command = ("data", "filter", folder, "--scores", scores, "--model", model, "--keep-share", "0.5")
    assert pocketclip(*command).code == 0
    table = pq.read_table(scores).to_pydict()
    assert table["key"] == [f"{number:03d}" for number in range(8)]
    from pocketclip.data.subset import SubsetConfig, choose

    found = choose(open_source(f"folder:{folder}"), SubsetConfig(top=0.5, score="similarity", scores=scores))
    best = sorted(range(8), key=lambda number: -table["similarity"][number])[:4]
    assert found.indices.tolist() == sorted(best)


def test_rows_become_a_subset_file_of_datacomp(pocketclip: Run, rows: Path, tmp_path: Path) -> None:
    kept, drawn = tmp_path / "kept.npy", tmp_path / "cut.svg"
    command = ("data", "filter", f"rows:{rows}", "--ids", kept, "--baseline", "clip_score_l14_30_percent")
    ended = pocketclip(*command, "--histogram", drawn, "--json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert (told["num_rows"], told["num_kept"]) == (40, 13)
    assert np.load(kept).dtype == np.dtype("u8,u8")
    assert set(read_ids(kept).first) <= set(UIDS[27:])
    assert ">0.27<" in drawn.read_text()


def test_own_rules_of_rows_and_a_baseline_go_together(pocketclip: Run, rows: Path, tmp_path: Path) -> None:
    command = ("data", "filter", f"rows:{rows}", "--ids", tmp_path / "kept.txt")
    assert pocketclip(*command, "--min-image-side", "200", "--language", "en").code == 0
    assert (tmp_path / "kept.txt").read_text().split() == UIDS[20:30]
    assert pocketclip(*command, "--baseline", "basic", "--min-similarity", "0.25").code == 0
    assert (tmp_path / "kept.txt").read_text().split() == UIDS[25:30]


def test_a_baseline_filters_pictures_too(pocketclip: Run, make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_folder(4)
    (folder / "001.jpg").write_bytes(encode_picture(1, (300, 200)))
    ended = pocketclip("data", "filter", folder, "--ids", tmp_path / "kept.txt", "--baseline", "basic_filter")
    assert ended.code == 0, ended.err
    assert (tmp_path / "kept.txt").read_text() == "001\n"


def test_a_least_similarity_of_nothing_is_one(pocketclip: Run, rows: Path, tmp_path: Path) -> None:
    table = pq.read_table(rows / "0.parquet")
    scores = pa.array([number / 100 - 0.1 for number in range(40)])
    pq.write_table(table.set_column(4, "clip_l14_similarity_score", scores), rows / "0.parquet")
    command = ("data", "filter", f"rows:{rows}", "--ids", tmp_path / "new" / "kept.txt", "--baseline", "no_filter")
    assert pocketclip(*command, "--min-similarity", "0").code == 0
    assert (tmp_path / "new" / "kept.txt").read_text().split() == UIDS[10:]


@pytest.mark.parametrize(
    ("module", "extra", "option"),
    [
        ("pyarrow", "parquet", ["--ids", "x.parquet"]),
        ("pyarrow", "parquet", ["--scores", "x.parquet"]),
        ("matplotlib", "study", ["--ids", "x.txt", "--histogram", "x.svg"]),
    ],
)
def test_what_is_not_installed_is_known_before_anything_is_measured(
    pocketclip: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, extra: str, option: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    ended = pocketclip("data", "filter", "scenes:3", "--min-image-side", "1", *option)
    assert ended.code == 1
    assert f"'pocketclip[{extra}]'" in ended.err
    assert "measuring" not in ended.err


def test_what_lies_where_blocks_would_stays(pocketclip: Run, make_folder: Callable[..., Path], tmp_path: Path) -> None:
    mine, outs = tmp_path / "kept.txt.measured" / "mine.txt", tmp_path / "new"
    mine.parent.mkdir()
    mine.write_text("of years")
    command = ("data", "filter", make_folder(3), "--ids", tmp_path / "kept.txt", "--min-image-side", "1")
    ended = pocketclip(*command, "--scores", outs / "s.parquet", "--histogram", outs / "cuts" / "cut.svg")
    assert ended.code == 0, ended.err
    assert [path.name for path in mine.parent.iterdir()] == ["mine.txt"]
    assert (outs / "s.parquet").is_file()
    assert (outs / "cuts" / "cut.svg").is_file()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["scenes:3", "--min-image-side", "3"], "Nothing would be written: add --out DIR for shards, or --ids FILE"),
        (["scenes:3", "--min-image-side", "3", "--ids", "x.json"], "ends in .txt, .parquet or .npy"),
        (["scenes:3", "--min-image-side", "3", "--ids", "x.txt", "--histogram", "x.pdf"], "ends in .svg or .png"),
        (["scenes:3", "--min-image-side", "3", "--ids", "x.txt", "--scores", "x.csv"], "a table that ends in .parquet"),
        (["scenes:3", "--language", "en", "--ids", "x.txt", "--histogram", "x.svg"], "no rule here compares a number"),
        (["rows:ROWS", "--language", "en", "--ids", "x.txt", "--histogram", "x.svg"], "no rule here compares a number"),
        (["scenes:3", "--min-image-side", "3", "--ids", "x.txt", "--score", "clip"], "--score is a column of rows:"),
        (["scenes:3", "--min-image-side", "3", "--ids", "x.txt", "--words", "w"], "no effect without --baseline"),
        (["scenes:3", "--ids", "x.txt", "--baseline", "text_based"], "--baseline text_based"),
        (["scenes:3", "--ids", "x.txt", "--baseline", "clip_score"], "add --model MODEL"),
        (["scenes:3", "--ids", "x.txt", "--language", "de"], "language"),
        (["rows:ROWS", "--keep-share", "0.5"], "add --ids FILE"),
        (["rows:ROWS", "--ids", "x.txt"], "no rule is given"),
        (["rows:ROWS", "--ids", "x.txt", "--keep-share", "0.5", "--model", "m"], "--model has no effect with rows:"),
        (["rows:ROWS", "--ids", "x.txt", "--keep-share", "0.5", "--out", "o"], "--out has no effect with rows:"),
        (["rows:ROWS", "--ids", "x.txt", "--min-similarity", "0.9"], "keep none of 40 rows"),
        (["rows:ROWS", "--ids", "x.txt", "--baseline", "basc"], "Unknown baseline 'basc'. Did you mean"),
        (["rows:nowhere", "--ids", "x.txt", "--baseline", "basic"], "No such file or folder: nowhere"),
    ],
)
def test_filters_that_make_no_sense_are_explained(
    pocketclip: Run, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = pocketclip("data", "filter", *(option.replace("ROWS", str(rows)) for option in options))
    assert ended.code == 1
    assert reason in ended.err
    assert not list(tmp_path.glob("x.*"))
