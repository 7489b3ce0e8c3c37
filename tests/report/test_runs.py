"""The page about runs: one file that fetches nothing, runs nothing, and shows what the records say."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from example_pages import HERE, make_run
from pages import ATTACK, Page
from pocketclip.errors import UserError
from pocketclip.records import Provenance
from pocketclip.report.page import machine
from pocketclip.report.runs import read_run, write_report


def report(*folders: Path) -> tuple[str, Page]:
    text = write_report(list(folders), folders[0].parent / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_a_page_fetches_and_runs_nothing(run: Path, tmp_path: Path) -> None:
    text, page = report(run, make_run(tmp_path / "other", test=True))
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "srcset", "href", "xlink:href", "data", "action", "poster"):
            assert value.startswith(("data:image/jpeg;base64,", "#")), (tag, name, value)
    assert "img" in page.tags
    assert "svg" in page.tags


def test_whatever_users_write_is_shown_and_not_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", name=ATTACK, text=ATTACK)
    text, page = report(folder)
    assert "<script" not in text.lower()
    assert "script" not in page.tags
    shown = page.text
    assert shown.count(ATTACK) == 5  # title, headline, query, answer and recipe


def test_every_picture_has_words_for_those_who_do_not_see_it(run: Path) -> None:
    _, page = report(run)
    pictures, alternatives = page.tags.count("img"), [value for _, name, value in page.attributes if name == "alt"]
    assert pictures == len(alternatives) == 3
    assert all(alternatives)
    assert ("html", "lang", "en") in page.attributes


def test_scores_stand_with_intervals_splits_and_chance(tmp_path: Path) -> None:
    shown = report(make_run(tmp_path / "run", test=True))[1].text
    assert "test: 16 images, 32 captions text → image 30.0 [20.0, 40.0]" in shown
    assert "val: 8 images, 16 captions text → image 50.0 [40.0, 60.0]" in shown
    assert "image → text 50.0 [40.0, 60.0]" in shown
    assert "By chance R@1 would be 6.25 on test, 12.5 on val." in shown
    assert "val: one note on val." in shown


def test_the_run_its_cost_and_its_recipe_are_told(run: Path) -> None:
    shown = report(run)[1].text
    assert "6,000 training images, 30,000 captions" in shown
    assert "seed 7 · 1,234 steps · 1 min 24 s in all · a toaster · 1 Jan 2026" in shown
    assert "parameters 3.40 M 22.60 M" in shown
    assert "texts of 16 tokens · float32 on cpu, 2 threads · a toaster" in shown
    assert "an epoch of training 2.5 s the whole run 1 min 24 s" in shown
    assert "1 items were left out" in shown
    assert "seed: 7 # a red circle" in shown


def test_the_page_opens_with_how_often_the_model_is_right(tmp_path: Path) -> None:
    shown = report(make_run(tmp_path / "run", test=True))[1].text
    opening = (
        "mine The right picture comes first for 30.0 of 100 sentences; by chance 6.25. A right sentence comes first "
        "for 30.0 of 100 pictures. 6,000 training images"
    )
    assert opening in shown


def test_the_number_below_a_picture_is_explained(run: Path) -> None:
    shown = report(run)[1].text
    assert "The number below a picture is the similarity of picture and sentence" in shown
    assert "it could be from −1 to 1, and 0.25 to 0.50 stand here" in shown
    assert "The number behind a sentence is the similarity" in shown


class BusyProvenance(Provenance):
    """As of a version that looks at the machine's load."""

    @property
    def machine(self) -> str:
        return f"{self.hardware}, busy with other work"


def test_how_busy_the_machine_was_stands_beside_it() -> None:
    assert machine(HERE) == "a toaster"
    assert machine(BusyProvenance(hardware="a toaster")) == "a toaster, busy with other work"


def test_the_gallery_marks_what_is_right(run: Path) -> None:
    _, page = report(run)
    assert page.text.count("✓ right") == 2
    assert [tag for tag, name, value in page.attributes if (name, value) == ("class", "match")] == ["li", "li"]
    assert "right image at rank 1" in page.text
    assert "right sentence at rank 2" in page.text


def test_curves_have_words_and_chance_has_a_line(run: Path) -> None:
    loss, recall = (svg for _, svg in read_run(run).plots)
    assert "by chance" in recall
    assert "by chance" not in loss
    assert 'role="img" aria-label="Loss: training from 3 to 1.5; validation from 2.5 to 2.5"' in loss
    (run / "records" / "retrieval_val.json").unlink()  # so that nobody knows how many were ranked
    assert "by chance" not in read_run(run).plots[1][1]


def test_stages_follow_each_other_on_the_axis(run: Path) -> None:
    titles = [title for title, _ in read_run(run).plots]
    assert titles == ["Loss", "Validation recall"]
    loss = read_run(run).plots[0][1]
    corners = [
        re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path) for path in re.findall(r'<path d="([^"]*)" clip-path', loss)
    ]
    (training,) = [points for points in corners if len(points) == 3]
    x = [float(point[0]) for point in training]
    assert x[2] - x[1] == pytest.approx(x[1] - x[0], abs=1e-3)


