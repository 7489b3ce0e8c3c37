from pathlib import Path
from typing import Any

import pytest

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.errors import UserError

TOKENS = "b.jpg#0\tfirst of b\na.jpg#0\tfirst of a\nb.jpg#1\tsecond of b\nc.jpg#0\tfirst of c\n"


def write(folder: Path, tokens: str = TOKENS) -> str:
    (folder / "tokens.txt").write_bytes(tokens.encode())
    for name in "abc":
        (folder / f"{name}.jpg").write_bytes(encode_picture())
    return f"flickr:{folder / 'tokens.txt'},{folder}"


def test_captions_are_grouped_in_the_order_of_the_file(tmp_path: Path) -> None:
    source: Any = open_source(write(tmp_path))
    assert dict(zip(source.keys, map(source.captions, range(3)), strict=True)) == {
        "b": ("first of b", "second of b"), "a": ("first of a",), "c": ("first of c",),
    }  # fmt: skip


@pytest.mark.parametrize("ending", ["\r\n", "\n\n", "\n"])
def test_line_endings_and_empty_lines_do_not_matter(tmp_path: Path, ending: str) -> None:
    source = open_source(write(tmp_path, TOKENS.replace("\n", ending)))
    assert [source.captions(number) for number in range(3)] == [
        ("first of b", "second of b"),
        ("first of a",),
        ("first of c",),
    ]


def test_a_tab_or_a_rare_line_break_in_a_caption_does_not_end_it(tmp_path: Path) -> None:
    source = open_source(write(tmp_path, "a.jpg#0\ta\tdog\u2028runs\x0cfast\n"))
    assert source.captions(0) == ("a dog runs fast",)


def test_a_split_list_chooses_images_with_and_without_their_ending(tmp_path: Path) -> None:
    spec = write(tmp_path)
    (tmp_path / "val.txt").write_text("c\n\nb.jpg \n")
    source: Any = open_source(f"{spec},split_file={tmp_path / 'val.txt'}")
    assert list(source.keys) == ["c", "b"]
    assert source.captions(1) == ("first of b", "second of b")
    assert source.name.endswith("#val")
    assert source.fingerprint() != open_source(spec).fingerprint()


def test_a_split_list_that_names_an_unknown_image_is_an_error(tmp_path: Path) -> None:
    spec = write(tmp_path)
    (tmp_path / "val.txt").write_text("b.jpg\nnone.jpg\n")
    with pytest.raises(UserError, match=r"val\.txt: names 'none\.jpg', which has no caption in .*tokens\.txt"):
        open_source(f"{spec},{tmp_path / 'val.txt'}")


def test_a_missing_split_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file or folder: none"):
        open_source(f"{write(tmp_path)},none/val.txt")


@pytest.mark.parametrize("line", ["b.jpg,a dog", "b.jpg\ta dog", "b.jpg#1 a dog"])
def test_a_line_in_another_form_is_named_with_the_form_wanted(tmp_path: Path, line: str) -> None:
    with pytest.raises(UserError) as caught:
        open_source(write(tmp_path, f"a.jpg#0\tfine\n{line}\n"))
    assert "tokens.txt: line 2: should be IMAGE.jpg#NUMBER<tab>CAPTION" in str(caught.value)
    assert repr(line) in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(UserError, match=r"tokens\.txt: no captions here"):
        open_source(write(tmp_path, content))


def test_an_empty_split_list_leaves_nothing(tmp_path: Path) -> None:
    spec = write(tmp_path)
    (tmp_path / "val.txt").write_text("\n")
    with pytest.raises(UserError, match="no captions here"):
        open_source(f"{spec},{tmp_path / 'val.txt'}")


@pytest.mark.parametrize(
    "table",
    [
        "image_name| comment_number| comment\nb.jpg| 0| Two dogs , running .\nb.jpg| 1| Dogs .\n",
        'image,caption\nb.jpg,"Two dogs , running ."\nb.jpg,Dogs .\n',
        'image_name,comment_number,comment\nb.jpg,0,"Two dogs , running ."\nb.jpg,1,Dogs .\n',
    ],
)
def test_a_table_is_told_with_the_line_that_reads_it(tmp_path: Path, table: str) -> None:
    with pytest.raises(UserError, match="line 1: a table with the columns image") as caught:
        open_source(write(tmp_path, table))
    line = str(caught.value).rpartition("write ")[2]
    source = open_source(line)
    assert (source[0].image, source.captions(0)) == (encode_picture(), ("Two dogs , running .", "Dogs ."))


def test_names_of_one_file_are_one_picture_and_empty_captions_are_counted(tmp_path: Path) -> None:
    source = open_source(write(tmp_path, "a.jpg#0\tx\n./a.jpg#1\ty\nb.jpg#0\tnull\n"))
    assert [source.captions(number) for number in range(len(source))] == [("x", "y"), ()]
    assert [left.count for left in source.left_out] == [1]


def test_pictures_that_are_in_a_folder_below_are_found_with_the_line_to_type(tmp_path: Path) -> None:
    spec = write(tmp_path)
    (tmp_path / "Images").mkdir()
    for name in "abc":
        (tmp_path / f"{name}.jpg").rename(tmp_path / "Images" / f"{name}.jpg")
    (tmp_path / "val.txt").write_text("c.jpg\n")
    with pytest.raises(UserError, match="They are in ") as caught:
        open_source(f"{spec},{tmp_path / 'val.txt'}")
    line = str(caught.value).rpartition(": ")[2]
    assert line == "flickr:" + f"{tmp_path}/tokens.txt,{tmp_path}/Images,{tmp_path}/val.txt"
    assert open_source(line).captions(0) == ("first of c",)
