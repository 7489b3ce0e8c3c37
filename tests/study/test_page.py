"""A study's page: what it says first, its bars, its pictures, and its errors."""

from pathlib import Path

import pytest

from example_pages import HERE, dark_photo, make_study, row
from pages import ATTACK, Page
from pocketclip.errors import UserError
from pocketclip.evaluate.tasks.retrieval import RECALLS
from pocketclip.study.page import study_headline, write_study_page
from pocketclip.study.record import RECORD, SETTINGS, is_study, read_study
from pocketclip.study.table import size_columns, size_rows, study_notes


def page(folder: Path) -> tuple[str, Page]:
    text = write_study_page(folder).read_text(encoding="utf-8")
    return text, Page(text)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", row("a", 0.2), row("b", 0.3, gain=0.1))
    record = read_study(folder)
    assert record.provenance == HERE
    assert [own.name for own in record.rows] == ["a", "b"]
    assert is_study(folder)
    assert not is_study(tmp_path)


@pytest.mark.parametrize(
    ("rows", "sentences"),
    [
        (
            [row("a", 0.2), row("b", None)],
            ["The right picture comes first for 20.0 of 100 sentences with 'a', the only row that is finished."],
        ),
        (
            [row("a", 0.2), row("b", 0.3, gain=0.1)],
            [
                "The right picture comes first for 30.0 of 100 sentences with 'b', most of 2 rows.",
                "That is +10.0 [+9.0, +11.0] against 'a', the first row.",
            ],
        ),
        (
            [row("a", 0.2), row("b", 0.205, gain=0.005)],
            [
                "The right picture comes first for 20.5 of 100 sentences with 'b', most of 2 rows.",
                "That is +0.5 [-0.5, +1.5] against 'a', the first row: it may be none.",
            ],
        ),
        (
            [row("a", 0.2), row("b", 0.195, gain=-0.005), row("c", 0.1, gain=-0.1)],
            [
                "The right picture comes first for 20.0 of 100 sentences with 'a', most of 3 rows.",
                "As far as the intervals tell, as good may be 'b'.",
            ],
        ),
    ],
    ids=["one", "better", "perhaps better", "none better"],
)  # fmt: skip
def test_it_opens_with_the_best_row_and_how_sure_that_is(rows: list, sentences: list[str], tmp_path: Path) -> None:
    assert study_headline(read_study(make_study(tmp_path / "study", *rows))) == sentences


def test_each_metric_has_a_bar_a_row_on_one_scale(tmp_path: Path) -> None:
    rows = row("a", 0.2), row("b", 0.3, gain=0.1), row("c", None)
    text, parsed = page(make_study(tmp_path / "study", *rows))
    assert parsed.text.count("a 20.0 [18.0, 23.0]") == 7  # six bars and a line of the table
    assert parsed.text.count("c (0 of 1 seeds) not finished") == 6
    # from 18 to 33 with a margin of a 25th: the first dot stands at (20 - 17.4) / (33.6 - 17.4)
    assert text.count('<i style="left:16.05%"></i>') == 6
    assert text.count('<i style="left:77.78%"></i>') == 6
    assert text.count('<b style="left:16.05%"></b>') == 12  # the first row's mean, on each bar


def test_each_row_shows_what_it_finds(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", row("a", 0.2), row("b", 0.3, gain=0.1), row("c", None))
    text, parsed = page(folder)
    assert parsed.tags.count("details") == 2
    assert dark_photo() in text
    for path in folder.glob("*/seed-0/gallery.json"):
        path.unlink()
    assert "What each row finds" not in page(folder)[1].text


def test_sizes_times_and_prices_are_rounded_and_empty_columns_left_out(tmp_path: Path) -> None:
    shown = page(make_study(tmp_path / "study", row("a", 0.2)))[1].text
    assert "row image whole model time of a run price of a run a 3.40 M 26.0 M 2 min 39 s $0.04" in shown
    assert "a: flickr/mine, train.num_steps=4" in shown


def test_what_failed_and_what_to_know_is_told_and_nothing_runs(tmp_path: Path) -> None:
    settings = {"name": ATTACK, "failed": {"b, seed 0": ATTACK}, "notes": ["one thing to know"]}
    text, parsed = page(make_study(tmp_path / "study", row("a", 0.2), text=ATTACK, **settings))
    assert f"Failed: b, seed 0: {ATTACK}" in parsed.text
    assert "Note: one thing to know." in parsed.text
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(parsed.tags)
    assert "url(" not in text
    assert "://" not in text
    assert ("meta", "content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in parsed.attributes


def test_a_study_without_a_record_or_with_a_damaged_one_is_one_line(tmp_path: Path) -> None:
    (tmp_path / SETTINGS).touch()
    assert is_study(tmp_path)
    with pytest.raises(UserError, match="a study of which no run is finished yet"):
        write_study_page(tmp_path)
    for damage in ("{", "[1]", '{"name": "x"}'):
        (tmp_path / RECORD).write_text(damage)
        with pytest.raises(UserError, match=r"study\.json: "):
            write_study_page(tmp_path)
    assert not (tmp_path / "study.html").exists()


def test_the_row_that_fills_the_caches_is_not_charged_for_them(tmp_path: Path) -> None:
    paid = {"minutes_own": 1.5, "minutes_caches": 4.0, "dollars_own": 0.02, "dollars_caches": 0.05}
    free = {"minutes_own": 1.5, "minutes_caches": 0.0, "dollars_own": 0.02, "dollars_caches": 0.0}
    rows = [row("first", 0.2).model_copy(update=paid), row("second", 0.25).model_copy(update=free)]
    record = read_study(make_study(tmp_path / "study", *rows))
    assert size_columns(record)[4:] == ["minutes", "minutes of caches", "dollars", "dollars of caches"]
    assert [cells[4:] for cells in size_rows(record)] == [["1.5", "4.0", "0.0200", "0.0500"], ["1.5", "", "0.0200", ""]]
    assert any(line.startswith("Of caches: ") for line in study_notes(record))
    shown = page(tmp_path / "study")[1].text
    assert "first 3.40 M 26.0 M 1 min 30 s 4 min $0.02 $0.05 second 3.40 M 26.0 M 1 min 30 s $0.02" in shown


@pytest.mark.parametrize(("count", "folded"), [(8, 0), (9, 1)])
def test_of_many_rows_two_scores_are_shown_and_the_others_fold(count: int, folded: int, tmp_path: Path) -> None:
    text = write_study_page(make_study(tmp_path, *(row(f"{n} row", 0.2) for n in range(count)))).read_text()
    assert text.count("The other 4 scores") == folded
    assert text.count('<ul class="bars">') == len(RECALLS)


def test_a_study_opens_with_the_sentence_of_its_own_task(tmp_path: Path) -> None:
    """Two tasks have scores of one name."""
    record = read_study(make_study(tmp_path / "study", row("a", 0.2)))
    for task, words in (
        ("", "The right picture"),
        ("retrieval", "The right picture"),
        ("person_retrieval", "A picture of the"),
    ):
        assert study_headline(record.model_copy(update={"task": task}))[0].startswith(words)
