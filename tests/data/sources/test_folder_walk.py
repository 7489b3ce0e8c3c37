"""What a folder's reader passes over is counted; what belongs to a picture is found; links are followed once."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from PIL import Image

from conftest import encode_picture
from pocketclip.data import Source, open_source
from pocketclip.data.captions import clean_captions, is_empty_word
from pocketclip.errors import BrokenItemError, UserError, pip_install
from pocketclip.preprocess import decode_image


def write(root: Path, **files: str | bytes) -> Path:
    """Files by name, `__` for a folder; a text of `picture` stands for one."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = encode_picture(sum(name.encode())) if content == "picture" else content
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def opened(root: Path, **settings: str) -> Source:
    return open_source({"kind": "folder", "dir": root, **settings})


def names(source: Source) -> list[str]:
    root = Path(os.path.commonpath([source.place(0), source.place(len(source) - 1)]))
    return [os.path.relpath(source.place(number), root) for number in range(len(source))]


def told(source: Source) -> str:
    return "\n".join(map(str, source.left_out))


@pytest.mark.parametrize(
    "suffix", ["jpg", "JPG", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "avif", "heic"]
)
def test_these_are_pictures(tmp_path: Path, suffix: str) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    image = Image.open(write(tmp_path / "x", **{"a.png": "picture"}) / "a.png").convert("RGB")
    kind = {"jpg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "tif": "TIFF", "heic": "HEIF"}.get(suffix.lower(), suffix)
    folder = tmp_path / "photos"
    folder.mkdir()
    image.save(folder / f"dog.{suffix}", kind)
    (folder / "dog.txt").write_text("a dog")
    source = opened(folder)
    assert source.captions(0) == ("a dog",)
    assert decode_image(source[0].image, place="x").size == image.size
    assert source.left_out == ()


@pytest.mark.parametrize(
    ("sidecar", "content"),
    [
        ("dog.txt", "a dog"),
        ("dog.TXT", "a dog"),
        ("dog.jpg.txt", "a dog"),
        ("dog.JSON", '{"caption": "a dog"}'),
        ("dog.jpg.json", '{"captions": ["a dog"]}'),
        ("dog.txt", "\ufeffa dog\r\n\r\nNaN\n"),
        ("dog.json", '{"captions": [{"raw": "a dog"}, null]}'),
    ],
)
def test_these_are_captions_of_a_picture(tmp_path: Path, sidecar: str, content: str) -> None:
    source = opened(write(tmp_path, **{"dog.jpg": "picture", sidecar: content}))
    assert source.captions(0) == ("a dog",)
    assert source.left_out == ()


def test_what_a_phone_exports_beside_a_picture_is_no_broken_caption(tmp_path: Path) -> None:
    source = opened(write(tmp_path, **{"dog.jpg": "picture", "dog.jpg.json": '{"title": "dog.jpg", "views": 3}'}))
    assert source.captions(0) == ()
    assert source[0].metadata == {"title": "dog.jpg", "views": 3}


def test_further_keys_beside_captions_are_metadata(tmp_path: Path) -> None:
    source = opened(write(tmp_path, **{"a.jpg": "picture", "a.json": '{"caption": "a", "split": "val", "id": 7}'}))
    assert source[0].metadata == {"split": "val", "id": 7}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip.mp4", "1 .mp4 files passed over: videos are no pictures (clip.mp4)"),
        ("raw.CR2", "1 .cr2 files passed over: save them as JPEG or PNG (raw.CR2)"),
        ("drawing.svg", "1 .svg files passed over: save them as JPEG or PNG"),
        ("notes.md", "1 .md files passed over (notes.md)"),
        ("cat.txt", "1 .txt files without a picture passed over (cat.txt)"),
        ("cat.json", "1 .json files without a picture passed over (cat.json)"),
        ("data.tar", "1 .tar files passed over: shards are read as webdataset:"),
        ("captions.txt", "1 files that may describe all pictures not read: if captions are in it, read csv:"),
        ("metadata.csv", "1 files that may describe all pictures not read: if captions are in it, read csv:"),
        ("metadata.jsonl", "1 files that may describe all pictures not read: if captions are in it, read jsonl:"),
        ("annotations.json", "1 files that may describe all pictures not read: if captions are in it, read coco:"),
        (".hidden.jpg", "1 hidden files or folders passed over (.hidden.jpg)"),
        ("._dog.jpg", "1 hidden files or folders passed over (._dog.jpg)"),
        (".ipynb_checkpoints/dog.jpg", "1 hidden files or folders passed over (.ipynb_checkpoints)"),
        ("__MACOSX/dog.jpg", "1 hidden files or folders passed over (__MACOSX)"),
        ("Thumbs.db", ""),
        (".DS_Store", ""),
        ("README", "1 nameless kinds of files passed over (README)"),
    ],
)
def test_what_is_passed_over_is_counted_by_kind(tmp_path: Path, name: str, expected: str) -> None:
    source = opened(write(tmp_path, **{"dog.jpg": "picture", name: "something"}))
    assert len(source) == 1
    assert told(source).startswith(expected)
    assert bool(expected) == bool(told(source))


def test_the_line_to_type_reads_the_table(tmp_path: Path) -> None:
    write(tmp_path, **{"a.jpg": "picture", "b.jpg": "picture", "metadata.csv": "image,caption\na.jpg,one\nb.jpg,two\n"})
    (left,) = opened(tmp_path).left_out
    source = open_source(left.cure.removeprefix("if captions are in it, read "))
    assert [source.captions(number) for number in range(2)] == [("one",), ("two",)]


