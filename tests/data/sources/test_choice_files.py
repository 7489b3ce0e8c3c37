"""Annotation files of true and false captions, as they are published, and what goes wrong with them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.data.source import Source
from pocketclip.errors import BrokenItemError, UserError


def pictures(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(encode_picture(number))
    return folder


def examples(source: Source) -> list[tuple[str, tuple[str, ...], str]]:
    """File, captions (the true one first) and kind of each example."""
    asked = source.choices
    assert asked is not None
    rows = zip(asked.samples, asked.firsts, asked.sizes, asked.kinds, strict=True)
    return [
        (Path(source.place(sample)).name, source.captions(sample)[first : first + size], asked.names[kind])
        for sample, first, size, kind in rows
    ]


def sugarcrepe(image: str, number: int) -> dict[str, Any]:
    return {"filename": image, "caption": f"true {number}", "negative_caption": f"false {number}"}


def write_sugarcrepe(root: Path) -> str:
    """Two of the seven files, with gaps between the ids, and one picture in both."""
    pictures(root / "val2017", "1.jpg", "2.jpg")
    (root / "sc").mkdir()
    parts = {
        "swap_obj": {"3": sugarcrepe("2.jpg", 3)},
        "add_att": {"0": sugarcrepe("1.jpg", 0), "7": sugarcrepe("2.jpg", 7)},
    }
    for name, values in parts.items():
        (root / "sc" / f"{name}.json").write_text(json.dumps(values))
    return f"sugarcrepe:{root / 'sc'},{root / 'val2017'}"


def test_sugarcrepes_files_are_one_source_with_each_picture_once(tmp_path: Path) -> None:
    source = open_source(write_sugarcrepe(tmp_path))
    assert len(source) == 2
    assert source.gives == {"choices"}
    assert examples(source) == [
        ("1.jpg", ("true 0", "false 0"), "add_att"),
        ("2.jpg", ("true 7", "false 7"), "add_att"),
        ("2.jpg", ("true 3", "false 3"), "swap_obj"),
    ]
    assert source[1].captions == source.captions(1) == ("true 7", "false 7", "true 3", "false 3")
    (left,) = source.left_out
    assert str(left).startswith("5 of SugarCrepe's files are not there (add_obj.json, ")


def test_one_of_sugarcrepes_files_alone(tmp_path: Path) -> None:
    write_sugarcrepe(tmp_path)
    source = open_source(f"{tmp_path / 'sc' / 'swap_obj.json'},{tmp_path / 'val2017'}")
    assert examples(source) == [("2.jpg", ("true 3", "false 3"), "swap_obj")]
    assert not source.left_out


def write_winoground(root: Path, num_examples: int = 2) -> str:
    pictures(root / "images", *(f"ex_{number}_img_{side}.png" for number in range(num_examples) for side in (0, 1)))
    sides = ((n, {f"image_{side}": f"ex_{n}_img_{side}" for side in (0, 1)}) for n in range(num_examples))
    lines = [{**images, "caption_0": f"words {n} 0", "caption_1": f"words {n} 1"} for n, images in sides]
    (root / "examples.jsonl").write_text("\n".join(json.dumps({"id": n, **line}) for n, line in enumerate(lines)))
    return f"winoground:{root / 'examples.jsonl'},{root / 'images'}"


@pytest.mark.parametrize("num_examples", [1, 3])
def test_winogrounds_pictures_share_their_captions(tmp_path: Path, num_examples: int) -> None:
    source = open_source(write_winoground(tmp_path, num_examples))
    assert source.choices is not None
    assert source.choices.twins
    expected = []
    for n in range(num_examples):
        first, second = f"words {n} 0", f"words {n} 1"
        expected += [(f"ex_{n}_img_0.png", (first, second), ""), (f"ex_{n}_img_1.png", (second, first), "")]
    assert examples(source) == expected


def aro(**changes: Any) -> dict[str, Any]:
    entry = {"image_path": "1.jpg", "true_caption": "dog on mat", "false_caption": "mat on dog", "relation_name": "on"}
    return {**entry, **changes}


def write_aro(root: Path, *entries: dict[str, Any]) -> str:
    pictures(root / "images", "1.jpg", "2.jpg")
    (root / "aro.json").write_text(json.dumps(entries))
    return f"aro:{root / 'aro.json'},{root / 'images'}"


def test_aros_parts_of_a_picture_are_pictures_of_their_own(tmp_path: Path) -> None:
    boxes = [(0, 0, 5, 4), (2, 1, 3, 3), (0, 0, 5, 4)]
    entries = [aro(**dict(zip(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), box, strict=True))) for box in boxes]
    source = open_source(write_aro(tmp_path, *entries, aro(image_path="2.jpg", attributes=["white", "old"])))
    assert source.choices is not None
    assert source.choices.samples.tolist() == [0, 1, 0, 2]
    assert len({source[index].key for index in range(3)}) == 3
    assert len({source.picture_id(index) for index in range(3)}) == 3
    whole = np.asarray(Image.open(tmp_path / "images" / "1.jpg").convert("RGB"))
    cut = np.asarray(Image.open(io.BytesIO(source[1].image)))
    assert (cut == whole[1:4, 2:5]).all()
    assert source[2].image == (tmp_path / "images" / "2.jpg").read_bytes()


@pytest.mark.parametrize(
    ("change", "kind"),
    [({}, "on"), ({"attributes": ["white", "old"], "relation_name": None}, "white_old")],
)
def test_aros_kinds_are_relations_or_two_attributes(tmp_path: Path, change: dict[str, Any], kind: str) -> None:
    entry = {key: value for key, value in aro(**change).items() if value is not None}
    assert [found for _, _, found in examples(open_source(write_aro(tmp_path, entry)))] == [kind]


def test_captions_are_shuffled_within_threes_of_words_and_threes_among_each_other(tmp_path: Path) -> None:
    caption = "A man, riding; a Horse (slowly) over the hill."
    source = open_source(write_aro(tmp_path, {"image": "1.jpg", "caption": [caption, "one", "Two dogs."]}))
    (_, (true, within, among), kind), (_, two, _) = examples(source)
    assert (true, kind, two) == ("a man, riding a horse slowly over the hill", "order", ("two dogs", "dogs two"))
    threes = [true.split()[first : first + 3] for first in (0, 3, 6)]
    assert [sorted(within.split()[first : first + 3]) for first in (0, 3, 6)] == [sorted(three) for three in threes]
    moved = [among.split()[first : first + 3] for first in (0, 3, 6)]
    assert within != true != among
    assert sorted(moved) == sorted(threes)
    assert [str(left) for left in source.left_out] == ["1 captions passed over, whose words have no other order"]


def test_the_seed_changes_the_shuffles_and_nothing_else_does(tmp_path: Path) -> None:
    spec = write_aro(tmp_path, {"image": "1.jpg", "caption": "one two three four five six seven eight nine"})
    first, same, other = open_source(spec), open_source(spec), open_source(f"{spec},seed=1")
    assert examples(first) == examples(same) != examples(other)
    assert first.fingerprint() == same.fingerprint() != other.fingerprint()


def test_a_false_caption_that_is_true_is_counted(tmp_path: Path) -> None:
    source = open_source(write_aro(tmp_path, aro(false_caption=" dog on  mat")))
    assert [str(left) for left in source.left_out] == [
        "1 examples with a false caption that is the true one count as wrong"
    ]


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([aro(false_caption=None)], "aro.json: entry 1: needs a text for 'false_caption', as in {"),
        ([aro(), {"image": "1.jpg"}], "entry 2: needs a text for 'image_path', 'true_caption', 'false_caption'"),
        ([aro(true_caption="  ")], "entry 1: needs a text for 'true_caption'"),
        ([3], "entry 1: needs a text for"),
        ([aro(bbox_x=1)], "entry 1: needs numbers for bbox_x, bbox_y, bbox_w, bbox_h"),
        ([{"image": "1.jpg", "caption": 3}], "entry 1: 'caption' should be a text or a list"),
        ([{"caption": "a b"}], "entry 1: needs a text for 'image'"),
        ([aro(image_path="../1.jpg")], "leads out of"),
        ([aro(image_path="9.jpg")], "none of the first 1 pictures is in"),
        ([], "no examples here"),
    ],
)
def test_what_is_no_example_is_one_clear_line(tmp_path: Path, entries: list[Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        open_source(write_aro(tmp_path, *entries))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "entry"), [("sugarcrepe", sugarcrepe("1.jpg", 0)), ("winoground", {"image_0": "1"})])
def test_other_keys_are_told_with_the_place(tmp_path: Path, kind: str, entry: dict[str, Any]) -> None:
    entry.pop("caption", None)
    file = tmp_path / "swap_att.json"
    file.write_text(json.dumps({"12": entry}))
    with pytest.raises(UserError, match=r"swap_att.json: id 12: needs a text for '"):
        open_source(f"{kind}:{file},{pictures(tmp_path / 'images', '1.jpg')}")


def test_a_folder_without_the_files_names_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds none of SugarCrepe's files .add_att.json, .*sugarcrepe:FOLDER,"):
        open_source(f"sugarcrepe:{pictures(tmp_path / 'images', '1.jpg')},{tmp_path}")


def test_lines_that_are_no_json_are_told_by_number(tmp_path: Path) -> None:
    spec = write_winoground(tmp_path)
    file = tmp_path / "examples.jsonl"
    file.write_text(f"{file.read_text()}\n{{oops")
    with pytest.raises(UserError, match=r"examples.jsonl: line 3: not valid JSON"):
        open_source(spec)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[{"image_path": "1.jpg"},\n {"image', "aro.json: not valid JSON (Unterminated string starting at: line 2"),
        ("[" * 100_000, "aro.json: not valid JSON (maximum recursion depth"),
        ("{}", "aro.json: no examples here"),
        ("", "aro.json: not valid JSON"),
        ("null", "aro.json: entry 1: needs a text for"),
    ],
    ids=["cut", "deep", "empty", "nothing", "null"],
)
def test_a_file_that_is_no_json_is_one_clear_line(tmp_path: Path, text: str, told: str) -> None:
    spec = write_aro(tmp_path, aro())
    (tmp_path / "aro.json").write_text(text)
    with pytest.raises(UserError) as caught:
        open_source(spec)
    assert told in str(caught.value)


def test_a_missing_picture_and_a_box_beside_it_are_broken_items(tmp_path: Path) -> None:
    source = open_source(
        write_aro(tmp_path, aro(), aro(image_path="9.jpg"), aro(bbox_x=900, bbox_y=0, bbox_w=5, bbox_h=5))
    )
    assert source.choices is not None
    assert source[0].captions == ("dog on mat", "mat on dog")
    broken = [index for index in range(3) if index != source.choices.samples[0]]
    for index in broken:
        with pytest.raises(BrokenItemError, match=r"(9.jpg: cannot read the file|holds nothing of the)"):
            source[index]


@pytest.mark.parametrize(
    ("kind", "place"),
    [("sugarcrepe", "sc"), ("sugarcrepe", "sc/add_att.json"), ("winoground", "examples.jsonl"), ("aro", "aro.json")],
)
def test_what_lies_there_tells_the_kind_and_asks_for_the_pictures(tmp_path: Path, kind: str, place: str) -> None:
    specs = [write_sugarcrepe(tmp_path), write_winoground(tmp_path), write_aro(tmp_path, aro())]
    images = {spec.partition(":")[0]: spec.partition(",")[2] for spec in specs}[kind]
    with pytest.raises(UserError, match=f"{kind}:{tmp_path / place},IMAGES_DIR"):
        open_source(str(tmp_path / place))
    told = open_source(f"{tmp_path / place},{images}")
    assert told.fingerprint() == open_source(f"{kind}:{tmp_path / place},{images}").fingerprint()


def test_other_captions_or_pictures_are_other_data(tmp_path: Path) -> None:
    first = open_source(write_aro(tmp_path, aro())).fingerprint()
    assert open_source(write_aro(tmp_path, aro(false_caption="cat on dog"))).fingerprint() != first
    assert open_source(write_aro(tmp_path, aro(bbox_x=0, bbox_y=0, bbox_w=3, bbox_h=3))).fingerprint() != first
    assert open_source(write_aro(tmp_path, aro(relation_name="under"))).fingerprint() != first
