import errno
import io
import json
import os
import pickle
import tarfile
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from conftest import encode_picture
from pocketclip.data import Sample, Source, open_source
from pocketclip.data import webdataset as webdataset_module
from pocketclip.data.webdataset import ShardProgress, WebdatasetSource, expand_shards, write_shards
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.preprocess import decode_image

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


def test_places_count_from_the_end_too_and_stop_there(write_tar: WriteTar) -> None:
    source = opened(write_tar("a.tar", [("../x.jpg", b"x"), *members([1, 2])]))
    assert (source[-1].key, source[-2].key) == ("0002", "0001")
    with pytest.raises(BrokenItemError, match="leads out of the archive"):
        source[-3]
    for index in (3, -4):
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
        ("cls", b"dog", "cannot read the captions or label"),
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
        ("{root}", "{root}: not a shard; give the .tar files"),
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
    with pytest.raises(UserError) as caught:
        open_source(f"webdataset:{shards.format(root=tmp_path)}")
    assert reason.format(root=tmp_path) in str(caught.value)


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


# Writing


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fill(folder: Path, names: Sequence[str]) -> Source:
    """Pictures of several formats with captions and odd names."""
    folder.mkdir()
    for number, name in enumerate(names):
        kind = ("JPEG", "PNG", "WEBP")[number % 3]
        (folder / f"{name}.img.{kind.lower()}").write_bytes(encode_picture(number, kind=kind))
        (folder / f"{name}.img.json").write_bytes(captions_json(f"grün {number} 狗", f"second {number}"))
    return open_source(f"folder:{folder}")


NAMES = ["plain", "with blank", "dots.in.it", "狗" * 40, "x" * 150 + "1", "x" * 150 + "2", "grün"]


def content(source: Source) -> list[tuple[bytes, tuple[str, ...], int | None]]:
    return [(sample.image, sample.captions, sample.label) for sample in readable(source)]


