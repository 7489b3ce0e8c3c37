"""The page of a study of towers: what it says first, its pictures and bars, and its errors."""

from pathlib import Path

import pytest

from example_pages import make_towers, tower
from pages import ATTACK, Page
from pocketclip.errors import UserError
from pocketclip.study.record import RECORD, is_tower_study
from pocketclip.study.towers.page import towers_headline, write_towers_page
from pocketclip.study.towers.record import TowerResult, read_towers

SCORED = (tower("fast", 2.0, 0.7), tower("good", 9.0, 0.9), tower("neither", 30.0, 0.8), tower("unknown", 4.0))


@pytest.mark.parametrize(
    ("rows", "sentences"),
    [
        ((tower("a", 2.0),), ["a is the fastest of 1 towers: 2.0 ms an image."]),
        (
            SCORED,
            [
                "fast is the fastest of 4 towers: 2.0 ms an image, where neither takes 30.0.",
                "good tells most pictures apart, 90.0 of 100; none that is as fast beats fast.",
            ],
        ),
        ((tower("a", 2.0, cost=None, missing={"cost": "x"}),), []),
    ],
    ids=["one", "scored", "none"],
)
def test_it_opens_with_the_fastest_and_the_best(
    rows: tuple[TowerResult, ...], sentences: list[str], tmp_path: Path
) -> None:
    assert towers_headline(read_towers(make_towers(tmp_path, *rows))) == sentences


def page(folder: Path) -> tuple[str, Page]:
    text = write_towers_page(folder).read_text(encoding="utf-8")
    return text, Page(text)


def test_accuracy_stands_over_each_cost_and_times_are_bars(tmp_path: Path) -> None:
    text, shown = page(make_towers(tmp_path, *SCORED))
    assert text.count("<svg") == 4
    assert "Accuracy over milliseconds an image, batch 1: fast 70.0 at 2; good 90.0 at 9; neither 80.0 at 30" in text
    assert "Not beaten in both: fast, good." in text
    assert text.count('style="width:100.0%"') == 3  # the slowest, of each kind of time
    assert text.count('style="width:30.0%"') == 3
    assert "fast 224 1.0 0.20 2.0 [1.8, 2.4] 50.0 [45.0, 60.0] 802 60 6 70.0 [68.0, 72.0]" in shown.text


def test_without_two_scores_there_is_no_picture_and_gaps_are_told(tmp_path: Path) -> None:
    gap = tower("b", 4.0, training=None, missing={"training": "its process was ended by SIGSEGV"})
    text, shown = page(make_towers(tmp_path, tower("a", 2.0), gap, data=None, num_towers=3))
    assert "<svg" not in text
    assert "Without scores: --set data=KIND:PLACE" in shown.text
    assert "No training time of b: its process was ended by SIGSEGV." in shown.text
    assert "2 of 3 towers" in shown.text
    assert shown.text.count("not measured") == 1


def test_nothing_that_users_wrote_runs(tmp_path: Path) -> None:
    rows = (tower(ATTACK, 2.0, 0.5, missing={"training": ATTACK}), tower("b", 3.0, 0.6))
    _, shown = page(make_towers(tmp_path, *rows, name=ATTACK))
    assert f"No training time of {ATTACK}: {ATTACK}." in shown.text
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(shown.tags)


def test_a_study_without_a_record_or_with_a_damaged_one_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("towers: {}\n")
    assert is_tower_study(tmp_path)
    with pytest.raises(UserError, match="no tower of this study is measured yet"):
        write_towers_page(tmp_path)
    for damage in ("{", "[1]", '{"name": "x"}'):
        (tmp_path / RECORD).write_text(damage)
        with pytest.raises(UserError, match=r"study\.json: "):
            write_towers_page(tmp_path)
