import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import re
import shutil
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from conftest import encode_picture
from pocketclip.data import Sample, Source, open_source
from pocketclip.data.sources import webdataset as webdataset_module
from pocketclip.data.sources.webdataset import WebdatasetSource, expand_shards
from pocketclip.errors import BrokenItemError, UserError

Members = list[tuple[str, bytes]]
WriteTar = Callable[..., Path]


def captions_json(*captions: str, **more: Any) -> bytes:
    return json.dumps({"captions": captions, **more}, ensure_ascii=False).encode()


def members(numbers: Sequence[int]) -> Members:
    """A picture and two captions for each number."""
    return [
        (f"{number:04d}.{suffix}", data)
        for number in numbers
        for suffix, data in (
            ("jpg", encode_picture(number)),
            ("json", captions_json(f"{number} one", f"{number} two")),
        )
    ]


def opened(path: Path | str) -> WebdatasetSource:
    source = open_source(f"webdataset:{path}")
    assert isinstance(source, WebdatasetSource)
    return source


def messages_of(source: Source) -> list[str]:
    """What is wrong with the broken items."""
    found = []
    for index in range(len(source)):
        try:
            source[index]
        except BrokenItemError as error:
            found.append(str(error))
    return found


def readable(source: Source) -> list[Sample]:
    found = []
    for index in range(len(source)):
        try:
            found.append(source[index])
        except BrokenItemError:
            continue
    return found


# What a sample may hold


@pytest.mark.parametrize(
    ("extra", "captions", "label"),
    [
        ([("a.json", captions_json("one", "two"))], ("one", "two"), None),
        ([("a.json", b'{"caption": "one"}')], ("one",), None),
        ([("a.txt", b"one\n two \n\nthree\n")], ("one", "two", "three"), None),
        ([("a.cls", b"3\n")], (), 3),
        ([("a.json", b'{"label": 3}')], (), 3),
        ([("a.json", captions_json("one", label=3))], ("one",), 3),
        ([("a.cls", b"4"), ("a.json", captions_json("one", label=3))], ("one",), 4),
        ([("a.txt", b"from text"), ("a.json", captions_json("from json"))], ("from json",), None),
        ([("a.JSON", captions_json("one"))], ("one",), None),
        ([("a.text", b"one")], ("one",), None),
        ([("a.caption", b"one\ntwo")], ("one", "two"), None),
        ([("a.txt", "one\u2028still one\x0cand so on\r\ntwo".encode())], ("one still one and so on", "two"), None),
        ([("a.txt", b"\xef\xbb\xbfone")], ("one",), None),
        ([("a.json", b'\xef\xbb\xbf{"caption": "one"}')], ("one",), None),
        ([("a.txt", b'["one", "two"]')], ("one", "two"), None),
        ([("a.json", b'{"captions": [{"raw": "one"}, "two"]}')], ("one", "two"), None),
        ([("a.json", b'{"captions": ["one", null, "NaN", "None", ""]}')], ("one",), None),
        ([("a.json", b'{"caption": null, "status": "failed_to_download"}')], (), None),
        ([("a.json", b'{"captions": [], "label": 3.0}')], (), 3),
        ([("a.txt", b"one"), ("a.json", b'{"width": 3}')], ("one",), None),
        ([("a.cls", b"4"), ("a.json", b'{"width": 3}')], (), 4),
        ([("a.mp3", b"x"), ("a.views.json", b"[1]")], (), None),
        ([], (), None),
        ([("a.txt", b"")], (), None),
    ],
)
def test_captions_and_labels_are_read_from_every_form(
    write_tar: WriteTar, extra: Members, captions: tuple[str, ...], label: int | None
) -> None:
    source = opened(write_tar("a.tar", [("a.jpg", encode_picture()), *extra]))
    assert (source[0].captions, source[0].label) == (captions, label)
    assert source.captions(0) == captions


def test_members_of_a_sample_may_come_in_any_order(write_tar: WriteTar) -> None:
    source = opened(write_tar("a.tar", [("a.txt", b"dog"), ("a.cls", b"1"), ("a.PNG", encode_picture(kind="PNG"))]))
    assert (source[0].image, source[0].captions, source[0].label) == (encode_picture(kind="PNG"), ("dog",), 1)


