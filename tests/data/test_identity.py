"""Which pictures are the same, by their bytes, and how long that is remembered."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import encode_picture
from pocketclip.data import Source, open_source
from pocketclip.data.identity import UNREADABLE, caption_ids, first_equal, overlap, picture_ids, verify_content
from pocketclip.data.keys import content_id
from pocketclip.data.splits import hold_out
from pocketclip.files import cache_root

MakeFolder = Callable[..., Path]


def opened(folder: Path) -> Source:
    return open_source({"kind": "folder", "dir": folder})


def test_a_number_is_that_of_the_bytes(make_folder: MakeFolder) -> None:
    folder = make_folder(3)
    assert picture_ids(opened(folder)).tolist() == [content_id(encode_picture(number)) for number in range(3)]


def test_a_picture_that_cannot_be_read_is_the_same_as_no_other(make_folder: MakeFolder) -> None:
    folder = make_folder(4)
    source = opened(folder)
    for name in ("001.jpg", "003.jpg"):
        (folder / name).unlink()
    assert (picture_ids(source) == UNREADABLE).tolist() == [False, True, False, True]
    assert first_equal(picture_ids(source)).tolist() == [0, 1, 2, 3]


def test_equal_numbers_go_to_the_first() -> None:
    assert first_equal(np.array([7, 5, 7, UNREADABLE, 5, UNREADABLE, 9])).tolist() == [0, 1, 0, 3, 1, 5, 6]


def test_pictures_are_read_once_for_as_long_as_they_stay(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, reads = make_folder(5), []
    monkeypatch.setattr("pocketclip.data.sources.folder.content_id", lambda data: reads.append(1) or content_id(data))
    first = picture_ids(opened(folder))
    assert np.array_equal(picture_ids(opened(folder)), first)
    assert len(reads) == 5
    (folder / "002.jpg").write_bytes(encode_picture(9))
    changed = picture_ids(opened(folder))
    assert (changed != first).tolist() == [False, False, True, False, False]
    assert len(reads) == 10


def test_other_bytes_of_the_same_size_and_time_are_seen(make_folder: MakeFolder) -> None:
    folder = make_folder(3)
    before, first = opened(folder).fingerprint(), picture_ids(opened(folder))
    file, status = folder / "001.jpg", (folder / "001.jpg").stat()
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_mtime_ns == status.st_mtime_ns
    assert opened(folder).fingerprint() != before
    assert (picture_ids(opened(folder)) != first).tolist() == [False, True, False]


def test_verifying_trusts_no_time_of_a_file(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here even the second time stays, as on a disk that was changed behind the system's back."""
    folder = make_folder(3)
    monkeypatch.setattr("pocketclip.data.sources.folder.file_stamp", lambda path: [str(path)])
    first = opened(folder)
    verify_content(first)
    before, fingerprint = picture_ids(first), first.fingerprint()
    (folder / "001.jpg").write_bytes(encode_picture(9))
    again, trusting = opened(folder), opened(folder)
    verify_content(again)
    assert again.fingerprint() != fingerprint
    assert (picture_ids(again) != before).tolist() == [False, True, False]
    assert picture_ids(trusting).tolist() == picture_ids(again).tolist(), "what was read again is kept"


def test_without_a_cache_numbers_are_computed_again(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("POCKETCLIP_CACHE", str(tmp_path / "file"))
    assert len(np.unique(picture_ids(opened(make_folder(3))))) == 3


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"not an array"])
def test_a_damaged_cache_is_made_again(make_folder: MakeFolder, damage: bytes) -> None:
    source = opened(make_folder(3))
    ids = picture_ids(source)
    (kept,) = (cache_root() / "identity").glob("*.npy")
    kept.write_bytes(damage)
    assert np.array_equal(picture_ids(source), ids)


def test_captions_have_numbers_too(make_folder: MakeFolder) -> None:
    folder = make_folder(3)
    before = caption_ids(opened(folder))
    (folder / "001.txt").write_text("something else")
    assert (caption_ids(opened(folder)) != before).tolist() == [False, True, False]


def test_a_part_has_the_numbers_of_its_samples(make_folder: MakeFolder) -> None:
    source = opened(make_folder(8))
    rest, held = hold_out(source, 0.25)
    assert sorted([*picture_ids(rest), *picture_ids(held)]) == sorted(picture_ids(source))


def test_pictures_of_two_sources_are_compared(make_folder: MakeFolder) -> None:
    first, second = make_folder(4, name="first"), make_folder(6, name="second")
    for number in (0, 3):
        (second / f"{number:03d}.jpg").write_bytes(encode_picture(50 + number))
    shared = overlap(opened(first), opened(second))
    assert (shared.count, shared.of, shared.share) == (2, 4, 0.5)
    assert shared.examples[0] == (str(first / "001.jpg"), str(second / "001.jpg"))


def test_drawings_are_compared_without_being_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketclip.data.sources.scenes.draw_scene", lambda *args: pytest.fail("drawn"))
    ids = picture_ids(open_source("scenes:50"))
    assert len(np.unique(ids)) == 50
    assert picture_ids(open_source("scenes:40")).tolist() == ids[:40].tolist()
