"""How classes fared, as a page shows it."""

from pathlib import Path

import pytest

from example_pages import classified, make_run
from pages import ATTACK, Page
from pocketclip.records import GroupScore, write_record
from pocketclip.report.classes import MOST_IN_PICTURE, class_page, group_rows, shifts
from pocketclip.report.runs import write_report


def test_classes_stand_with_the_hardest_first_and_what_they_are_taken_for() -> None:
    page = class_page(classified("own", 0.5, 5))
    assert page is not None
    assert page.rows[0] == ["a class 0", "10", "30.0", "a class 1 (7)"]
    assert len(page.rows) == 4  # of the last there is no image
    assert page.pairs[0] == ["a class 0 → a class 1", "7 of 10"]
    assert [cell.count for cell in page.picture[0]] == [3, 7, 0, 0, 0]
    assert [cell.is_right for cell in page.picture[0]] == [True, False, False, False, False]
    assert page.picture[0][1].share == 0.7
    assert [cell.share for cell in page.picture[4]] == [0.0] * 5


def test_a_picture_of_too_many_classes_is_left_out_and_the_rest_stays() -> None:
    assert class_page(classified("own", 0.5, MOST_IN_PICTURE)).picture  # type: ignore[union-attr]
    page = class_page(classified("own", 0.5, MOST_IN_PICTURE + 1))
    assert page is not None
    assert (page.picture, len(page.pairs), len(page.rows)) == ([], 10, MOST_IN_PICTURE)


def test_groups_stand_with_the_worst_first_and_without_empty_ones(tmp_path: Path) -> None:
    scores = [
        GroupScore(name=f"Asia {ATTACK}", num_images=1200, top1_accuracy=0.5, top5_accuracy=0.75),
        GroupScore(name="Africa", num_images=8, top1_accuracy=0.25),
        GroupScore(name="Other", num_images=1, top1_accuracy=0.0, counts=False),
        GroupScore(name="Oceania", num_images=0),
    ]
    result = classified("own", 0.5, 5).model_copy(update={"groups": scores, "settings": {"grouped_by": "region"}})
    assert group_rows(result) == [
        ["Other (not for the worst)", "1", "0.0", ""],
        ["Africa", "8", "25.0", ""],
        [f"Asia {ATTACK}", "1,200", "50.0", "75.0"],
    ]
    run = make_run(tmp_path / "run")
    write_record(result, run, "zero_shot")
    text = write_report([run], tmp_path / "page.html").read_text("utf-8")
    assert ">By region, " in text
    assert ATTACK not in text


def test_records_without_classes_show_nothing() -> None:
    assert class_page(classified("own", 0.5, 5).model_copy(update={"classes": []})) is None


def test_a_shift_is_the_distance_to_the_set_that_it_varies() -> None:
    results = [classified("imagenet", 0.6, 9), classified("imagenet_a", 0.25, 9), classified("own", 0.9, 9)]
    shift = shifts(results)
    assert shift is not None
    assert shift.base == "ImageNet, 1,000 classes"
    assert shift.rows == [["ImageNet-A", "25.0 [22.0, 29.0]", "35.0 [30.0, 40.0]"]]  # 3 and 4 points are 5 together
    assert shifts(results[1:]) is None
    assert results[0].protocol is not None
    other = results[0].protocol.model_copy(update={"templates": "one"})
    assert shifts([results[0].model_copy(update={"protocol": other}), results[1]]) is None


@pytest.mark.parametrize("num_classes", [10, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_page_shows_classes_of_each_record_and_runs_nothing(tmp_path: Path, num_classes: int) -> None:
    folder = make_run(tmp_path / "run")
    for protocol in ("imagenet", "imagenet_a"):
        write_record(classified(protocol, 0.5, num_classes, ATTACK), folder, protocol)
    text = write_report([folder], tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text.lower()
    assert "Classes of imagenet_a, templates eighty" in page.text
    assert f"All {num_classes - 1:,} classes, the hardest first" in page.text
    assert "Other kinds of pictures" in page.text
    assert ("answers" in [value for _, name, value in page.attributes if name == "class"]) == (num_classes == 10)
    assert len(text) < 2_000_000