def test_samples_in_folders_of_one_name_are_different_samples(write_tar: WriteTar) -> None:
    found = [(f"{folder}/a.{suffix}", data) for folder in "xy" for suffix, data in (
        ("jpg", encode_picture(ord(folder))), ("txt", folder.encode()))]  # fmt: skip
    source = opened(write_tar("a.tar", found))
    assert [(sample.key, sample.captions) for sample in readable(source)] == [("x_a", ("x",)), ("y_a", ("y",))]


def test_one_key_in_two_shards_is_two_samples_with_keys_of_their_own(write_tar: WriteTar, tmp_path: Path) -> None:
    write_tar("0.tar", members([5]))
    write_tar("1.tar", members([5]))
    source = opened(f"{tmp_path}/{{0..1}}.tar")
    assert [sample.key for sample in readable(source)] == ["0005", "0005-2"]


def test_hidden_files_between_members_do_not_split_a_sample(write_tar: WriteTar) -> None:
    found = [("._a.jpg", b"x"), ("a.jpg", encode_picture()), ("._a.txt", b"x"), ("a.txt", b"dog"), (".DS_Store", b"x")]
    source = opened(write_tar("a.tar", found))  # as macOS packs them
    assert len(source) == 1
    assert source[0].captions == ("dog",)


def test_samples_without_a_picture_are_passed_over(write_tar: WriteTar) -> None:
    source = opened(write_tar("a.tar", [("a.txt", b"dog"), *members([1]), ("b.json", captions_json("cat"))]))
    assert [sample.key for sample in readable(source)] == ["0001"]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_are_read_from_every_form_of_tar(tmp_path: Path, format: int) -> None:
    key = f"{'folder/' * 14}{'k' * (90 if format == tarfile.USTAR_FORMAT else 150)}"
    with tarfile.open(tmp_path / "a.tar", "w", format=format) as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in [(f"{key}.jpg", encode_picture(1)), (f"{key}.txt", b"dog"), *members([2])]:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5  # a broken second needs a header of its own in PAX
            archive.addfile(info, io.BytesIO(data))
    first, second = readable(opened(tmp_path / "a.tar"))
    assert (first.image, first.captions) == (encode_picture(1), ("dog",))
    assert first.key == key.replace("/", "_")[:200]
    assert second.key == "0002"


# The index


def test_an_index_of_many_samples_takes_no_object_a_sample(write_tar: WriteTar) -> None:
    shard = write_tar(
        "a.tar", [(f"{number:04d}.{suffix}", b"x") for number in range(3000) for suffix in ("jpg", "txt")]
    )
    opened(shard)  # what a first use imports is not the index
    tracemalloc.start()
    source = opened(shard)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source) == 3000
    assert held / len(source) < 110  # 8 numbers, a key, where it ends, and room to grow


def test_places_count_from_zero_and_stop_at_the_end(write_tar: WriteTar) -> None:
    source = opened(write_tar("a.tar", [("../x.jpg", b"x"), *members([1, 2])]))
    assert (source[1].key, source[2].key) == ("0001", "0002")
    with pytest.raises(BrokenItemError, match="leads out of the archive"):
        source[0]
    for index in (3, -1):
        with pytest.raises(IndexError):
            source[index]


def test_broken_items_between_equal_keys_leave_the_numbering_alone(write_tar: WriteTar, tmp_path: Path) -> None:
    first = write_tar("0.tar", members([5, 6]))
    with tarfile.open(first) as archive:
        end = max(member.offset_data + member.size for member in archive)
    first.write_bytes(first.read_bytes()[:end])  # without its end mark
    write_tar("1.tar", [("../x.jpg", b"x"), *members([6, 5])])
    source = opened(f"{tmp_path}/{{0..1}}.tar")
    assert [sample.key for sample in readable(source)] == ["0005", "0006", "0006-2", "0005-2"]
    assert len(messages_of(source)) == 2
    assert sorted(source.broken) == [1, 3]  # the last sample of a shard is known only at its end