def test_what_we_write_our_reader_gives_back(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", NAMES)
    state = write_shards(source, tmp_path / "out", samples_per_shard=3)
    assert (state.num_shards, state.num_written, state.broken) == (3, len(NAMES), [])
    assert content(opened(f"{tmp_path}/out/data-{{000000..000002}}.tar")) == content(source)


def test_what_we_write_the_webdataset_library_reads_alike(tmp_path: Path) -> None:
    import webdataset

    source = fill(tmp_path / "in", NAMES)
    write_shards(source, tmp_path / "out", samples_per_shard=3)
    pattern = f"{tmp_path}/out/data-{{000000..000002}}.tar"
    theirs = list(webdataset.WebDataset(pattern, shardshuffle=False, empty_check=False))
    ours = readable(opened(pattern))
    assert len(theirs) == len(ours) == len(NAMES)
    for theirs_one, mine, original in zip(theirs, ours, readable(source), strict=True):
        (suffix,) = theirs_one.keys() & {"jpg", "png", "webp"}
        assert suffix == {b"\xff": "jpg", b"\x89": "png", b"R": "webp"}[original.image[:1]]
        assert theirs_one[suffix] == mine.image == original.image
        assert tuple(json.loads(theirs_one["json"])["captions"]) == mine.captions == original.captions
        assert theirs_one["__key__"] == mine.key


def test_labels_are_written_and_read_back(write_tar: WriteTar, tmp_path: Path) -> None:
    source = opened(write_tar("a.tar", [("a.jpg", encode_picture()), ("a.cls", b"7")]))
    write_shards(source, tmp_path / "out")
    assert opened(tmp_path / "out" / "data-000000.tar")[0].label == 7


def test_writing_what_was_read_gives_the_same_bytes(tmp_path: Path) -> None:
    write_shards(fill(tmp_path / "in", ["a", "b", "c"]), tmp_path / "one")
    write_shards(opened(tmp_path / "one" / "data-000000.tar"), tmp_path / "two")
    name = "data-000000.tar"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_broken_items_are_left_out_and_listed(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_folder(5)
    (folder / "001.jpg").write_bytes(b"not a picture")
    (folder / "003.json").write_text("{")
    (folder / "004.jpg").write_bytes(encode_picture(4, (200, 200))[:2000])

    def check(sample: Sample) -> None:
        decode_image(sample.image, place=sample.place)

    seen: list[list[str]] = []
    source = open_source(f"folder:{folder}")
    state = write_shards(source, tmp_path / "out", samples_per_shard=2, check=check, on_broken=seen.append)
    assert state.num_written == 2
    assert [Path(message.split(":")[0]).name for message in state.broken] == ["001.jpg", "003.json", "004.jpg"]
    assert [len(broken) for broken in seen] == [1, 2, 3]
    assert [sample.key for sample in readable(opened(f"{tmp_path}/out/data-*.tar"))] == ["000", "002"]


class StopError(Exception):
    pass


@pytest.mark.parametrize("stop_after", [2, 4, 6])
def test_a_stopped_conversion_goes_on_to_the_same_bytes(
    make_folder: Callable[..., Path], tmp_path: Path, stop_after: int
) -> None:
    folder = make_folder(7)
    (folder / "003.json").write_text("{")
    source = open_source(f"folder:{folder}")
    whole = write_shards(source, tmp_path / "whole", samples_per_shard=2)

    def stop(done: int) -> None:
        if done == stop_after:
            raise StopError

    with pytest.raises(StopError):
        write_shards(source, tmp_path / "parts", samples_per_shard=2, on_progress=stop)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("*.tar")}
    assert len(kept) == stop_after // 2
    assert write_shards(source, tmp_path / "parts", samples_per_shard=2) == whole
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")
    for name, time in kept.items():
        assert (tmp_path / "parts" / name).stat().st_mtime_ns == time  # not written again


def test_a_conversion_killed_between_a_shard_and_its_progress_goes_on(
    make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(f"folder:{make_folder(4)}")
    write_shards(source, tmp_path / "whole", samples_per_shard=2)
    write = webdataset_module.write_atomically

    def killed(path: Path, text: str) -> None:
        if ShardProgress.parse(json.loads(text), place="x").num_shards == 1:
            raise StopError
        write(path, text)

    monkeypatch.setattr(webdataset_module, "write_atomically", killed)
    with pytest.raises(StopError):
        write_shards(source, tmp_path / "parts", samples_per_shard=2)
    assert (tmp_path / "parts" / "data-000000.tar").is_file()
    monkeypatch.undo()
    write_shards(source, tmp_path / "parts", samples_per_shard=2)
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


def test_a_finished_conversion_is_left_alone(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    source = open_source(f"folder:{make_folder(4)}")
    first = write_shards(source, tmp_path / "out", samples_per_shard=2)
    progress: list[int] = []
    assert write_shards(source, tmp_path / "out", samples_per_shard=2, on_progress=progress.append) == first
    assert progress == []


def test_a_folder_with_shards_of_other_data_is_refused(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    write_shards(open_source(f"folder:{make_folder(4)}"), tmp_path / "out")
    before = files_of(tmp_path / "out")
    with pytest.raises(UserError, match=r"holds shards 'data' of other data; choose another --out or --name"):
        write_shards(open_source(f"folder:{make_folder(4, 1, 'other')}"), tmp_path / "out")
    assert files_of(tmp_path / "out") == before


def test_another_shard_size_is_refused(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    source = open_source(f"folder:{make_folder(4)}")
    write_shards(source, tmp_path / "out", samples_per_shard=2)
    with pytest.raises(UserError, match="of other data"):
        write_shards(source, tmp_path / "out", samples_per_shard=3)


def test_shards_of_someone_else_are_not_overwritten(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data-000000.tar").write_text("precious")
    with pytest.raises(UserError, match="that we did not write"):
        write_shards(open_source(f"folder:{make_folder(4)}"), tmp_path / "out")
    assert files_of(tmp_path / "out") == {"data-000000.tar": b"precious"}


def test_two_names_share_a_folder(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    for name, count in (("train", 4), ("val", 2)):
        write_shards(open_source(f"folder:{make_folder(count, 1, name)}"), tmp_path / "out", name=name)
    assert len(opened(tmp_path / "out" / "train-000000.tar")) == 4
    assert len(opened(tmp_path / "out" / "val-000000.tar")) == 2


def test_a_full_disk_keeps_the_finished_shards_and_no_part_of_the_next(
    make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(f"folder:{make_folder(6)}")
    write_shards(source, tmp_path / "whole", samples_per_shard=2)
    add = webdataset_module._add

    def full(archive: tarfile.TarFile, name: str, data: bytes) -> None:
        if name == "003.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        add(archive, name, data)

    monkeypatch.setattr(webdataset_module, "_add", full)
    with pytest.raises(UserError, match="No space left on device") as caught:
        write_shards(source, tmp_path / "out", samples_per_shard=2)
    assert str(tmp_path / "out" / "data-000001.tar") in str(caught.value)
    assert set(files_of(tmp_path / "out")) == {"data-000000.tar", "data.progress.json"}
    monkeypatch.undo()
    write_shards(source, tmp_path / "out", samples_per_shard=2)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_a_stop_inside_a_shard_leaves_no_part_of_it(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    def check(sample: Sample) -> None:
        if sample.key == "003":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(open_source(f"folder:{make_folder(6)}"), tmp_path / "out", samples_per_shard=2, check=check)
    assert set(files_of(tmp_path / "out")) == {"data-000000.tar", "data.progress.json"}


def test_a_file_in_place_of_the_folder_is_named(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(UserError, match=r"Cannot write .*out: File exists"):
        write_shards(open_source(f"folder:{make_folder(2)}"), tmp_path / "out")


def test_a_damaged_progress_file_is_named(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    source = open_source(f"folder:{make_folder(2)}")
    write_shards(source, tmp_path / "out")
    (tmp_path / "out" / "data.progress.json").write_text("{")
    with pytest.raises(UserError, match=r"data\.progress\.json: damaged .* choose another --out"):
        write_shards(source, tmp_path / "out")
