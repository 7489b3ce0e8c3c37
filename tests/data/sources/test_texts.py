"""Labelled texts from tables, and one clear line for each that is not what it should be."""

from pathlib import Path

import pytest

from pocketclip.data.sources.texts import open_texts
from pocketclip.errors import UserError


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", 'text,label\n"so, so",bad\nfine,good\n'),
        ("x.tsv", "label\tsentence\nbad\tso, so\ngood\tfine\n"),
        ("x.jsonl", '{"text": "so, so", "label": "bad"}\n\n{"text": "fine", "label": "good"}\n'),
    ],
)
def test_the_same_texts_come_from_every_kind_of_table(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    texts = open_texts(str(tmp_path / name), place="--data")
    assert texts.texts == ("so, so", "fine")
    assert [texts.labels.occurring[value] for value in texts.labels.values] == ["bad", "good"]


def test_columns_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("body;stars\nfine;5\nbad;1\n")
    texts = open_texts(f"csv:{tmp_path}/x.csv,text=body,label=stars,separator=;", place="--data")
    assert texts.labels.names == ("1", "5")
    assert texts.labels.values.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("body,label\na,b\n", "no column that looks like the text. Columns: body, label"),
        ("text,stars\na,b\n", "no column that looks like the label. Columns: text, stars"),
        ("text,label\na,x\nb,\n", "row 2: column 'label' is empty"),
        ("text,label\n", "the table is empty"),
    ],
)
def test_a_table_that_lacks_something_is_one_clear_line(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(UserError) as caught:
        open_texts(f"csv:{tmp_path}/x.csv", place="--data")
    assert f"{tmp_path}/x.csv" in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_kinds_and_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data: should be csv:FILE or jsonl:FILE"):
        open_texts("folder:photos", place="--data")
    with pytest.raises(UserError, match=r"Unknown setting of csv 'lable'\. Did you mean 'label'"):
        open_texts("csv:x.csv,lable=y", place="--data")


def test_a_part_is_held_out_the_same_way_each_time(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,label\n" + "".join(f"t{number},{number % 2}\n" for number in range(10)))
    rest, held = open_texts(f"{tmp_path}/x.csv", place="--data").hold_out(0.2)
    assert (len(rest), len(held)) == (8, 2)
    assert set(rest.texts) | set(held.texts) == {f"t{number}" for number in range(10)}
    for part in (rest, held):
        assert [int(text[1:]) % 2 for text in part.texts] == part.labels.values.tolist()
