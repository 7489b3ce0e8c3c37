"""The board: cells, marks that intervals or paired tests allow, a CSV of everything, and sorting in a browser."""

import base64
import csv
import hashlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from example_pages import board_results, evaluation, make_results, measured, weighed
from pages import ATTACK, Page
from pocketclip.errors import UserError
from pocketclip.evaluate.items import Items, write_items
from pocketclip.records import EvalResult
from pocketclip.report.board import Board, make_board, write_board
from pocketclip.report.standing import gather

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")


def board_of(folder: Path, *records: Any) -> Board:
    return make_board(gather([make_results(folder, *records)]))


def best(board: Board, column: int = 0) -> list[str]:
    return [name for name, cells in board.rows if cells[column].is_best]


@pytest.mark.parametrize(
    ("shares", "halves", "marked"),
    [
        ((0.5, 0.4), (0.02, 0.02), ["a"]),
        ((0.4, 0.5), (0.02, 0.02), ["b"]),
        ((0.5, 0.47), (0.02, 0.02), []),
        ((0.5, 0.4, 0.38), (0.02, 0.02, 0.2), []),  # the third may be better than the first
        ((0.5,), (0.02,), []),
        ((0.5, 0.5), (0.0, 0.0), []),
    ],
)
def test_the_best_is_marked_only_where_its_interval_says_so(
    tmp_path: Path, shares: tuple[float, ...], halves: tuple[float, ...], marked: list[str]
) -> None:
    records = [measured(name, share, half) for name, share, half in zip("abc", shares, halves, strict=False)]
    assert best(board_of(tmp_path, *records)) == marked


def kept(folder: Path, name: str, right: Any, first_id: int = 0) -> EvalResult:
    record = measured(name, float(np.mean(right)), 0.1)
    ids = np.arange(len(right), dtype=np.int64) + first_id
    write_items(folder / f"{name}.npz", Items(record, {"top1_accuracy": np.asarray(right, np.float64)}, ids, name))
    return record


@pytest.mark.parametrize(("first_id", "marked"), [(0, ["a"]), (1, [])])
def test_kept_items_are_tested_in_pairs(tmp_path: Path, first_id: int, marked: list[str]) -> None:
    """A model that is right wherever the other one is, and in some cases more: intervals overlap, pairs are sure."""
    right = np.arange(100) < 60
    records = kept(tmp_path, "a", right | (np.arange(100) >= 90)), kept(tmp_path, "b", right, first_id)
    assert best(board_of(tmp_path, *records)) == marked


def test_splits_and_data_are_columns_and_gaps_stay_empty(tmp_path: Path) -> None:
    records = [
        measured("a", 0.5), measured("b", 0.4, split="test"), measured("a", 0.3, dataset="folder:/elsewhere/clothing"),
        evaluation("val", 0.2).model_copy(update={"model": "a"}), weighed("b", 2_000_000, 3.0),
    ]  # fmt: skip
    board = board_of(tmp_path, *records)
    labels = [f"{head.label} | {head.about}" for head in board.heads]
    assert labels[:5] == [
        "T→I R@1 | retrieval, x, val",
        "I→T R@1 | retrieval, x, val",
        "top1 accuracy | zero shot, folder:/data/clothing",
        "top1 accuracy | zero shot, folder:clothing, test",
        "top1 accuracy | zero shot, folder:/elsewhere/clothing",
    ]
    cells = {name: [cell.text for cell in own] for name, own in board.rows}
    assert cells["a"][2:5] == ["50.0 [48.0, 52.0]", "", "30.0 [28.0, 32.0]"]
    assert cells["a"][5:] == ["", "", "", ""]
    assert cells["b"][3:] == ["40.0 [38.0, 42.0]", "", "2.00 M", "46.0 M", "4.0 ms", "7.6 MiB"]


def test_what_cannot_be_compared_is_noted_and_not_marked(tmp_path: Path) -> None:
    cooker = weighed("b", 2, 1.0).provenance.model_copy(update={"hardware": "a cooker"})
    records = [
        measured("a", 0.9, num_images=10), measured("b", 0.1),
        weighed("a", 1, 1.0), weighed("b", 2, 1.0, provenance=cooker),
    ]  # fmt: skip
    board = board_of(tmp_path, *records)
    assert best(board) == []
    assert board.notes == [
        "latency was measured on several machines: a cooker; a toaster",
        "zero_shot on folder:/data/clothing was measured on different numbers of items: 10, 1,000",
    ]


