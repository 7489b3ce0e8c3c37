import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.data.source import Source
from pocketclip.data.sources import image_files as image_files_module
from pocketclip.data.sources.image_files import ImageFiles, file_stamp, locate, read_file, read_text
from pocketclip.errors import BrokenItemError, UserError

# locate


def test_a_place_that_exists_is_taken_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETCLIP_DATA", str(tmp_path / "elsewhere"))
    assert locate(tmp_path) == tmp_path


def test_a_relative_place_is_looked_for_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sets" / "flickr").mkdir(parents=True)
    monkeypatch.setenv("POCKETCLIP_DATA", str(tmp_path / "sets"))
    assert locate(Path("flickr")) == tmp_path / "sets" / "flickr"


def test_the_data_folder_is_data_when_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "flickr").mkdir(parents=True)
    monkeypatch.delenv("POCKETCLIP_DATA")
    monkeypatch.chdir(tmp_path)
    assert locate(Path("flickr")) == Path("data") / "flickr"


def test_the_current_folder_comes_before_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("here/flickr", "sets/flickr"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("POCKETCLIP_DATA", str(tmp_path / "sets"))
    assert locate(Path("flickr")) == Path("flickr")


def test_a_place_in_neither_folder_is_named_with_both_and_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETCLIP_DATA", str(tmp_path))
    with pytest.raises(UserError, match="No such file or folder: flickr") as caught:
        locate(Path("flickr"))
    assert str(tmp_path / "flickr") in str(caught.value)
    assert "POCKETCLIP_DATA" in str(caught.value)


def test_an_absolute_place_is_not_looked_for_below_the_data_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        locate(tmp_path / "none")
    assert f"(looked at {tmp_path / 'none'})" in str(caught.value)


# Files


def test_a_missing_picture_is_a_broken_item(tmp_path: Path) -> None:
    with pytest.raises(BrokenItemError, match="No such file") as caught:
        read_file(tmp_path / "none.jpg")
    assert str(caught.value).startswith(f"{tmp_path / 'none.jpg'}: ")


def test_a_folder_named_like_a_picture_is_a_broken_item(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(BrokenItemError, match="cannot read the file"):
        read_file(tmp_path / "a.jpg")


def test_a_file_over_the_size_limit_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(b"12345")
    monkeypatch.setattr(image_files_module, "MAX_FILE_BYTES", 5)
    assert read_file(tmp_path / "a.jpg") == b"12345"
    monkeypatch.setattr(image_files_module, "MAX_FILE_BYTES", 4)
    with pytest.raises(BrokenItemError, match=r"a\.jpg: 5 bytes are over the limit of 4"):
        read_file(tmp_path / "a.jpg")


def test_a_text_with_a_byte_order_mark_loses_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("image,caption".encode("utf-8-sig"))
    assert read_text(tmp_path / "a.csv") == "image,caption"


def test_invalid_utf8_names_the_line_and_the_byte(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"good\ngood\nb\xe4d\n")
    with pytest.raises(UserError, match=r"a\.csv: line 3: not valid UTF-8 \(byte 0xe4\)\. Save the file as UTF-8"):
        read_text(tmp_path / "a.csv")


def test_a_file_stamp_follows_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    before = file_stamp(path)
    assert file_stamp(path) == before
    os.utime(path, ns=(1, 1))
    touched = file_stamp(path)
    path.write_bytes(b"longer")
    os.utime(path, ns=(1, 1))
    assert len({str(stamp) for stamp in (before, touched, file_stamp(path), file_stamp(tmp_path / "none"))}) == 4


# ImageFiles


def test_image_files_give_bytes_and_clean_captions(tmp_path: Path, image_files: Callable[..., ImageFiles]) -> None:
    source = image_files(tmp_path, [(" one ", ""), ("two", "three")])
    assert isinstance(source, Source)
    assert source[0].image == encode_picture(0)
    assert source[0].captions == source.captions(0) == ("one",)
    assert source[1].captions == ("two", "three")
    assert source[1].place == str(tmp_path / "1.jpg")


def test_captions_are_there_where_the_picture_is_missing(
    tmp_path: Path, image_files: Callable[..., ImageFiles]
) -> None:
    source = image_files(tmp_path, [("one",), ("two",)])
    source.paths[0].unlink()
    assert source.captions(0) == ("one",)
    with pytest.raises(BrokenItemError, match="No such file"):
        source[0]
    assert source[1].captions == ("two",)


def test_a_fingerprint_holds_while_nothing_changes(tmp_path: Path, image_files: Callable[..., ImageFiles]) -> None:
    source = image_files(tmp_path, [("one",), ("two",)])
    assert source.fingerprint() == ImageFiles("other", source.paths, source.texts, source.keys).fingerprint()


@pytest.mark.parametrize("change", ["caption", "picture", "time", "missing", "order"])
def test_a_fingerprint_follows_every_change(
    tmp_path: Path, image_files: Callable[..., ImageFiles], change: str
) -> None:
    source = image_files(tmp_path, [("one",), ("two",)])
    before, texts, paths, keys = source.fingerprint(), list(source.texts), list(source.paths), list(source.keys)
    if change == "caption":
        texts[1] = ("new",)
    elif change == "picture":
        paths[1].write_bytes(encode_picture(9, (64, 64)))
    elif change == "time":
        os.utime(paths[1], ns=(1, 1))
    elif change == "missing":
        paths[1].unlink()
    else:
        texts, paths, keys = texts[::-1], paths[::-1], keys[::-1]
    assert ImageFiles("test", paths, texts, keys).fingerprint() != before


# What annotation files come down to


def annotated(root: Path, captions: dict[str, list[str]], **settings: Any) -> ImageFiles:
    return ImageFiles.annotated("test", root / "a.json", root, captions, written=("coco:a.json", ""), **settings)


@pytest.mark.parametrize(
    "names",
    [
        ("d/a.jpg", "./d/a.jpg"),
        ("d/a.jpg", "d//a.jpg"),
        ("d/a.jpg", "d\\a.jpg"),
        ("d\\a.jpg", "d/../d/a.jpg"),
        ("d/a.jpg", "link.jpg"),
        ("d/a.jpg", "linked/a.jpg"),
        ("b", "b.png"),
    ],
)
def test_names_that_lead_to_one_file_are_one_image(tmp_path: Path, names: tuple[str, str]) -> None:
    (tmp_path / "d").mkdir()
    for name in ("d/a.jpg", "b.png"):
        (tmp_path / name).write_bytes(encode_picture())
    (tmp_path / "link.jpg").symlink_to("d/a.jpg")
    (tmp_path / "linked").symlink_to("d")
    source = annotated(tmp_path, {names[0]: ["x"], names[1]: ["y", "z"]}, metadata={names[0]: {"split": "val"}})
    assert (len(source), source.captions(0)) == (1, ("x", "y", "z"))
    assert source[0].image == encode_picture()
    assert source[0].metadata == {"split": "val"}


def test_a_backslash_that_a_name_holds_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for number, name in enumerate(("d\\a.jpg", "d/a.jpg")):
        (tmp_path / name).write_bytes(encode_picture(number))
    source = annotated(tmp_path, {"d\\a.jpg": ["x"], "d/a.jpg": ["y"]})
    assert [source[number].image for number in range(2)] == [encode_picture(0), encode_picture(1)]


def test_one_of_the_first_twenty_pictures_has_to_be_there(tmp_path: Path) -> None:
    captions = {f"{number}.jpg": ["x"] for number in range(25)}
    (tmp_path / "20.jpg").write_bytes(encode_picture())
    with pytest.raises(UserError, match=r"none of the first 20 pictures is in .*: coco:a\.json,IMAGES_DIR"):
        annotated(tmp_path, captions)
    (tmp_path / "19.jpg").write_bytes(encode_picture())
    assert len(annotated(tmp_path, captions)) == 25


def test_the_folder_that_holds_the_most_of_them_is_named(tmp_path: Path) -> None:
    for folder, held in (("a", "0"), ("b", "012"), ("c", "01")):
        (tmp_path / folder).mkdir()
        for number in held:
            (tmp_path / folder / f"{number}.jpg").write_bytes(encode_picture())
    line = rf"coco:a\.json,{tmp_path}/b"
    with pytest.raises(UserError, match=f"They are in {tmp_path}/b: {line}$"):
        annotated(tmp_path, {f"{number}.jpg": ["x"] for number in range(3)})
    with pytest.raises(UserError, match=f"3 of them are in {tmp_path}/b: {line}$"):
        annotated(tmp_path, {f"{number}.jpg": ["x"] for number in range(4)})


def test_folders_that_hold_the_same_names_are_all_named(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0.jpg").touch()
    with pytest.raises(
        UserError, match=rf"They are in {tmp_path}/a \(and in {tmp_path}/b\): coco:a\.json,{tmp_path}/a$"
    ):
        annotated(tmp_path, {"0.jpg": ["x"]})


def test_more_than_twenty_names_tell_one_folder_from_another(tmp_path: Path) -> None:
    for folder, count in (("a", 21), ("b", 30)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            (tmp_path / folder / f"{number}.jpg").touch()
    with pytest.raises(UserError, match=rf"first 20 pictures .* '19\.jpg'\. They are in {tmp_path}/b: "):
        annotated(tmp_path, {f"{number}.jpg": ["x"] for number in range(30)})


def test_metadata_are_part_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encode_picture())
    parts = [annotated(tmp_path, {"a.jpg": ["x"]}, metadata={"a.jpg": {"split": split}}) for split in ("train", "val")]
    plain = annotated(tmp_path, {"a.jpg": ["x"]})
    assert plain[0].metadata == {}
    assert len({source.fingerprint() for source in (*parts, plain)}) == 3


@pytest.mark.parametrize("place", ["~/sets", "~"])
def test_a_home_folder_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "sets").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate(Path(place)) == Path(place).expanduser()
    with pytest.raises(UserError, match=f"looked at {tmp_path}/none"):
        locate(Path("~/none"))


@pytest.mark.parametrize("sign", ["/", "\\"])
def test_names_that_begin_with_the_folder_are_read_with_it_and_without(tmp_path: Path, sign: str) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(encode_picture(number))
    rows = "\n".join(f"photos{sign}{number}.jpg\tcaption {number}" for number in range(3))
    (tmp_path / "pairs.csv").write_text(f"filepath\ttitle\n{rows}\n")
    for spec in (f"csv:{tmp_path}/pairs.csv", f"csv:{tmp_path}/pairs.csv,{tmp_path}/photos"):
        source = open_source(spec)
        assert [source[number].captions for number in range(3)] == [(f"caption {number}",) for number in range(3)]


def test_one_file_by_two_names_is_one_picture(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jpg").write_bytes(encode_picture())
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "real" / "a.jpg")
    names = ["real/a.jpg", "./real/a.jpg", "linked/a.jpg", "b.jpg", f"{tmp_path}/real/../real/a.jpg"]
    (tmp_path / "x.csv").write_text(
        "image,caption\n" + "\n".join(f"{name},{number}" for number, name in enumerate(names))
    )
    source = open_source(f"csv:{tmp_path}/x.csv")
    assert len(source) == 1
    assert source.captions(0) == ("0", "1", "2", "3", "4")
