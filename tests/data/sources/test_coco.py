import json
import re
from pathlib import Path
from typing import Any

import pytest

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.errors import UserError


def write(folder: Path, values: Any) -> str:
    """Annotations, and a picture for each name that ends in .jpg, unless there is one."""
    text = values if isinstance(values, str) else json.dumps(values)
    (folder / "a.json").write_text(text)
    for number, name in enumerate(dict.fromkeys(re.findall(r'"([^"]*\.jpg)"', text))):
        path = folder / name.replace("\\\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(encode_picture(number))
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
        (coco(annotations=[{"image_id": 3, "caption": "a"}]), r"none of its 1 annotations is of one of its 2 images"),
        (coco(annotations=[{"image_id": 1, "caption": None}]), "no captions here"),
        (
            coco(annotations=[{"image_id": 1, "id": 5, "caption": 3}]),
            r"annotation 5 of image 1 \(one\.jpg\): a cap",
        ),
        (coco(annotations=[{"image_id": 1, "caption": True}]), "got true or false"),
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
        (karpathy(sentences=[{"tokens": ["a"]}]), r"image 1\.jpg: a caption is a text .*got an object"),
        (karpathy(sentences=[{"raw": 3}]), r"image 1\.jpg: a caption is a text .*got an object"),
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


# Annotations as people have them


def images_of(*pairs: tuple[Any, str]) -> list[dict[str, Any]]:
    return [{"id": identifier, "file_name": name} for identifier, name in pairs]


def said(*pairs: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"image_id": identifier, "caption": caption} for identifier, caption in pairs]


@pytest.mark.parametrize(
    ("images", "annotations", "expected"),
    [
        ([(7, "a.jpg")], [("7", "x"), (7, "y"), (7.0, "z")], {"a": ("x", "y", "z")}),
        ([("7", "a.jpg"), ("8", "b.jpg")], [(7, "x"), (8, "y")], {"a": ("x",), "b": ("y",)}),
        ([(7, "a.jpg"), ("7", "a.jpg")], [(7, "x")], {"a": ("x",)}),
        ([(7, "a.jpg"), (7, "./a.jpg")], [(7, "x")], {"a": ("x",)}),
        ([(1, "a.jpg"), (2, "a.jpg")], [(1, "x"), (2, "y")], {"a": ("x", "y")}),
        ([(1, "a.jpg"), (2, "./a.jpg")], [(1, "x"), (2, "y")], {"a": ("x", "y")}),
        ([(1, "d/a.jpg"), (2, "d\\a.jpg")], [(1, "x"), (2, "y")], {"d_a": ("x", "y")}),
        ([(1, "a.jpg")], [(1, '["x", "y"]'), (1, ["z"])], {"a": ("x", "y", "z")}),
        ([(1, "a.jpg")], [(1, "x"), (1, "NaN"), (1, None), (1, " ")], {"a": ("x",)}),
    ],
)
def test_coco_joins_what_is_one_picture(tmp_path: Path, images: Any, annotations: Any, expected: Any) -> None:
    source: Any = open_source(
        "coco:" + write(tmp_path, {"images": images_of(*images), "annotations": said(*annotations)})
    )
    assert {key: source.captions(number) for number, key in enumerate(source.keys)} == expected


def test_a_link_to_a_picture_is_that_picture(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    values = {"images": images_of((1, "a.jpg"), (2, "b.jpg")), "annotations": said((1, "x"), (2, "y"))}
    source = open_source("coco:" + write(tmp_path, values))
    assert (len(source), source.captions(0)) == (1, ("x", "y"))


@pytest.mark.parametrize("names", [("a.jpg", "b.jpg"), ("x/a.jpg", "y/a.jpg")])
@pytest.mark.parametrize("other", [1, "1"])
def test_one_id_for_two_pictures_is_refused(tmp_path: Path, names: tuple[str, str], other: Any) -> None:
    values = {"images": images_of((1, names[0]), (other, names[1])), "annotations": said((1, "x"))}
    with pytest.raises(UserError, match="image id 1 is given twice") as caught:
        open_source("coco:" + write(tmp_path, values))
    assert all(repr(name) in str(caught.value) for name in names)


def test_what_coco_passes_over_is_counted(tmp_path: Path) -> None:
    values = {
        "images": images_of((1, "a.jpg"), (2, "b.jpg"), (3, "c.jpg"), (4, "d.jpg")),
        "annotations": said((1, "x"), (9, "cut"), (8, "cut"), (9, "cut"), (4, "null"), (1, "N/A")),
    }
    source = open_source("coco:" + write(tmp_path, values))
    assert len(source) == 1
    told = [(left.what, left.count, left.names) for left in source.left_out]
    assert told[1:] == [
        ("annotations passed over", 3, ("9", "8")),
        ("images without a caption passed over", 3, ("b.jpg", "c.jpg", "d.jpg")),
    ]
    assert told[0][0].startswith("empty captions")
    assert told[0][1] == 2


@pytest.mark.parametrize("kind", ["coco", "karpathy"])
@pytest.mark.parametrize("where", ["images/val2017", "elsewhere", "above"])
def test_pictures_that_are_elsewhere_are_found_with_the_line_to_type(tmp_path: Path, kind: str, where: str) -> None:
    """Below the folder, beside it, or right in the one above it."""
    for folder in ("images/val2017", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    name = "0.jpg"
    values: Any = {"images": [{"filename": name, "split": "val", "sentences": [{"raw": "x"}]}]}
    if kind == "coco":
        values = {"images": images_of((1, name)), "annotations": said((1, "x"))}
    file, given = tmp_path / "a.json", tmp_path / "images"
    file.write_text(json.dumps(values))
    ((tmp_path if where == "above" else tmp_path / where) / name).write_bytes(encode_picture())
    split = ",split=val" if kind == "karpathy" else ""
    with pytest.raises(UserError, match="none of the first 1 pictures is in") as caught:
        open_source(f"{kind}:{file},{given}{split}")
    line = str(caught.value).rpartition(": ")[2]
    assert line.startswith(f"{kind}:{file},")
    assert open_source(line)[0].image == encode_picture()


@pytest.mark.parametrize("folder", ["val2014", ""])
def test_karpathys_pictures_may_lie_flat(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "3.jpg").write_bytes(encode_picture(9))
    source = open_source("karpathy:" + write(tmp_path, karpathy(filepath="val2014")) + ",val")
    assert source[0].image == encode_picture(9)
    assert source.captions(0) == ("3.jpg text",)


def test_karpathys_samples_tell_their_split(tmp_path: Path) -> None:
    source = open_source("karpathy:" + write(tmp_path, karpathy()) + ",train+restval")
    assert [dict(source[number].metadata) for number in range(2)] == [{"split": "train"}, {"split": "restval"}]


def test_karpathy_joins_and_counts_as_coco_does(tmp_path: Path) -> None:
    def image(name: str, *texts: Any) -> dict[str, Any]:
        return {"filename": name, "split": "train", "sentences": [{"raw": text} for text in texts]}

    values = {"images": [image("a.jpg", "x", "nan"), image("./a.jpg", "y"), image("a.jpg", "z")]}
    source = open_source("karpathy:" + write(tmp_path, values))
    assert (len(source), source.captions(0)) == (1, ("x", "y", "z"))
    assert [left.count for left in source.left_out] == [1]