# Members of one key, wherever they stand


def lines_of(source: Source) -> list[str]:
    return [str(left) for left in source.left_out]


APART = [(f"{number}.jpg", encode_picture(number)) for number in range(3)]
TEXTS = [(f"{number}.txt", f"caption {number}".encode()) for number in (2, 0, 1)]
CLASSES = [(f"{number}.cls", b"%d" % number) for number in (1, 2, 0)]


@pytest.mark.parametrize(
    "found",
    [
        [*APART, *TEXTS, *CLASSES],
        [*TEXTS, *APART, *CLASSES],
        [*CLASSES, *TEXTS, *APART],
        [(f"./{name}", data) for name, data in [*APART, *TEXTS, *CLASSES]],
        [*APART[:2], *TEXTS, *APART[2:], *CLASSES, ("x.seg.png", b"x"), ("y.json", b"{}")],
    ],
)
def test_members_are_joined_wherever_they_stand(write_tar: WriteTar, found: Members) -> None:
    source = opened(write_tar("a.tar", found))
    told = {sample.key: (sample.image, sample.captions, sample.label) for sample in readable(source)}
    assert told == {str(n): (encode_picture(n), (f"caption {n}",), n) for n in range(3)}


DOTS = "a key ends at the first dot of a name, so these are no pictures or texts of their own; write _ for that dot"
PICTURE, MASK = encode_picture(1), encode_picture(2, kind="PNG")


@pytest.mark.parametrize(
    ("found", "keys", "left_out"),
    [
        ([("0.v2.jpg", PICTURE), ("0.v2.txt", b"x")], ["0_v2"], []),
        ([("0.v1.jpg", PICTURE), ("0.v2.jpg", PICTURE), ("0.v1.txt", b"x"), ("0.v2.cls", b"1")], ["0_v1", "0_v2"], []),
        ([("x.y/0.v2.JPG", PICTURE), ("x.y/0.v2.JSON", b'{"caption": "x"}')], ["x_y_0_v2"], []),
        ([("0.v2.jpg", PICTURE)], [], [f"1 members with a dot inside their key: {DOTS} (0.v2.jpg)"]),
        (
            [("0.v2.jpg", PICTURE), ("0.txt", b"x")],
            [],
            ["1 samples without a picture (0)", f"1 members with a dot inside their key: {DOTS} (0.v2.jpg)"],
        ),
        (
            [("0.jpg", PICTURE), ("0.v2.jpg", PICTURE), ("0.v2.txt", b"x")],
            ["0"],
            [f"2 members with a dot inside their key: {DOTS} (0.v2.jpg, 0.v2.txt)"],
        ),
        (
            [("0.seg.png", MASK), ("0.jpg", PICTURE), ("0.views.json", b"[]"), ("0.features.npy", b"x")],
            ["0"],
            [
                "1 .npy members passed over (0.features.npy)",
                f"2 members with a dot inside their key: {DOTS} (0.seg.png, 0.views.json)",
            ],
        ),
        ([("0.jpg", PICTURE), ("0.png", MASK)], ["0"], ["1 further pictures of a sample passed over (0.png)"]),
        (
            [("0.jpg", PICTURE), ("1.jpg", PICTURE), ("0.png", MASK), ("1.png", MASK)],
            ["0", "1"],
            ["2 further pictures of a sample passed over (0.png, 1.png)"],
        ),
        (
            [(".DS_Store", b"x"), ("._0.jpg", b"x"), ("__MACOSX/0.jpg", b"x"), (".git/1.jpg", b"x"), ("README", b"x")],
            [],
            [
                "4 hidden members passed over (.DS_Store, ._0.jpg, __MACOSX/0.jpg, ...)",
                "1 members without an ending passed over (README)",
            ],
        ),
        ([("0.mp4", b"x"), ("0.txt", b"x")], [], [
            "1 .mp4 members passed over (0.mp4)", "1 samples without a picture (0)"]),
    ],
)  # fmt: skip
def test_what_is_no_sample_is_counted_by_name(
    write_tar: WriteTar, found: Members, keys: list[str], left_out: list[str]
) -> None:
    source = opened(write_tar("a.tar", [("z.jpg", PICTURE), *found]))
    assert [sample.key for sample in readable(source)] == ["z", *keys]
    assert all(sample.image == PICTURE for sample in readable(source))
    assert lines_of(source) == left_out