def test_heic_without_its_reader_is_counted_with_the_line_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("folder_walk",):
        monkeypatch.setattr(f"pocketclip.data.sources.{module}.IMAGE_SUFFIXES", frozenset({".jpg"}))
    source = opened(write(tmp_path, **{"dog.jpg": "picture", "1.heic": "x", "2.HEIC": "x"}))
    assert told(source) == f"2 .heic files passed over: {pip_install('[heic]')} (1.heic, 2.HEIC)"


def test_two_files_of_captions_leave_one_out(tmp_path: Path) -> None:
    source = opened(write(tmp_path, **{"a.jpg": "picture", "a.json": '{"caption": "json"}', "a.txt": "text"}))
    assert source.captions(0) == ("json",)
    assert told(source) == "1 further files of captions of one picture passed over (a.txt)"


def test_links_are_followed_and_each_real_file_is_read_once(tmp_path: Path) -> None:
    inside = write(tmp_path / "photos", **{"real/a.jpg": "picture", "real/a.txt": "one"})
    outside = write(tmp_path / "elsewhere", **{"b.jpg": "picture", "b.txt": "two", "deep/c.jpg": "picture"})
    (inside / "again.jpg").symlink_to(inside / "real" / "a.jpg")
    (inside / "folder-again").symlink_to(inside / "real")
    (inside / "loop").symlink_to(inside)
    (inside / "up").symlink_to(tmp_path)
    (inside / "nowhere.jpg").symlink_to(tmp_path / "missing.jpg")
    (inside / "more").symlink_to(outside)
    (inside / "more-again").symlink_to(outside)
    (inside / "one.jpg").symlink_to(outside / "b.jpg")
    source = opened(inside)
    assert [os.path.relpath(source.place(number), inside) for number in range(len(source))] == [
        "more/b.jpg",
        "more/deep/c.jpg",
        "one.jpg",
        "real/a.jpg",
    ]
    assert [source.captions(number) for number in (0, 3)] == [("two",), ("one",)]
    assert "4 links to folders that are read already passed over (folder-again, loop, more-again, ...)" in told(source)
    assert "1 links to pictures that are read already passed over (again.jpg)" in told(source)
    assert "1 links that lead nowhere passed over (nowhere.jpg)" in told(source)


def test_hard_links_are_copies(tmp_path: Path) -> None:
    write(tmp_path, **{"a.jpg": "picture"})
    (tmp_path / "b.jpg").hardlink_to(tmp_path / "a.jpg")
    source = opened(tmp_path)
    assert source.picture_id(0) == source.picture_id(1)


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    write(tmp_path, **{"a.jpg": "picture"})
    assert told(opened(tmp_path)) == "1 pipes or devices passed over (pipe.jpg)"


def test_folders_of_systems_are_no_classes(tmp_path: Path) -> None:
    folders = ("cat", "dog", ".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git")
    source = opened(write(tmp_path, **{f"{name}/{name}.jpg": "picture" for name in folders}), classes="folders")
    assert source.class_names == ("cat", "dog")
    assert [source.label(number) for number in range(2)] == [0, 1]


def test_a_name_that_is_not_utf8_is_a_name(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    Path(os.fsdecode(folder)).mkdir()
    Path(os.fsdecode(folder + b"/p\xe8re.jpg")).write_bytes(encode_picture())
    Path(os.fsdecode(folder + b"/p\xe8re.txt")).write_text("a father")
    source = opened(tmp_path)
    assert source[0].captions == ("a father",)
    assert os.fsencode(source.place(0)) == folder + b"/p\xe8re.jpg"
    assert source.fingerprint()


def test_an_empty_folder_tells_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, **{"1.mp4": "x", "2.mp4": "x"})
    with pytest.raises(UserError, match=r"no pictures here .*\n  2 \.mp4 files passed over"):
        opened(tmp_path)


@pytest.mark.parametrize("letter", ["\x0c", "\x0b", "\u2028", "\u2029", "\x85", "\x1c"])
def test_only_a_line_feed_ends_a_caption(tmp_path: Path, letter: str) -> None:
    source = opened(write(tmp_path, **{"a.jpg": "picture", "a.txt": f"a dog{letter}in the snow\r\na cat"}))
    assert source.captions(0) == ("a dog in the snow", "a cat")


@pytest.mark.parametrize("content", ["a dog".encode("utf-16-le"), b"a\0dog"])
def test_text_that_is_not_utf8_breaks_its_item(tmp_path: Path, content: bytes) -> None:
    source = opened(write(tmp_path, **{"a.jpg": "picture", "a.txt": content, "b.jpg": "picture"}))
    with pytest.raises(BrokenItemError, match=r"a\.txt: .*UTF-"):
        source.captions(0)
    assert source.captions(1) == ()


@settings(
    deadline=None, derandomize=True, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=some.lists(some.text(some.characters(exclude_categories=["Cs"])), max_size=4))
def test_any_captions_come_back_clean_or_are_refused_by_name(tmp_path: Path, lines: list[str]) -> None:
    source = opened(write(tmp_path, **{"a.jpg": "picture", "a.txt": "\n".join(lines).encode()}))
    if any("\0" in line or line.lstrip().lstrip("\ufeff").startswith(("[", "{")) for line in lines):
        return  # refused by name, or a list that a line writes out: other tests
    read = source.captions(0)
    expected = [line for text in lines for line in text.removeprefix("\ufeff").split("\n")]
    assert list(read) == [text for text in clean_captions(expected) if not is_empty_word(text)]
