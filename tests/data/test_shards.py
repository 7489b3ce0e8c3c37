import errno
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from conftest import Told, encode_picture
from pocketclip.data import Sample, Source, open_source
from pocketclip.data import shards as shards_module
from pocketclip.data.shards import write_shards
from pocketclip.errors import UserError
from pocketclip.preprocess import decode_image
from pocketclip.stages.store import Block, BlockFolder


def opened(path: Path | str) -> Source:
    return open_source(f"webdataset:{path}")


def readable(source: Source) -> list[Sample]:
    return [source[index] for index in range(len(source))]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def fill(folder: Path, names: Sequence[str]) -> Source:
    """Pictures of several formats with captions and odd names."""
    folder.mkdir()
    for number, name in enumerate(names):
        kind = ("JPEG", "PNG", "WEBP")[number % 3]
        (folder / f"{name}.img.{kind.lower()}").write_bytes(encode_picture(number, kind=kind))
        (folder / f"{name}.img.json").write_bytes(
            json.dumps({"captions": [f"grün {number} 狗", f"second {number}"]}, ensure_ascii=False).encode()
        )
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


def test_labels_are_written_and_read_back(write_tar: Callable[..., Path], tmp_path: Path) -> None:
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

    named: list[str] = []
    seen: list[int] = []

    def tell(name: str, done: int, total: int, broken: Sequence[str]) -> None:
        named.extend(broken)
        seen.append(len(named))

    source = open_source(f"folder:{folder}")
    state = write_shards(source, tmp_path / "out", samples_per_shard=2, check=check, watch=Told(tell))
    assert state.num_written == 2
    assert [Path(message.split(":")[0]).name for message in state.broken] == ["001.jpg", "003.json", "004.jpg"]
    assert seen == [0, 1, 2, 3]
    assert named == state.broken
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

    def stop(name: str, done: int, total: int, broken: Sequence[str]) -> None:
        if done == stop_after:
            raise StopError

    with pytest.raises(StopError):
        write_shards(source, tmp_path / "parts", samples_per_shard=2, watch=Told(stop))
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("*.tar")}
    assert len(kept) == stop_after // 2
    assert write_shards(source, tmp_path / "parts", samples_per_shard=2) == whole
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")
    for name, time in kept.items():
        assert (tmp_path / "parts" / name).stat().st_mtime_ns == time  # not written again


def test_a_conversion_killed_between_a_shard_and_its_block_goes_on(
    make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(f"folder:{make_folder(4)}")
    write_shards(source, tmp_path / "whole", samples_per_shard=2)

    def killed(folder: BlockFolder, number: int, block: Block) -> None:
        raise StopError

    monkeypatch.setattr(BlockFolder, "write", killed)
    with pytest.raises(StopError):
        write_shards(source, tmp_path / "parts", samples_per_shard=2)
    assert (tmp_path / "parts" / "data-000000.tar").is_file()
    monkeypatch.undo()
    write_shards(source, tmp_path / "parts", samples_per_shard=2)
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


def test_a_conversion_killed_before_it_could_tidy_up_is_tidied_up(
    make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path, name: str) -> None:
        raise StopError

    source = open_source(f"folder:{make_folder(4)}")
    monkeypatch.setattr(shards_module, "clear_unfinished", killed)
    with pytest.raises(StopError):
        write_shards(source, tmp_path / "out", samples_per_shard=2)
    monkeypatch.undo()
    assert write_shards(source, tmp_path / "out", samples_per_shard=2).num_written == 4
    assert not (tmp_path / "out" / "data.blocks").exists()


def test_what_an_earlier_version_left_unfinished_goes_on_to_the_same_bytes(
    make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    source = open_source(f"folder:{make_folder(4)}")
    write_shards(source, tmp_path / "whole", samples_per_shard=2)
    write_shards(source, tmp_path / "out", samples_per_shard=2)
    told = tmp_path / "out" / "data.progress.json"
    told.write_text(json.dumps({**json.loads(told.read_text()), "num_shards": 1, "num_written": 2}))
    (tmp_path / "out" / "data-000001.tar").unlink()
    write_shards(source, tmp_path / "out", samples_per_shard=2)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_a_finished_conversion_is_left_alone(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    source = open_source(f"folder:{make_folder(4)}")
    first = write_shards(source, tmp_path / "out", samples_per_shard=2)
    progress: list[int] = []
    assert (
        write_shards(source, tmp_path / "out", samples_per_shard=2, watch=Told(lambda *told: progress.append(told[1])))
        == first
    )
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
    add = tarfile.TarFile.addfile

    def full(archive: tarfile.TarFile, member: tarfile.TarInfo, data: io.BytesIO) -> None:
        if member.name == "003.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        add(archive, member, data)

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
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