def test_many_kinds_of_members_are_told_as_one(write_tar: WriteTar) -> None:
    found = [("a.jpg", PICTURE), *((f"photo.{number:04d}", b"x") for number in range(500))]
    source = opened(write_tar("a.tar", found))
    assert len(source.left_out) == 21
    assert lines_of(source)[-1] == "480 members of other kinds passed over (photo.0020, photo.0021, photo.0022, ...)"


def test_keys_repeated_in_a_shard_are_samples_of_their_own(write_tar: WriteTar) -> None:
    pictures = [encode_picture(number) for number in range(3)]
    found = [("a.jpg", pictures[0]), ("a.txt", b"zero"), ("a.jpg", pictures[1]), ("a.txt", b"one"),
             ("b.jpg", encode_picture(9)), ("a.jpg", pictures[2]), ("a.txt", b"two")]  # fmt: skip
    source = opened(write_tar("a.tar", found))
    told = {sample.key: (sample.image, sample.captions) for sample in readable(source) if sample.captions}
    assert told == {"a": (pictures[0], ("zero",)), "a-2": (pictures[1], ("one",)), "a-3": (pictures[2], ("two",))}
    assert lines_of(source) == [
        "1 keys repeated inside a shard: a key's members are joined only where no ending repeats; pack samples under "
        "keys of their own (a)"
    ]


def test_texts_of_pictures_that_share_a_key_go_to_neither(write_tar: WriteTar) -> None:
    found = [("a.jpg", encode_picture(1)), ("b.jpg", encode_picture(3)), ("a.jpg", encode_picture(2)), ("b.txt", b"b"),
             ("a.txt", b"whose?")]  # fmt: skip
    source = opened(write_tar("a.tar", found))
    assert {sample.key: sample.captions for sample in readable(source)} == {"a": (), "a-2": (), "b": ("b",)}
    assert lines_of(source)[1] == "1 samples without a picture (a)"


