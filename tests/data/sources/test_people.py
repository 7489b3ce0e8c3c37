"""CUHK-PEDES, ICFG-PEDES, RSTPReid and tables of one's own: splits, identities, and what is wrong in such files."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from conftest import encode_picture
from pocketclip.data import Source, open_source
from pocketclip.data.identities import read_identities
from pocketclip.errors import BrokenItemError, UserError

REAL = Path(os.environ.get("POCKETCLIP_DATA", "data"), "cuhk-pedes-annotations", "val_reid.json")
KINDS = ("cuhk_pedes", "icfg_pedes", "rstp_reid", "person_table")
ROWS: list[dict[str, Any]] = [
    {"id": 1, "image": "cam_a/1.png", "captions": ["a man in red", "he wears crimson"], "split": "train"},
    {"id": 1, "image": "cam_a/2.png", "captions": ["a man", "seen from behind"], "split": "train"},
    {"id": 2, "image": "cam_b/1.png", "captions": ["a woman, in a blue dress"], "split": "val"},
    {"id": 3, "image": "cam_b/2.png", "captions": ["a child", "with a bag"], "split": "test"},
]


def spec(kind: str, folder: Path, rows: list[dict[str, Any]], *, pictures: bool = True, **settings: str) -> str:
    """What opens some rows as one of the kinds, with a picture for each name."""
    for number, row in enumerate(rows):
        path = folder / "imgs" / row["image"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if pictures and not path.exists():
            path.write_bytes(encode_picture(number, (16, 32)))
    behind = "".join(f",{key}={value}" for key, value in settings.items())
    if kind == "person_table":
        lines = [f"{row['id']}\t{row['image']}\t{text}\t{row['split']}" for row in rows for text in row["captions"]]
        (folder / "t.tsv").write_text("\n".join(["person_id\timage\tcaption\tsplit", *lines]) + "\n")
        return f"person_table:{folder}/t.tsv,{folder}/imgs{behind}"
    name = "img_path" if kind == "rstp_reid" else "file_path"
    entries = [{**{key: value for key, value in row.items() if key != "image"}, name: row["image"]} for row in rows]
    (folder / "a.json").write_text(json.dumps(entries))
    return f"{kind}:{folder}/a.json,{folder}/imgs{behind}"


def changed(number: int, **values: Any) -> list[dict[str, Any]]:
    return [{**row, **values} if place == number else row for place, row in enumerate(ROWS)]


def told(source: Source) -> str:
    return "\n".join(map(str, source.left_out))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("split", "places"), [("train", [0, 1]), ("val", [2]), ("test", [3]), ("train+val", [0, 1, 2])]
)
def test_a_split_gives_its_pictures_captions_and_people(
    tmp_path: Path, kind: str, split: str, places: list[int]
) -> None:
    source = open_source(spec(kind, tmp_path, ROWS, split=split))
    samples = [source[index] for index in range(len(source))]
    assert [sample.captions for sample in samples] == [tuple(ROWS[place]["captions"]) for place in places]
    assert [sample.identity for sample in samples] == [str(ROWS[place]["id"]) for place in places]
    assert [sample.metadata["split"] for sample in samples] == [ROWS[place]["split"] for place in places]
    assert [sample.image for sample in samples] == [encode_picture(place, (16, 32)) for place in places]
    assert "identities" in source.gives
    assert not source.left_out


def test_a_table_without_a_split_is_read_whole(tmp_path: Path) -> None:
    text = spec("person_table", tmp_path, ROWS)
    assert len(open_source(text)) == 4
    (tmp_path / "t.tsv").write_text("who\tfile\tcaption_1\tcaption_2\nanna\tcam_a/1.png\ta\tb\n")
    source = open_source(f"{text},identity=who,image=file")
    assert (source.captions(0), source.identity(0), source.metadata(0)) == (("a", "b"), "anna", {})
    with pytest.raises(UserError, match="no column that looks like the split_column"):
        open_source(f"{text},image=file,split=train")


@pytest.mark.parametrize(
    ("file", "kind"),
    [("reid_raw.json", "cuhk_pedes"), ("ICFG-PEDES.json", "icfg_pedes"), ("data_captions.json", "rstp_reid")],
)
def test_the_file_alone_tells_its_kind(tmp_path: Path, file: str, kind: str) -> None:
    spec(kind, tmp_path, ROWS)
    (tmp_path / "a.json").rename(tmp_path / file)
    assert open_source(f"{tmp_path}/{file},{tmp_path}/imgs").name == f"{kind}:{tmp_path}/{file}#train"
    with pytest.raises(UserError, match=f"without the pictures; name their folder, too: {kind}:"):
        open_source(f"{tmp_path}/{file}")


# Bad input


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", ["train", "val"])
def test_an_identity_in_two_splits_is_refused(tmp_path: Path, kind: str, split: str) -> None:
    text = spec(kind, tmp_path, changed(3, id=1), split=split)
    line = r"identity 1 is in two splits, train \(cam_a/1\.png\) and test \(cam_b/2\.png\): whom a model is tested on"
    with pytest.raises(UserError, match=line):
        open_source(text)


def test_pictures_split_at_random_are_refused_even_where_all_are_shared(tmp_path: Path) -> None:
    rows = [
        {"id": who, "image": f"{split}/{who}.png", "captions": ["a"], "split": split}
        for who in range(150)
        for split in ("train", "test")
    ]
    rows.append({"id": 200, "image": "train/200.png", "captions": ["a"], "split": "train"})
    with pytest.raises(UserError, match=r"identity 0 is in two splits.*\(and 149 more\)"):
        open_source(spec("cuhk_pedes", tmp_path, rows))


def test_icfg_may_number_the_people_of_its_test_part_anew(tmp_path: Path) -> None:
    rows = [
        {"id": who, "image": f"{split}/{who:04d}/{who}.png", "captions": ["a"], "split": split}
        for split, count in (("train", 120), ("test", 100))
        for who in range(count)
    ]
    source = open_source(spec("icfg_pedes", tmp_path, rows, split="train+test"))
    assert len(read_identities(source).names) == 220
    assert "100 ids of the test part are others'" in told(source)
    shared = [{**row, "image": row["image"].replace("test/", "train/").replace(".png", "b.png")} for row in rows[120:]]
    with pytest.raises(UserError, match="identity 0 is in two splits"):
        open_source(spec("icfg_pedes", tmp_path, [*rows[:120], *shared]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_picture_is_told_and_breaks_its_sample_only(tmp_path: Path, kind: str) -> None:
    text = spec(kind, tmp_path, ROWS, split="train")
    (tmp_path / "imgs/cam_a/2.png").unlink()
    source = open_source(text)
    assert "1 pictures are named and missing" in told(source)
    assert "cam_a/2.png" in told(source)
    assert "identities" not in told(source)
    assert source[0].identity == "1"
    with pytest.raises(BrokenItemError, match=r"cam_a/2\.png: cannot read the file \(No such file"):
        source[1]


@pytest.mark.parametrize("kind", KINDS)
def test_an_identity_without_a_picture_is_told(tmp_path: Path, kind: str) -> None:
    text = spec(kind, tmp_path, changed(1, id=9), split="train")
    (tmp_path / "imgs/cam_a/2.png").unlink()
    assert "1 identities have no picture that is there, so nothing finds them (9)" in told(open_source(text))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", "   ", "nan"])
def test_a_caption_without_text_is_counted_and_its_place_named(tmp_path: Path, kind: str, text: str) -> None:
    source = open_source(spec(kind, tmp_path, changed(0, captions=["a man in red", text]), split="train"))
    assert source.captions(0) == ("a man in red",)
    assert "1 empty captions" in told(source)
    assert ("entry 1" if kind != "person_table" else "line 3") in told(source)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_wider_than_high_are_counted_and_stay(tmp_path: Path, kind: str) -> None:
    text = spec(kind, tmp_path, ROWS, split="train")
    (tmp_path / "imgs/cam_a/2.png").write_bytes(encode_picture(7, (40, 30)))
    source = open_source(text)
    assert len(source) == 2
    assert told(source).startswith("1 pictures are wider than high, and stay")
    assert told(source).count("\n") == 0
    assert "cam_a/2.png" in told(source)
    assert told(open_source(text)) == told(source)  # from what was kept of it


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"captions": ["a"], "file_path": "1.png", "split": "train"}], r"entry 1: not of cuhk_pedes.*look at id\)"),
        ([{"id": 1, "file_path": "1.png", "split": "train"}], r"look at captions\)"),
        ([{"id": 1, "captions": ["a"], "img_path": "1.png", "split": "train"}], r"look at file_path\)"),
        ([{"id": 1.5, "captions": ["a"], "file_path": "1.png", "split": "train"}], r"look at id\)"),
        ([{"id": " ", "captions": ["a"], "file_path": "1.png", "split": "train"}], "its 'id' is empty"),
        ([{"id": 1, "captions": ["a"], "file_path": 5, "split": "train"}], r"look at file_path\)"),
        ([{"id": 1, "captions": [5], "file_path": "1.png", "split": "train"}], "entry 1: a caption"),
        ([{"id": 1, "captions": ["a"], "file_path": "1.png", "split": "val"}], r"no split 'train'\. Splits: val"),
        ([], r"no split 'train'\. Splits: none"),
        (["x"], r"entry 1: not of cuhk_pedes"),
    ],
)
def test_what_is_no_such_file_is_named(tmp_path: Path, rows: list[Any], reason: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=reason):
        open_source(f"cuhk_pedes:{tmp_path}/a.json,{tmp_path}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_two_people_is_refused(tmp_path: Path, kind: str) -> None:
    text = spec(kind, tmp_path, changed(1, id=9, image="cam_a/1.png"), split="train")
    with pytest.raises(UserError, match=r"cam_a/1\.png shows '9' here and '1' above"):
        open_source(text)


def test_an_empty_cell_of_the_identity_is_named(tmp_path: Path) -> None:
    text = spec("person_table", tmp_path, changed(1, id=""))
    with pytest.raises(UserError, match=r"t\.tsv: line 4: column 'person_id' is empty"):
        open_source(text)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_elsewhere_are_found_and_the_line_opens_them(tmp_path: Path, kind: str) -> None:
    text = spec(kind, tmp_path, ROWS, split="test")
    with pytest.raises(UserError, match="none of the first") as caught:
        open_source(text.replace("/imgs,", ","))
    line = str(caught.value).partition("are in ")[2].partition(": ")[2]
    assert line == text
    assert len(open_source(line)) == 1


@pytest.mark.skipif(not REAL.exists(), reason="the annotations of CUHK-PEDES are not in POCKETCLIP_DATA")
def test_real_annotations_are_read(tmp_path: Path) -> None:
    entries = json.loads(REAL.read_text())
    (tmp_path / Path(entries[0]["file_path"]).parent).mkdir(parents=True)
    (tmp_path / entries[0]["file_path"]).write_bytes(encode_picture(0, (16, 32)))
    source = open_source(f"cuhk_pedes:{REAL},{tmp_path},split=val")
    people = read_identities(source)
    assert (len(source), sum(len(source.captions(index)) for index in range(len(source)))) == (2523, 5046)
    assert (len(people.names), people.names[0]) == (817, "11004")
    assert source.captions(0) == tuple(entries[0]["captions"])
    assert "2,522 pictures are named and missing" in told(source)
    assert "816 identities have no picture" in told(source)
