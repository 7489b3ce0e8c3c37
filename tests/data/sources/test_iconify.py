"""Packages of emoji drawings as npm has them: what is read, what is passed over, how it is drawn, what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketclip.data import open_source
from pocketclip.data.sources.iconify import IconifySource
from pocketclip.data.sources.openmoji import split_of
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.evaluate.task import TaskData, measure
from pocketclip.evaluate.tasks.retrieval import Retrieval
from pocketclip.preprocess import decode_image

LEFT = '<path fill="#f00" d="M0 0h16v32H0z"/>'
"""Red on the left half of 32 x 32."""
INFO = {
    "name": "Some Emoji",
    "author": {"name": "Somebody", "url": "https://example.org"},
    "license": {"title": "CC BY 4.0", "spdx": "CC-BY-4.0"},
}
CHARS = {
    "1f355": "pizza",
    "1f415": "dog",
    "2764": "red-heart",  # written without the variation selector
    "1f449": "pointing-right",
    "1f44b-1f3fb": "waving-hand-light",
    "1f1e6": "letter-a",
    "1f408": "gone",
}
ICONS: dict[str, Any] = {
    "prefix": "some",
    "icons": {
        **{name: {"body": LEFT} for name in ("pizza", "dog", "red-heart", "waving-hand-light", "letter-a")},
        "pointing-left": {"body": LEFT},
    },
    "aliases": {"pointing-right": {"parent": "pointing-left", "hFlip": True}},
    "width": 32,
    "height": 32,
}


def package(folder: Path, chars: dict[str, Any] | None = None, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "icons.json").write_text(json.dumps({**ICONS, **changes}))
    (folder / "chars.json").write_text(json.dumps(CHARS if chars is None else chars))
    (folder / "info.json").write_text(json.dumps(INFO))
    return folder


def opened(place: object, rest: str = "") -> IconifySource:
    source = open_source(f"iconify:{place}{rest}")
    assert isinstance(source, IconifySource)
    return source


def pixels(source: IconifySource, name: str) -> Any:
    index = source.class_names.index(name)
    return np.asarray(decode_image(source[index].image, place=""))


def test_emoji_have_their_unicode_names_as_captions_and_classes(tmp_path: Path) -> None:
    source = opened(package(tmp_path / "set"))
    assert set(source.class_names) == {"backhand index pointing right", "dog", "pizza", "red heart"}
    for index, name in enumerate(source.class_names):
        assert (source.label(index), source[index].label, source.captions(index)) == (index, index, (name,))
    assert {"captions", "classes"} <= source.gives


def test_what_is_no_sample_is_counted(tmp_path: Path) -> None:
    assert [str(left) for left in opened(package(tmp_path / "set")).left_out] == [
        "1 drawings that are no emoji passed over (letter-a)",
        "1 emoji without their drawing passed over (gone)",
        "1 emoji with a skin tone passed over (waving-hand-light)",
    ]


def test_the_folder_that_npm_packs_is_found_in_its_place(tmp_path: Path) -> None:
    package(tmp_path / "set" / "package")
    assert len(opened(tmp_path / "set")) == 4


def test_an_emoji_is_in_the_split_of_its_name_as_of_openmoji(tmp_path: Path) -> None:
    folder = package(tmp_path / "set")
    splits = {split_of(name) for name in opened(folder).class_names}
    parts = {split: opened(folder, f",{split}").class_names for split in splits}
    assert sorted(name for part in parts.values() for name in part) == sorted(opened(folder).class_names)
    assert all(split_of(name) == split for split, part in parts.items() for name in part)
    shared = set(opened(folder, ",train").class_names)
    openmoji = open_source("openmoji:train")
    assert shared <= {openmoji.captions(index)[0] for index in range(len(openmoji))}


def test_drawings_are_squares_on_white(tmp_path: Path) -> None:
    red, white = [255, 0, 0], [255, 255, 255]
    shown = pixels(opened(package(tmp_path / "set"), ",image_size=64"), "pizza")
    assert shown.shape == (64, 64, 3)
    assert (shown[32, 10].tolist(), shown[32, 50].tolist()) == (red, white)


@pytest.mark.parametrize(
    ("change", "red"),
    [
        ({}, "left"),
        ({"hFlip": True}, "right"),
        ({"vFlip": True}, "left"),
        ({"rotate": 1}, "top"),
        ({"rotate": 2}, "right"),
        ({"rotate": 3}, "bottom"),
        ({"hFlip": True, "vFlip": True}, "right"),
        ({"hFlip": True, "rotate": 1}, "bottom"),
    ],
)
def test_aliases_are_mirrored_and_turned(change: dict[str, Any], red: str, tmp_path: Path) -> None:
    aliases = {"pointing-right": {"parent": "pointing-left", **change}}
    source = opened(package(tmp_path / "set", aliases=aliases), ",image_size=64")
    is_red = pixels(source, "backhand index pointing right")[:, :, 1] < 128
    halves = {"left": is_red[:, :30], "right": is_red[:, 34:], "top": is_red[:30], "bottom": is_red[34:]}
    assert [half for half, own in halves.items() if own.all()] == [red]
    assert is_red.mean() == pytest.approx(0.5, abs=0.02)


def test_a_drawing_that_is_wider_than_high_is_in_the_middle_of_a_square(tmp_path: Path) -> None:
    icons = {"pizza": {"body": '<path fill="#f00" d="M0 0h32v16H0z"/>', "height": 16}}
    shown = pixels(opened(package(tmp_path / "set", {"1f355": "pizza"}, icons=icons), ",image_size=64"), "pizza")
    assert [bool(shown[row, 32, 1] < 128) for row in (4, 20, 44, 60)] == [False, True, True, False]


def test_only_what_other_sets_have_where_asked(tmp_path: Path) -> None:
    one, other = package(tmp_path / "one"), package(tmp_path / "other", {"1f355": "pizza", "1f415": "dog"})
    source = opened(one, f",shared_with=openmoji+{other}")
    assert set(source.class_names) == {"dog", "pizza"} == set(opened(other).class_names)
    assert any("emoji that are not in openmoji+" in str(left) for left in source.left_out)
    assert source.class_names == opened(other, f",shared_with={one}").class_names


def test_label_and_tags_are_captions_where_given(tmp_path: Path) -> None:
    rows = [
        {"hexcode": "1F355", "label": "pizza", "tags": ["cheese", "pizza", "slice"]},
        {"hexcode": "1F415", "label": "dog"},
    ]
    (tmp_path / "names" / "en").mkdir(parents=True)
    (tmp_path / "names" / "en" / "data.json").write_text(json.dumps(rows))
    folder = package(tmp_path / "set")
    for place in (tmp_path / "names", tmp_path / "names" / "en" / "data.json"):
        source = opened(folder, f",names={place}")
        captions = {name: source.captions(index) for index, name in enumerate(source.class_names)}
        assert captions["pizza"] == ("pizza", "cheese", "slice")
        assert captions["dog"] == ("dog",)
        assert captions["red heart"] == ("red heart",)  # not listed: the Unicode name
    (tmp_path / "names" / "en" / "data.json").write_text("[1]")
    with pytest.raises(UserError, match=r"data\.json: not the data\.json of emojibase-data"):
        opened(folder, f",names={tmp_path / 'names'}")


def test_the_makers_are_named_in_records(tmp_path: Path, tiny_pretrained: Any) -> None:
    source = opened(package(tmp_path / "set"))
    assert source.credit == "Emoji drawings: Some Emoji by Somebody (https://example.org), licence CC BY 4.0"
    assert source.credit in measure(Retrieval(), tiny_pretrained, TaskData(source)).notes


def test_the_fingerprint_is_of_what_is_drawn(tmp_path: Path) -> None:
    folder = package(tmp_path / "set")
    before, copied = opened(folder).fingerprint(), opened(package(tmp_path / "copy")).fingerprint()
    assert before == copied
    others = {opened(folder, rest).fingerprint() for rest in (",train", ",image_size=64")}
    package(folder, width=64)
    assert len({before, *others, opened(folder).fingerprint()}) == 4


def test_a_drawing_that_is_no_svg_is_a_broken_item(tmp_path: Path) -> None:
    icons = {**ICONS["icons"], "dog": {"body": "<path"}}
    source = opened(package(tmp_path / "set", icons=icons))
    with pytest.raises(BrokenItemError, match=r"icons\.json, icon dog: cannot be read"):
        source[source.class_names.index("dog")]
    assert source[source.class_names.index("pizza")].captions == ("pizza",)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("icons.json", None, r"no icons\.json, which a package of drawings has; get one with: npm pack"),
        ("icons.json", "{", r"icons\.json: cannot be read as JSON"),
        ("icons.json", "[]", r"icons\.json: does not have the form of a set of drawings"),
        ("icons.json", '{"icons": 3}', r"icons\.json: does not have the form of a set of drawings"),
        ("chars.json", None, r"no chars\.json, so nobody knows which emoji"),
        ("chars.json", '{"1f355": 3}', r"chars\.json: 1f355 should be the name of a drawing"),
        ("chars.json", '{"x": "pizza"}', r"no emoji of all"),
    ],
)
def test_what_is_no_package_is_refused(file: str, text: str | None, message: str, tmp_path: Path) -> None:
    folder = package(tmp_path / "set")
    (folder / file).unlink() if text is None else (folder / file).write_text(text)
    with pytest.raises(UserError, match=message):
        opened(folder)


@pytest.mark.parametrize("alias", [{"parent": "pointing-right"}, {"parent": "none"}, {"parent": ["x"]}, {}, 3], ids=str)
def test_an_alias_that_leads_nowhere_is_no_drawing(alias: object, tmp_path: Path) -> None:
    source = opened(package(tmp_path / "set", aliases={"pointing-right": alias}))
    assert "2 emoji without their drawing passed over (gone, pointing-right)" in map(str, source.left_out)


@pytest.mark.parametrize("info", ["{}", '{"author": "me", "license": null}', None])
def test_a_package_that_does_not_name_its_makers_says_so(info: str | None, tmp_path: Path) -> None:
    folder = package(tmp_path / "set")
    (folder / "info.json").unlink() if info is None else (folder / "info.json").write_text(info)
    assert opened(folder).credit.endswith("by unnamed authors, licence that the package does not name")
