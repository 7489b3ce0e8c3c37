"""The demo's page: drawn and not picked, marked as the metric counts, safe whatever a caption holds."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pages import ATTACK, Page
from people import write_people
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.data.sources.openmoji import ATTRIBUTION
from pocketclip.errors import UserError
from pocketclip.evaluate.tasks import Retrieval, TaskData
from pocketclip.records import RunRecord, write_record
from pocketclip.report.amounts import short_count
from pocketclip.report.approaches import NOT_RECORDED, own_row
from pocketclip.report.demo import MAX_SENTENCES, Demo, check_request, find_run_record, make_demo, write_demo
from pocketclip.report.gallery import MAX_CAPTION

RECORD = RunRecord(
    name="mine", seed=0, recipe_hash="ab", num_steps=4, num_images=6000, num_captions=30_000,
    price_dollars=0.042, seconds={"total": 83.6},
)  # fmt: skip


@pytest.fixture
def bundle(tiny_pretrained: PretrainedModel, tmp_path: Path) -> Path:
    """A run folder with a bundle and no record."""
    tiny_pretrained.save_pretrained(tmp_path / "run" / "bundle", card="# Tiny\n")
    return tmp_path / "run"


@pytest.fixture
def show(tiny_pretrained: PretrainedModel, bundle: Path) -> Callable[..., tuple[Demo, str, Page]]:
    """A function that makes the demo of a source and its page."""

    def make(source: str, **settings: object) -> tuple[Demo, str, Page]:
        demo = make_demo(str(bundle), tiny_pretrained, open_source(source), **settings)  # type: ignore[arg-type]
        text = write_demo(demo, bundle / "demo.html").read_text(encoding="utf-8")
        return demo, text, Page(text)

    return make


Show = Callable[..., tuple[Demo, str, Page]]


def marks(page: Page) -> int:
    return page.text.count("✓ right")


def test_scores_are_those_of_evaluate(show: Show, tiny_pretrained: PretrainedModel) -> None:
    demo, _, page = show("scenes:14,image_size=32")
    assert demo.result is not None
    data = TaskData(open_source("scenes:14,image_size=32"))
    assert demo.result.metrics == Retrieval().run(tiny_pretrained, data).metrics
    assert "over 14 images and 28 sentences" in page.text
    assert "By chance R@1 from sentence to image would be 7.14 %" in page.text
    assert "hold them against no score from another test set" in page.text


def test_ten_of_each_are_drawn_by_the_seed(show: Show) -> None:
    demo, text, page = show("scenes:14,image_size=32")
    gallery = demo.gallery
    assert (len(gallery.text_to_image), len(gallery.image_to_text)) == (10, 10)
    assert {len(example.results) for example in gallery.text_to_image + gallery.image_to_text} == {5}
    assert "10 of the 28 sentences, drawn at random with seed 0 and not picked by hand" in page.text
    assert show("scenes:14,image_size=32")[0].gallery == gallery
    assert show("scenes:14,image_size=32", seed=1)[0].gallery != gallery
    hits = sum(
        result.is_match for example in gallery.text_to_image + gallery.image_to_text for result in example.results
    )
    assert marks(page) == hits
    missed = [example for example in gallery.text_to_image + gallery.image_to_text if example.answer is not None]
    assert [example.rank > 5 for example in missed if example.rank] == [True] * len(missed)
    assert len(re.findall(r"missed, rank \d", page.text)) == len(missed) > 0
    assert text.index("A sentence finds images") < text.index("An image finds sentences")


def test_a_page_fetches_and_runs_nothing(show: Show) -> None:
    _, text, page = show("scenes:6,image_size=32", sentences=["a star"])
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "svg"} & set(page.tags)
    assert "@import" not in text
    assert "url(" not in text
    assert ("meta", "content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "srcset", "href", "action", "poster"):
            assert value.startswith("data:image/jpeg;base64,")


def test_pictures_have_words_and_headings_their_order(show: Show) -> None:
    _, _, page = show("scenes:6,image_size=32")
    alternatives = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    assert len(alternatives) == page.tags.count("img") > 0
    assert all(": " in words for words in alternatives)
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert ("html", "lang", "en") in page.attributes


def luminance(colour: str) -> float:
    values = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_letters_stand_out_in_light_and_dark(show: Show) -> None:
    _, text, _ = show("scenes:3,image_size=32")
    modes = re.findall(r":root \{([^}]*)\}", text)
    assert len(modes) == 2
    for mode in modes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", mode))
        for letters in ("ink", "soft", "good", "accent"):
            for ground in ("card", "page"):
                light, dark = sorted((luminance(colours[letters]), luminance(colours[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (letters, ground, mode)  # WCAG 2.2, AA


def test_captions_are_shown_and_not_run(show: Show, make_folder: Callable[..., Path]) -> None:
    folder = make_folder(4)
    (folder / "000.txt").write_text(f"{ATTACK}\n")
    (folder / "001.txt").write_text("二匹の犬が雪の中を走る\nكلبان في الثلج\n", encoding="utf-8")
    (folder / "002.txt").write_text("word " * 5000)
    _, text, page = show(f"folder:{folder}", sentences=[ATTACK])
    assert "<script" not in text.lower()
    assert ATTACK in page.text
    assert "二匹の犬が雪の中を走る" in page.text
    assert "كلبان في الثلج" in page.text
    assert ("h3", "dir", "auto") in page.attributes
    assert max(map(len, page.words)) < 5000 * 5
    assert ("word " * 100)[: MAX_CAPTION - 1] + "…" in page.text
    assert ("word " * 100)[:MAX_CAPTION] not in text


def test_fewer_than_ten_are_all_shown(show: Show) -> None:
    demo, _, page = show("scenes:2,image_size=32")
    assert (len(demo.gallery.text_to_image), len(demo.gallery.image_to_text)) == (4, 2)
    assert "All 4 sentences" in page.text
    assert "Each with the nearest 2 of 2 images" in page.text
    assert show("scenes:1,image_size=32")[0].gallery.text_to_image[0].rank == 1


def test_broken_and_nameless_pictures_are_left_out_and_told(show: Show, make_folder: Callable[..., Path]) -> None:
    folder = make_folder(6)
    (folder / "001.jpg").write_bytes(b"no picture")
    (folder / "002.txt").unlink()
    demo, _, page = show(f"folder:{folder}", sentences=["picture"])
    assert demo.num_images == 5
    assert "1 images without a caption left out." in page.text
    assert "1 broken items left out." in page.text
    shown = {result.text for result in demo.asked[0].results}
    assert "" in shown  # asked for anything, the picture without a caption can be found


def test_without_any_caption_only_sentences_can_be_asked(show: Show, make_folder: Callable[..., Path]) -> None:
    folder = make_folder(3)
    for path in folder.glob("*.txt"):
        path.unlink()
    with pytest.raises(UserError, match=r"no readable picture has a caption; ask for something with --sentence TEXT"):
        show(f"folder:{folder}")
    demo, _, page = show(f"folder:{folder}", sentences=["a red circle"])
    assert demo.result is None
    assert "nobody knows which answers are right" in page.text
    assert "a red circle" in page.text
    assert marks(page) == 0


def test_nothing_readable_is_one_line(show: Show, make_folder: Callable[..., Path]) -> None:
    folder = make_folder(2)
    for path in folder.glob("*.jpg"):
        path.write_bytes(b"x")
    with pytest.raises(UserError, match=r"no picture can be read. The first: .*000\.jpg"):
        show(f"folder:{folder}")


def test_a_page_stays_small_whatever_the_pictures(show: Show, make_folder: Callable[..., Path]) -> None:
    folder, random = make_folder(12, captions=1), np.random.default_rng(0)
    for path in folder.glob("*.jpg"):
        noise = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(noise, "PNG")
        path.write_bytes(noise.getvalue())
    show(f"folder:{folder}", sentences=[f"word {number} " * 40 for number in range(MAX_SENTENCES)])
    assert (folder.parent / "run" / "demo.html").stat().st_size < 6.5 * 2**20


def test_the_models_row_says_what_the_run_recorded(show: Show, bundle: Path) -> None:
    demo, _, page = show("scenes:3,image_size=32")
    assert demo.record is None
    assert f"run, this model 5 {short_count(demo.num_parameters)} {NOT_RECORDED} {NOT_RECORDED}" in page.text
    write_record(RECORD, bundle, "run")
    demo, _, page = show("scenes:3,image_size=32")
    assert demo.record == RECORD == find_run_record(str(bundle / "bundle"))
    assert f"mine, this model 5 {short_count(demo.num_parameters)} 30.0 k $0.04" in page.text
    for name in ("CLIP", "VLMo", "CoCa", "S-SMKE"):
        assert name in page.text
    assert "no recall stands beside them" in page.text


def test_what_a_record_lacks_is_not_guessed() -> None:
    row = own_row("mine", 117_200_000, RECORD.model_copy(update={"num_captions": None, "price_dollars": None}))
    assert (row.parameters, row.pairs, row.dollars) == ("117 M", NOT_RECORDED, NOT_RECORDED)
    assert "--price" in row.source


def test_emoji_name_their_makers(show: Show, tmp_path: Path) -> None:
    demo, text, _ = show("scenes:3,image_size=32")
    assert "OpenMoji" not in text
    page = write_demo(replace(demo, source="openmoji:test"), tmp_path / "emoji.html")
    assert ATTRIBUTION in page.read_text(encoding="utf-8")
    page = write_demo(replace(demo, credit="Emoji drawings: Some by Somebody, licence MIT"), tmp_path / "other.html")
    assert "Emoji drawings: Some by Somebody, licence MIT." in page.read_text(encoding="utf-8")


def test_whoever_has_the_querys_identity_is_right_and_named(show: Show, tmp_path: Path) -> None:
    people = [f"walker-{number // 3}" for number in range(12)]
    demo, _, page = show(f"webdataset:{write_people(tmp_path / 'people.tar', people)}")
    assert demo.result is not None
    assert demo.result.task == "person_retrieval"
    for example in demo.gallery.text_to_image:
        assert example.query_text.split()[1 if example.query_text.startswith("person") else -1] == example.identity
        assert [result.is_match for result in example.shown] == [
            result.identity == example.identity for result in example.shown
        ]
    for example in demo.gallery.image_to_text:
        assert all(result.is_match == (result.identity == example.identity) for result in example.shown)
        assert all(result.identity in result.text for result in example.shown)
    assert page.text.count("identity walker-") > 20
    assert "every image of the identity that the sentence describes" in page.text
    assert "By chance R@1 from sentence to image would be 25.00 %" in page.text


def test_wishes_are_checked_before_the_work(tmp_path: Path) -> None:
    assert check_request(tmp_path / "a.html", [" two  dogs "]) == ["two dogs"]
    with pytest.raises(UserError, match="is a folder; give the name of an HTML file"):
        check_request(tmp_path, [])
    check_request(tmp_path / "new" / "folder" / "a.html", [])
    assert (tmp_path / "new" / "folder").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Cannot write .*a\.html"):
        check_request(tmp_path / "file" / "a.html", [])
    with pytest.raises(UserError, match="one is empty"):
        check_request(tmp_path / "a.html", ["a", " "])
    with pytest.raises(UserError, match=r"at most 50 fit on the page \(got 51\)"):
        check_request(tmp_path / "a.html", ["x"] * 51)
