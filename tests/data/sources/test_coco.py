import json
from pathlib import Path
from typing import Any

import pytest

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.errors import UserError


def write(folder: Path, values: Any) -> str:
    (folder / "a.json").write_text(values if isinstance(values, str) else json.dumps(values))
    return f"{folder / 'a.json'},{folder}"


def coco(**changes: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "one.jpg"}, {"id": 2, "file_name": "deep/two.jpg"}],
        "annotations": [{"image_id": 2, "caption": "b"}, {"image_id": 1, "caption": "a"}],
        **changes,
    }


def karpathy(**changes: Any) -> dict[str, Any]:
    def image(name: str, split: str) -> dict[str, Any]:
        return {"filename": name, "split": split, "sentences": [{"raw": f"{name} text"}], **changes}

    return {
        "images": [image("1.jpg", "train"), image("2.jpg", "restval"), image("3.jpg", "val"), image("4.jpg", "val")]
    }


def test_coco_leaves_out_images_without_a_caption(tmp_path: Path) -> None:
    source = open_source("coco:" + write(tmp_path, coco(annotations=[{"image_id": 2, "caption": "b"}])))
    assert len(source) == 1
    assert source.captions(0) == ("b",)


def test_coco_finds_pictures_in_folders_below(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "two.jpg").write_bytes(encode_picture(2))
    sample = open_source("coco:" + write(tmp_path, coco()))[0]
    assert (sample.key, sample.image, sample.captions) == ("deep_two", encode_picture(2), ("b",))


def test_images_of_one_name_in_two_folders_have_keys_of_their_own(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "x/a.jpg"}, {"id": 2, "file_name": "x_a.jpg"}]
    source: Any = open_source("coco:" + write(tmp_path, coco(images=images)))
    assert len(set(source.keys)) == 2


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("{", "not valid JSON"),
        ("[]", "not COCO captions"),
        (coco(images=None), "not COCO captions"),
        ({"images": []}, "missing 'annotations'"),
        (coco(annotations=[]), "no captions here"),
        (coco(annotations=[{"image_id": 1}]), "missing 'caption'"),
        (coco(annotations=[{"image_id": 3, "caption": "a"}]), "missing 3"),
        (coco(annotations=[{"image_id": 1, "caption": None}]), r"not text \('one\.jpg': \[None\]\)"),
        (coco(images=[{"id": 1, "file_name": 7}, {"id": 2, "file_name": "b"}]), "not text"),
        (coco(images=[{"id": 1, "file_name": ""}, {"id": 2, "file_name": "b"}]), "'' is not a file name"),
    ],
)
def test_a_file_that_is_not_coco_is_named_with_the_reason(tmp_path: Path, values: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        open_source("coco:" + write(tmp_path, values))
    assert str(tmp_path / "a.json") in str(caught.value)


@pytest.mark.parametrize(
    ("split", "keys"),
    [("", ["1"]), (",val", ["3", "4"]), (",split=train+restval", ["1", "2"]), (",train+val", ["1", "3", "4"])],
)
def test_karpathy_gives_the_images_of_its_splits(tmp_path: Path, split: str, keys: list[str]) -> None:
    source: Any = open_source("karpathy:" + write(tmp_path, karpathy()) + split)
    assert list(source.keys) == keys
    assert source.captions(0) == (f"{keys[0]}.jpg text",)


def test_karpathy_names_tell_the_split(tmp_path: Path) -> None:
    spec = "karpathy:" + write(tmp_path, karpathy())
    assert open_source(f"{spec},val").name.endswith("#val")
    assert open_source(f"{spec},val").fingerprint() != open_source(f"{spec},train").fingerprint()


def test_karpathy_joins_the_folder_of_each_picture(tmp_path: Path) -> None:
    (tmp_path / "val2014").mkdir()
    (tmp_path / "val2014" / "1.jpg").write_bytes(encode_picture())
    source = open_source("karpathy:" + write(tmp_path, karpathy(filepath="val2014")))
    assert source[0].image == encode_picture()


@pytest.mark.parametrize("split", ["tset", "train+tset"])
def test_an_unknown_karpathy_split_is_named_with_the_known_ones(tmp_path: Path, split: str) -> None:
    with pytest.raises(UserError) as caught:
        open_source("karpathy:" + write(tmp_path, karpathy()) + f",split={split}")
    assert f"a.json: no split '{split}'. Splits: restval, train, val." in str(caught.value)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a Karpathy split"),
        ({"images": [{"split": "train"}]}, "missing 'filename'"),
        (karpathy(sentences=[{"tokens": ["a"]}]), "missing 'raw'"),
        (karpathy(sentences=[{"raw": 3}]), "not text"),
        (karpathy(filename=None), "not a Karpathy split"),
        ({"images": []}, "no split 'train'"),
    ],
)
def test_a_file_that_is_not_karpathys_is_named_with_the_reason(tmp_path: Path, values: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        open_source("karpathy:" + write(tmp_path, values))
    assert str(tmp_path / "a.json") in str(caught.value)


@pytest.mark.parametrize("kind", ["coco", "karpathy"])
def test_the_first_captions_of_an_image_are_kept_where_a_number_is_given(tmp_path: Path, kind: str) -> None:
    five = [{"raw": f"text {number}"} for number in range(7)]
    values = karpathy(sentences=five)
    if kind == "coco":
        values = coco(annotations=[{"image_id": 1, "caption": text["raw"]} for text in five])
    spec = f"{kind}:" + write(tmp_path, values)
    whole, cut = open_source(spec), open_source(f"{spec},max_captions=5")
    assert (len(whole.captions(0)), cut.captions(0)) == (7, tuple(f"text {number}" for number in range(5)))
    assert cut.name == f"{whole.name} (at most 5 captions an image)"
    assert cut.fingerprint() != whole.fingerprint()