def test_a_picture_for_each_cost_that_two_models_have(tmp_path: Path) -> None:
    one, two = (weighed(name, size, 3.0) for name, size in (("a", 10), ("b", 20)))
    assert board_of(tmp_path / "1", measured("a", 0.5), measured("b", 0.4), one).plots == []
    both = board_of(tmp_path / "2", measured("a", 0.5), measured("b", 0.4), one, two)
    assert [title.split(" over ")[1] for title, _ in both.plots] == [
        "parameters", "MACs, image + text", "latency, image + text", "size on disk"
    ]  # fmt: skip


def test_the_csv_has_everything_in_fractions(tmp_path: Path) -> None:
    _, table = write_board([board_results(tmp_path)], tmp_path / "out" / "board.html")
    rows = {row["model"]: row for row in csv.DictReader(table.read_text().splitlines())}
    own = rows["runs/pocket_s"]
    name = "zero_shot folder:/data/clothing all top1_accuracy"
    assert [float(own[name + ending]) for ending in ("", " low", " high")] == pytest.approx([0.42, 0.4, 0.44])
    assert float(own["retrieval x test text_to_image_recall@10"]) == 0.21
    assert (float(own["parameters"]), float(own["latency, image + text ms"])) == (14_000_000, 12)
    assert rows["hf:google/siglip-base-patch16-224"]["parameters"] == ""


def test_the_page_fetches_nothing_and_allows_its_own_script_only(tmp_path: Path) -> None:
    path, _ = write_board([board_results(tmp_path)], tmp_path / "board.html")
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (
        value for tag, name, value in page.attributes if tag == "meta" and name == "content" and "src" in value
    )
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert ATTACK in page.text
    assert not [value for _, name, value in page.attributes if name in ("src", "href") and "//" in value]


@pytest.mark.parametrize("name", ["board.csv", "folder"])
def test_a_place_that_is_no_page_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"board\.html|page\.html"):
        write_board([board_results(tmp_path / "results")], tmp_path / name)


DRIVE = """
<script>
{
const order = () => [...document.querySelectorAll(".board tbody th")].map(cell => cell.textContent);
const heads = [...document.querySelectorAll(".board thead th")], told = [];
for (const column of [8, 8, 0, 4]) {
  const button = heads[column].querySelector("button");
  button.focus();
  if (document.activeElement !== button) told.push("no focus");
  button.click();
  told.push([heads[column].getAttribute("aria-sort"), document.querySelectorAll("[aria-sort]").length, order()]);
}
told.push(document.getElementById("sorted").textContent);
const shown = document.createElement("pre");
shown.id = "told";
shown.textContent = JSON.stringify(told);
document.body.append(shown);
}
</script></body>
"""


def browse(page: Path, profile: Path) -> str:
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"),
        *("--virtual-time-budget=5000", "--dump-dom", f"file://{page}"),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
def test_a_head_sorts_by_its_column_and_back(tmp_path: Path) -> None:
    path, _ = write_board([board_results(tmp_path)], tmp_path / "board.html")
    assert browse(path, tmp_path / "profile").count("<button") == 9  # the policy lets the script run
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text(encoding="utf-8"))
    path.write_text(text.replace("</body>", DRIVE), encoding="utf-8")
    found = re.search(r'<pre id="told">(.*?)</pre>', browse(path, tmp_path / "profile"), re.DOTALL)
    assert found
    up, down, names, score, words = json.loads(html.unescape(found[1]))
    assert up[:2] == ["ascending", 1]
    assert up[2][0] == "runs/pocket_xs"
    assert up[2][-1] == down[2][-1] == "hf:google/siglip-base-patch16-224"  # what is not known comes last
    assert down[0] == "descending"
    assert down[2][:-1] == up[2][:-1][::-1]
    assert names[2] == sorted(names[2], key=str.casefold)
    assert score[0] == "descending"
    assert score[2][0] == "hf:google/siglip-base-patch16-224"
    assert "top1 accuracy, descending." in words
