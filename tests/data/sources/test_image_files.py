import os
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import encode_picture
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