def test_several_runs_are_compared_first(tmp_path: Path) -> None:
    shown = report(make_run(tmp_path / "a", name="one"), make_run(tmp_path / "b", name="two"))[1].text
    assert (
        "2 runs The right picture comes first for 50.0 of 100 sentences with 'one'; 50.0 with 'two'. The intervals of "
        "the first two overlap: other pictures could turn their order. Side by side"
    ) in shown
    for name in ("one", "two"):
        assert f"{name} 50.0 [40.0, 60.0] 50.0 [40.0, 60.0] val, 8 images 26.0 M 11.0 ms 1 min 24 s" in shown
    assert "Side by side" not in report(tmp_path / "a")[1].text


def test_the_table_of_runs_has_no_empty_column(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, name=name) for name in ("one", "two")]
    heads = "run text → image R@1 image → text R@1 measured on parameters latency, image + text whole run one"
    assert heads in report(*folders)[1].text
    (folders[0] / "records" / "cost.json").unlink()
    assert heads in report(*folders)[1].text
    (folders[1] / "records" / "cost.json").unlink()
    assert "run text → image R@1 image → text R@1 measured on whole run one" in report(*folders)[1].text


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name) for name in ("a", "b")]
    shown = report(*folders)[1].text
    assert f"mine, {folders[0]}" in shown
    assert f"mine, {folders[1]}" in shown


def test_headings_have_their_order(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name) for name in ("a", "b")]
    for page in (report(folders[0])[1], report(*folders)[1]):
        levels = [int(tag[1]) for tag in page.tags if re.fullmatch(r"h\d", tag)]
        assert levels.count(1) == 1 == levels[0]
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_runs_are_compared_on_the_test_split_where_there_is_one(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, name=name, test=True) for name in ("one", "two")]
    assert "one 30.0 [20.0, 40.0] 30.0 [20.0, 40.0] test, 16 images" in report(*folders)[1].text


def test_a_run_without_cost_gallery_and_recipe_has_a_page_too(run: Path) -> None:
    (run / "records" / "cost.json").unlink()
    (run / "gallery.json").unlink()
    (run / "recipe.yaml").unlink()
    shown = report(run)[1].text
    assert "val: 8 images, 16 captions text → image" in shown
    assert not [part for part in ("A sentence finds images", "Cost", "The recipe") if part in shown]


@pytest.mark.parametrize("part", ["run", "cost", "retrieval_val"])
def test_runs_are_compared_without_a_part_of_one(part: str, run: Path, tmp_path: Path) -> None:
    (run / "records" / f"{part}.json").unlink()
    assert "2 runs" in report(run, make_run(tmp_path / "other", name="other"))[1].text


def test_the_drawings_makers_are_named(run: Path) -> None:
    credit = "Emoji drawings by OpenMoji (openmoji.org), licence CC BY-SA 4.0"
    assert credit not in report(run)[1].text
    (run / "recipe.yaml").write_text("data: {train: openmoji}\n")
    assert credit in report(run)[1].text


def test_the_same_run_gives_the_same_page(run: Path) -> None:
    assert report(run)[0] == report(run)[0]


def test_a_folder_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: no such run folder"):
        write_report([tmp_path / "none"], tmp_path / "report.html")
    with pytest.raises(UserError, match=r"no records here yet; did the run finish\?"):
        write_report([tmp_path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_folder_of_runs_names_them(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "all of them" / name) for name in ("seed-0", "seed-1")]
    with pytest.raises(UserError) as caught:
        write_report([runs[0].parent], tmp_path / "report.html")
    _, _, command = str(caught.value).partition("Of the runs in it: pocketclip report ")
    assert [Path(word) for word in shlex.split(command)] == runs
    assert write_report([Path(word) for word in shlex.split(command)], tmp_path / "report.html").is_file()


def test_the_pages_folder_is_made(run: Path, tmp_path: Path) -> None:
    assert write_report([run], tmp_path / "new" / "folder" / "x.html").is_file()


def test_a_place_that_cannot_be_written_is_named(run: Path) -> None:
    with pytest.raises(UserError, match=r"Cannot write .*recipe\.yaml/report\.html"):
        write_report([run], run / "recipe.yaml" / "report.html")
    with pytest.raises(UserError, match=r"--out .*run: is a folder; give the name of an HTML file, such as .*run/page"):
        write_report([run], run)


def test_the_page_says_where_other_work_was_in_the_way(run: Path, tmp_path: Path) -> None:
    for path in (run / "records").glob("*.json"):
        values = json.loads(path.read_text())
        values["provenance"] |= {"other_load": 1.3, "num_cores": 2}
        path.write_text(json.dumps(values))
    other = make_run(tmp_path / "other")
    shown = report(run, other)[1].text
    assert shown.count("measured while 1.3 of 2 cores were busy with other work") == 2  # the run's time and its cost
    assert "11.0 ms on a busy machine" in shown
    assert "on a busy machine" in shown.partition("1 min 24 s")[2][:20]
    assert "busy" not in report(other)[1].text