def test_links_are_the_members_that_they_name(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in [("x/1.jpg", encode_picture(1)), ("x/1.txt", b"one"), ("x/e", None)]:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(data or b""), tarfile.REGTYPE if data else tarfile.DIRTYPE
            archive.addfile(info, io.BytesIO(data or b""))
        for name, target, kind in [
            ("x/2.jpg", "x/1.jpg", tarfile.LNKTYPE),
            ("x/2.txt", "1.txt", tarfile.SYMTYPE),
            ("y/3.jpg", "../x/2.jpg", tarfile.SYMTYPE),
            ("x/4.jpg", "x/gone.jpg", tarfile.LNKTYPE),
            ("x/5.jpg", "5.jpg", tarfile.SYMTYPE),
            ("x/6.jpg", "/etc/hostname", tarfile.SYMTYPE),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    source = opened(tmp_path / "a.tar")
    told = {sample.key: (sample.image == encode_picture(1), sample.captions) for sample in readable(source)}
    assert told == {"x_1": (True, ("one",)), "x_2": (True, ("one",)), "y_3": (True, ())}
    assert lines_of(source) == [
        "3 links to nothing inside their shard passed over: pack with tar --dereference (x/4.jpg, x/5.jpg, x/6.jpg)"
    ]


@pytest.mark.parametrize(("pack", "named"), [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz")])
@pytest.mark.parametrize("name", ["a b.tar.gz", "a.tgz", "a.tar"])
def test_a_packed_shard_says_what_unpacks_it(
    write_tar: WriteTar, tmp_path: Path, pack: Callable[[bytes], bytes], named: str, name: str
) -> None:
    shard = write_tar("plain", members([1]))
    (tmp_path / name).write_bytes(pack(shard.read_bytes()))
    with pytest.raises(UserError, match=rf"is compressed \({named}\), and samples are read by their place") as caught:
        opened(tmp_path / name)
    line = str(caught.value).partition("Unpack it: ")[2]
    if shutil.which(line.split()[0]):
        subprocess.run(line, shell=True, check=True)
        (unpacked,) = [path for path in tmp_path.glob("*.tar") if path.name != name]
        assert [sample.key for sample in readable(opened(unpacked))] == ["0001"]


def test_a_zip_says_what_makes_a_shard_of_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.jpg", encode_picture(1))
        archive.writestr("1.txt", "dog")
    with pytest.raises(UserError, match=r"is compressed \(zip\)") as caught:
        opened(tmp_path / "a.zip")
    line = str(caught.value).partition("Unpack it: ")[2]
    if shutil.which("unzip"):
        subprocess.run(line, shell=True, check=True)
        assert [sample.captions for sample in readable(opened(tmp_path / "a.tar"))] == [("dog",)]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_that_are_not_utf_8_are_keys_of_their_own(tmp_path: Path, format: int) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=format) as archive:
        for number in (1, 2):
            for ending, data in (("jpg", encode_picture(number)), ("txt", b"%d" % number)):
                info = tarfile.TarInfo(f"caf{os.fsdecode(bytes([0xE8 + number]))}.{ending}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    source = opened(tmp_path / "a.tar")
    assert [(sample.key, sample.captions) for sample in readable(source)] == [("caf_", ("1",)), ("caf_-2", ("2",))]
    source.fingerprint()


def test_shards_put_one_behind_the_other_are_one(write_tar: WriteTar, tmp_path: Path) -> None:
    parts = [write_tar(f"{number}.tar", members([2 * number, 2 * number + 1])).read_bytes() for number in range(3)]
    (tmp_path / "all").write_bytes(b"".join(parts))
    source = opened(tmp_path / "all")
    assert [sample.key for sample in readable(source)] == [f"{number:04d}" for number in range(6)]
    assert [sample.image for sample in readable(source)] == [encode_picture(number) for number in range(6)]
    (tmp_path / "all").write_bytes(parts[0] + b"something else" * 100)
    (message,) = messages_of(opened(tmp_path / "all"))
    assert "the shard is cut off or damaged" in message


def test_a_folder_of_shards_a_home_and_joined_patterns(
    write_tar: WriteTar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set[1]").mkdir()
    for number in range(3):
        write_tar(f"set[1]/{number}.tar", members([number]))
    write_tar("set[1]/3.tar", [])
    monkeypatch.setenv("HOME", str(tmp_path))
    places = [tmp_path / "set[1]", "~/set[1]", "~/set[1]/*.tar", "~/set[1]/{0..1}.tar::~/set[1]/2.tar"]
    assert [len(opened(place)) for place in places] == [3, 3, 3, 3]
    assert len(open_source({"kind": "webdataset", "shards": "~/set[1]/{0,2}.tar"})) == 2
    assert lines_of(opened(places[0])) == ["1 shards without a sample (3.tar)"]


def test_other_keys_of_the_json_are_metadata(write_tar: WriteTar) -> None:
    told = {"captions": ["x"], "label": 1, "key": "000", "split": "val", "url": None, "exif": {"a": [1.5, "b"]}}
    source = opened(write_tar("a.tar", [("a.jpg", encode_picture()), ("a.json", json.dumps(told).encode())]))
    assert source[0].metadata == {"split": "val", "url": None, "exif": {"a": [1.5, "b"]}}


def test_an_index_of_members_that_stand_apart_is_as_small(write_tar: WriteTar) -> None:
    found = [(f"{number:04d}.{suffix}", b"x") for suffix in ("jpg", "txt") for number in range(3000)]
    shard = write_tar("a.tar", found)
    opened(shard)
    tracemalloc.start()
    source = opened(shard)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source) == 3000
    assert held / len(source) < 110


# Broken shards


@pytest.mark.parametrize(
    ("suffix", "content", "reason"),
    [
        ("txt", b"a d\xf6g", "the captions are not valid UTF-8"),
        ("json", b'{"captions": ["a d\xf6g"]}', "the captions are not valid UTF-8"),
        ("json", b"{", "cannot read the captions or label"),
        ("json", b"[" * 100_000, "cannot read the captions or label"),
        ("json", b'{"text": "dog"}', 'should hold {"captions"'),
        ("json", b'{"captions": [1]}', 'should hold {"captions"'),
        ("json", b'{"label": [3]}', "cannot read the captions or label"),
        ("json", b'{"label": "dog"}', "cannot read the captions or label"),
        ("json", b'{"label": Infinity}', "cannot read the captions or label"),
        ("json", b'{"label": 1.5}', "cannot read the captions or label (a label is a whole number (got 1.5))"),
        ("json", b'{"label": true}', "a label is a whole number (got True)"),
        ("json", b'{"label": 99999999999}', "a label is at most 2,147,483,647 (got 99999999999)"),
        ("json", b'{"captions": [["a"]]}', "a text or a list of texts (got a list"),
        ("json", b'{"width": 3}', 'should hold {"captions"'),
        ("json", b"[1]", 'should hold {"captions"'),
        ("txt", "dog".encode("utf-16"), "hold NUL bytes, as UTF-16 does; save them as UTF-8"),
        ("txt", "dog".encode("utf-16-le"), "hold NUL bytes, as UTF-16 does; save them as UTF-8"),
        ("cls", b"dog", "cannot read the captions or label"),
        ("cls", b"dog\n", "a whole number, counted from 0 over the lines of classnames.txt (got 'dog')"),
    ],
)
def test_unreadable_captions_break_their_sample_only(
    write_tar: WriteTar, suffix: str, content: bytes, reason: str
) -> None:
    shard = write_tar(
        "a.tar", [*members([1]), ("bad.jpg", encode_picture()), (f"bad.{suffix}", content), *members([2])]
    )
    source = opened(shard)
    (message,) = messages_of(source)
    assert message.startswith(f"{shard}: bad: ")
    assert reason in message
    assert [sample.key for sample in readable(source)] == ["0001", "0002"]


def test_a_shard_cut_in_the_middle_keeps_the_samples_before_the_cut(write_tar: WriteTar) -> None:
    shard = write_tar("a.tar", members(range(6)))
    whole = shard.read_bytes()
    with tarfile.open(shard) as archive:
        ends = [member.offset_data + member.size for member in archive]
        starts = [member.offset for member in archive]
    for cut in (*starts[2:], *(start + 300 for start in starts[2:]), *(end - 1 for end in ends[2:])):
        shard.write_bytes(whole[:cut])
        source = opened(shard)
        complete = sum(end <= cut for end in ends[1::2])
        found = [sample for sample in readable(source) if sample.captions]
        assert [sample.captions[0] for sample in found] == [f"{number} one" for number in range(complete)]
        (message,) = messages_of(source)
        assert f"{shard}: the shard is cut off or damaged" in message


def test_a_damaged_header_loses_what_follows_and_says_so(write_tar: WriteTar) -> None:
    shard = write_tar("a.tar", members(range(4)))
    with tarfile.open(shard) as archive:
        place = archive.getmember("0002.jpg").offset
    data = shard.read_bytes()
    shard.write_bytes(data[:place] + b"\xff" * 512 + data[place + 512 :])
    source = opened(shard)
    assert [sample.key for sample in readable(source)] == ["0000", "0001"]
    (message,) = messages_of(source)
    assert "samples after '0001' are lost" in message


def test_a_cut_shard_leaves_the_other_shards_whole(write_tar: WriteTar, tmp_path: Path) -> None:
    first = write_tar("0.tar", members(range(3)))
    write_tar("1.tar", members(range(3, 6)))
    first.write_bytes(first.read_bytes()[:1100])
    source = opened(f"{tmp_path}/{{0..1}}.tar")
    assert [sample.key for sample in readable(source)][-3:] == ["0003", "0004", "0005"]


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/../../evil"])
def test_a_member_that_leads_out_of_the_archive_is_left_out_and_named(write_tar: WriteTar, name: str) -> None:
    found = [*members([1]), (f"{name}.jpg", encode_picture()), *members([2])]
    shard = write_tar("a.tar", found)
    source = opened(shard)
    assert [sample.key for sample in readable(source)] == ["0001", "0002"]
    assert messages_of(source) == [f"{shard}: member '{name}.jpg' leads out of the archive; it was left out."]


def test_links_in_a_shard_are_never_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("evil.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
        for name, data in members([1]):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert [sample.key for sample in readable(opened(tmp_path / "a.tar"))] == ["0001"]


def test_a_member_over_the_size_limit_is_refused_unread(write_tar: WriteTar, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(write_tar("a.tar", members([1])))
    monkeypatch.setattr(webdataset_module, "MAX_FILE_BYTES", 100)
    with pytest.raises(BrokenItemError, match=r"a\.tar: a member of \d+ bytes is over the limit of 100"):
        source[0]


def test_a_shard_deleted_after_opening_breaks_its_samples(write_tar: WriteTar) -> None:
    shard = write_tar("a.tar", members([1]))
    source = opened(shard)
    shard.unlink()
    with pytest.raises(BrokenItemError, match=r"a\.tar: cannot read the shard \(No such file"):
        source[0]


# Opening


def test_a_range_keeps_its_leading_zeros(tmp_path: Path) -> None:
    for number in range(9, 12):
        (tmp_path / f"x-{number:03d}.tar").touch()
    assert [path.name for path in expand_shards(f"{tmp_path}/x-{{009..011}}.tar")] == [
        "x-009.tar",
        "x-010.tar",
        "x-011.tar",
    ]


def test_stars_match_shards_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar", "c.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in expand_shards(f"{tmp_path}/*.tar")] == ["a.tar", "b.tar"]


def test_two_ranges_are_all_their_pairs(tmp_path: Path) -> None:
    for name in ("0-0", "0-1", "1-0", "1-1"):
        (tmp_path / f"{name}.tar").touch()
    found = [path.stem for path in expand_shards(f"{tmp_path}/{{0..1}}-{{0..1}}.tar")]
    assert found == ["0-0", "0-1", "1-0", "1-1"]


@pytest.mark.parametrize("pattern", ["x/{0..1}.tar", "x/*.tar"])
def test_shards_are_found_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    (tmp_path / "x").mkdir()
    for name in ("0.tar", "1.tar"):
        (tmp_path / "x" / name).touch()
    monkeypatch.setenv("POCKETCLIP_DATA", str(tmp_path))
    assert expand_shards(pattern) == [tmp_path / "x" / "0.tar", tmp_path / "x" / "1.tar"]


@pytest.mark.parametrize(
    ("shards", "reason"),
    [
        ("{root}/{{0..2}}.tar", "No such file or folder: {root}/2.tar"),
        ("{root}/x*.tar", "x*.tar: no shard matches"),
        ("{root}/x*.tar", "In {root} there are 0.tar, 1.tar, captions.tar, ...: webdataset:{root}/*.tar reads all"),
        ("{root}/x.tar", "In {root} there are 0.tar, 1.tar, captions.tar, ...: webdataset:{root}/*.tar reads all"),
        ("{root}/folder", "{root}/folder: no .tar files in this folder; for pictures in a folder write folder:{root}"),
        ("{root}/splits", "splits: holds shards of several splits; write webdataset:{root}/splits/*train*.tar or "),
        ("{root}/{{2..1}}.tar", "{{2..1}}.tar: the range runs backwards; write {{1..2}}."),
        ("https://x.org/0.tar", "fetch them first, as with: wget https://x.org/0.tar"),
        ("{root}/text.tar", "text.tar: the shard is cut off or damaged"),
        ("{root}/empty.tar", "no pictures in 1 shard(s)"),
        ("{root}/captions.tar", "no pictures in 1 shard(s)"),
    ],
)
def test_shards_that_hold_nothing_say_why(write_tar: WriteTar, tmp_path: Path, shards: str, reason: str) -> None:
    write_tar("0.tar", members([0]))
    write_tar("1.tar", members([1]))
    write_tar("captions.tar", [("a.txt", b"dog")])
    (tmp_path / "text.tar").write_text("not an archive")
    (tmp_path / "empty.tar").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "splits").mkdir()
    for name in ("a-train-0.tar", "a-val-0.tar"):
        (tmp_path / "splits" / name).touch()
    with pytest.raises(UserError) as caught:
        open_source(f"webdataset:{shards.format(root=tmp_path)}")
    assert reason.format(root=tmp_path) in str(caught.value)


@pytest.mark.parametrize("place", ["", "/x-*.tar", "/train-{0..1}.tar"])
def test_what_an_error_says_to_write_is_read(write_tar: WriteTar, tmp_path: Path, place: str) -> None:
    (tmp_path / "set").mkdir()
    write_tar("set/train-0.tar", members([0]))
    write_tar("set/val-0.tar", members([1]))
    with pytest.raises(UserError) as caught:
        opened(f"{tmp_path}/set{place}")
    advised = re.findall(r"webdataset:(\S+\.tar)", str(caught.value))
    assert {len(opened(line)) for line in advised} == ({1} if not place else {2})


def test_a_shard_written_anew_is_read_anew(write_tar: WriteTar) -> None:
    shard = write_tar("a.tar", members([1]))
    before = opened(shard)
    assert before[0].key == "0001"
    write_tar("new.tar", members([2])).replace(shard)
    after = opened(shard)
    assert after[0].image == encode_picture(2)
    assert after.fingerprint() != before.fingerprint()


def test_the_fingerprint_follows_the_time_of_a_shard(write_tar: WriteTar) -> None:
    shard = write_tar("a.tar", members([1]))
    before = opened(shard).fingerprint()
    assert opened(shard).fingerprint() == before
    os.utime(shard, ns=(1, 1))
    assert opened(shard).fingerprint() != before


def test_many_shards_do_not_hold_many_files_open(write_tar: WriteTar, tmp_path: Path) -> None:
    for number in range(150):
        write_tar(f"{number}.tar", members([number]))
    source = opened(f"{tmp_path}/{{0..149}}.tar")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        assert [sample.key for sample in readable(source)] == [f"{number:04d}" for number in range(150)]
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 64


def test_threads_read_the_same_as_one_alone(write_tar: WriteTar, tmp_path: Path) -> None:
    for number in range(80):  # more than are kept open
        write_tar(f"{number}.tar", members([number]))
    source = opened(f"{tmp_path}/{{0..79}}.tar")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(source.__getitem__, list(range(80)) * 5))
    assert found == readable(source) * 5


def test_a_source_can_be_sent_to_another_process(write_tar: WriteTar) -> None:
    source = opened(write_tar("a.tar", members(range(3))))
    assert readable(pickle.loads(pickle.dumps(source))) == readable(source)


class Samples(Dataset[Sample]):
    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        return self.source[index]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 3 workers on fewer cores are meant
@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("sizes", [[7], [1, 5], [2, 0, 3, 1, 4]], ids=["1-shard", "2-shards", "5-shards"])
def test_any_shards_and_workers_give_every_sample_exactly_once(
    write_tar: WriteTar, tmp_path: Path, sizes: list[int], num_workers: int
) -> None:
    first = 0
    for number, size in enumerate(sizes):
        write_tar(f"{number}.tar", members(range(first, first + size)))
        first += size
    source = opened(f"{tmp_path}/{{0..{len(sizes) - 1}}}.tar")
    loader = DataLoader(Samples(source), batch_size=2, shuffle=True, num_workers=num_workers, collate_fn=list)
    found = sorted((sample for batch in loader for sample in batch), key=lambda sample: sample.key)
    assert [sample.key for sample in found] == [f"{number:04d}" for number in range(first)]
    for number, sample in enumerate(found):
        assert sample.image == encode_picture(number)
        assert sample.captions == (f"{number} one", f"{number} two")
