import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from conftest import encode_picture
from pocketclip.config import kinds_of
from pocketclip.data import Source, SourceConfig, open_source, split_source_text
from pocketclip.errors import UserError

Pairs = dict[str, list[str]]
PAIRS: Pairs = {name: [f"{name} caption {number}" for number in range(3)] for name in ("b", "a", "c")}
"""Captions of each picture, in the order of the annotation files, which is not the alphabet's."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three pictures."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(PAIRS):
        (folder / f"{name}.jpg").write_bytes(encode_picture(number))
    return folder


def rows(pairs: Pairs) -> list[tuple[str, str]]:
    """One row a caption; the captions of an image are not next to each other."""
    return [(f"{name}.jpg", captions[number]) for number in range(3) for name, captions in pairs.items()]


def write_folder(images: Path, pairs: Pairs) -> str:
    for name, captions in pairs.items():
        (images / f"{name}.txt").write_text("\n".join(captions))
    return f"folder:{images}"


def write_csv(images: Path, pairs: Pairs) -> str:
    with (images / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows(pairs)])
    return f"csv:{images / 'pairs.csv'}"


def write_jsonl(images: Path, pairs: Pairs) -> str:
    lines = [json.dumps({"image": f"{name}.jpg", "captions": captions}) for name, captions in pairs.items()]
    (images / "pairs.jsonl").write_text("\n".join(lines))
    return f"jsonl:{images / 'pairs.jsonl'}"


def write_parquet(images: Path, pairs: Pairs) -> str:
    import pyarrow.parquet

    columns = [list(column) for column in zip(*rows(pairs), strict=True)]
    pyarrow.parquet.write_table(pyarrow.table(columns, names=["image", "caption"]), images / "pairs.parquet")
    return f"parquet:{images / 'pairs.parquet'}"


def write_coco(images: Path, pairs: Pairs) -> str:
    numbers = {f"{name}.jpg": number for number, name in enumerate(pairs, start=7)}
    values = {
        "images": [{"id": number, "file_name": name} for name, number in numbers.items()],
        "annotations": [{"image_id": numbers[name], "caption": caption} for name, caption in rows(pairs)],
    }
    (images / "coco.json").write_text(json.dumps(values))
    return f"coco:{images / 'coco.json'},{images}"


def write_karpathy(images: Path, pairs: Pairs) -> str:
    found = [
        {"filename": f"{name}.jpg", "split": "val", "sentences": [{"raw": text} for text in captions]}
        for name, captions in pairs.items()
    ]
    (images / "karpathy.json").write_text(json.dumps({"images": found}))
    return f"karpathy:{images / 'karpathy.json'},{images},split=val"


def write_flickr(images: Path, pairs: Pairs) -> str:
    lines = [f"{name}#{number // len(pairs)}\t{caption}" for number, (name, caption) in enumerate(rows(pairs))]
    (images / "tokens.txt").write_text("\n".join(lines))
    return f"flickr:{images / 'tokens.txt'},{images}"


def write_webdataset(images: Path, pairs: Pairs) -> str:
    with tarfile.open(images / "data-000000.tar", "w") as archive:
        for name, captions in pairs.items():
            archive.add(images / f"{name}.jpg", f"{name}.jpg")
            data = json.dumps({"captions": captions}).encode()
            info = tarfile.TarInfo(f"{name}.json")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return f"webdataset:{images}/data-{{000000..000000}}.tar"


WRITERS: dict[str, Callable[[Path, Pairs], str]] = {
    "folder": write_folder,
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
    "coco": write_coco,
    "karpathy": write_karpathy,
    "flickr": write_flickr,
    "webdataset": write_webdataset,
}


def content(source: Source) -> dict[str, tuple[bytes, tuple[str, ...]]]:
    return {source[number].key: (source[number].image, source[number].captions) for number in range(len(source))}


@pytest.mark.parametrize("kind", list(WRITERS))
def test_every_kind_groups_the_captions_of_each_image_in_order(images: Path, kind: str) -> None:
    source = open_source(WRITERS[kind](images, PAIRS))
    assert isinstance(source, Source)
    expected = {name: (encode_picture(number), tuple(PAIRS[name])) for number, name in enumerate(PAIRS)}
    assert content(source) == expected
    assert list(content(source)) == (sorted(PAIRS) if kind == "folder" else list(PAIRS))
    assert [source.captions(number) for number in range(3)] == [source[number].captions for number in range(3)]


@pytest.mark.parametrize("kind", list(WRITERS))
def test_opening_again_gives_the_same_fingerprint(images: Path, kind: str) -> None:
    spec = WRITERS[kind](images, PAIRS)
    assert open_source(spec).fingerprint() == open_source(spec).fingerprint()


@pytest.mark.parametrize("kind", list(WRITERS))
def test_another_caption_gives_another_fingerprint(images: Path, kind: str) -> None:
    before = open_source(WRITERS[kind](images, PAIRS)).fingerprint()
    changed = {**PAIRS, "c": ["c caption 0", "c caption 1", "another text"]}
    assert open_source(WRITERS[kind](images, changed)).fingerprint() != before


@pytest.mark.parametrize("kind", list(WRITERS))
def test_reading_beyond_the_end_is_an_index_error(images: Path, kind: str) -> None:
    source = open_source(WRITERS[kind](images, PAIRS))
    with pytest.raises(IndexError):
        source[len(source)]


@pytest.mark.parametrize("kind", list(WRITERS))
def test_a_source_of_one_pair_opens(images: Path, kind: str) -> None:
    for name in ("a", "c"):
        (images / f"{name}.jpg").unlink()
    source = open_source(WRITERS[kind](images, {"b": PAIRS["b"]}))
    assert len(source) == 1
    assert source[0].captions == tuple(PAIRS["b"])


def test_the_drawn_sources_open_by_their_name_alone() -> None:
    assert len(open_source("scenes")) == 1000
    assert len(open_source("openmoji")) > 1000


def test_every_kind_is_known() -> None:
    drawn, of_choices = (
        {"iconify", "openmoji", "pedestrians", "scene_pairs", "scenes"},
        {"aro", "sugarcrepe", "winogavil", "winoground"},
    )
    of_people = {"cuhk_pedes", "icfg_pedes", "rstp_reid", "person_table"}
    assert set(kinds_of(SourceConfig)) == {*WRITERS, *drawn, *of_choices, *of_people, "hub", "nlvr2", "reinforced"}


# What a source gives


def gifts(spec: str) -> tuple[frozenset[str], frozenset[str]]:
    """What the config of a source says it gives, and what the opened source says."""
    config: Any = TypeAdapter[Any](SourceConfig).validate_python(spec)
    return config.gives, config.open().gives


@pytest.mark.parametrize("kind", list(WRITERS))
def test_what_is_opened_gives_what_its_settings_promise(images: Path, kind: str) -> None:
    promised, given = gifts(WRITERS[kind](images, PAIRS))
    of_files = {"webdataset": {"classes", "identities"}, "folder": {"identities"}}
    assert promised == given == {"captions"} | of_files.get(kind, set())


@pytest.mark.parametrize(
    ("spec", "further"),
    [
        ("openmoji", set()),
        ("scenes:4", set()),
        ("scenes:4,classes=colour", {"classes"}),
        ("scene_pairs:8", {"pairs"}),
        ("pedestrians:2", {"identities"}),
    ],
)
def test_drawn_sources_give_what_their_settings_promise(spec: str, further: set[str]) -> None:
    assert gifts(spec) == ({"captions"} | further,) * 2


@pytest.mark.parametrize(("spec", "further"), [("scenes:4", set()), ("scenes:4,classes=size", {"classes"})])
def test_scenes_with_false_captions_give_choices_in_place_of_captions(spec: str, further: set[str]) -> None:
    assert gifts(f"{spec},texts=choices") == ({"choices"} | further,) * 2


def test_folders_of_classes_give_classes(images: Path) -> None:
    assert gifts(f"folder:{images.parent},classes=folders") == ({"captions", "classes", "identities"},) * 2


def test_every_kind_says_what_it_gives() -> None:
    assert all(hasattr(config, "gives") for config in kinds_of(SourceConfig).values())


# The text form


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("folder:photos", {"kind": "folder", "dir": "photos"}),
        ("scenes", {"kind": "scenes"}),
        ("scenes:", {"kind": "scenes"}),
        ("scenes:10,seed=1", {"kind": "scenes", "count": "10", "seed": "1"}),
        ("scenes:seed=1", {"kind": "scenes", "seed": "1"}),
        ("csv:a.csv,images,caption=text", {"kind": "csv", "file": "a.csv", "images": "images", "caption": "text"}),
        ("csv:a.csv,separator=tab", {"kind": "csv", "file": "a.csv", "separator": "tab"}),
        ("coco:file=a.json,images", {"kind": "coco", "file": "a.json", "images": "images"}),
        ("karpathy:a.json,images,val", {"kind": "karpathy", "file": "a.json", "images": "images", "split": "val"}),
        ("folder:runs/a=b/c", {"kind": "folder", "dir": "runs/a=b/c"}),  # not a setting: no name stands before the =
        ("webdataset:d/x-{000..002}.tar", {"kind": "webdataset", "shards": "d/x-{000..002}.tar"}),
        ("hub:owner/name,split=test", {"kind": "hub", "dataset": "owner/name", "split": "test"}),
    ],
)
def test_a_text_is_split_into_kind_places_and_settings(text: str, expected: dict[str, str]) -> None:
    assert split_source_text(text) == expected


@pytest.mark.parametrize("value", [{"kind": "folder", "dir": "photos"}, None, 3, ["folder"]])
def test_what_is_not_a_text_passes_unchanged(value: Any) -> None:
    assert split_source_text(value) is value


def test_a_mapping_and_a_text_open_the_same_source() -> None:
    first, second = open_source("scenes:5,seed=3"), open_source({"kind": "scenes", "count": 5, "seed": 3})
    assert first.fingerprint() == second.fingerprint()
    assert first.name == second.name == "scenes:5"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("flder:photos", ["Unknown kind of source 'flder'", "Did you mean 'folder'?", "webdataset"]),
        ("photos", ["No such file or folder: photos (looked at photos and "]),
        ("folders", ["Unknown kind of source 'folders'. Did you mean 'folder'?", "Known: ", "Nor is there a file"]),
        ("csv:a.csv,captoin=text", ["Unknown setting of csv 'captoin'", "Did you mean 'caption'?", "separator"]),
        ("folder:a,dir=b", ["'dir' is given twice"]),
        ("folder:a,b", ["'b' is one place too many", "folder takes dir"]),
        ("folder", ["dir: is required"]),
        ("scenes:many", ["count: ", "valid integer", "'many'"]),
        ("scenes:0", ["count: ", "greater than or equal to 1"]),
        ({"kind": "flder"}, ["flder", "'folder'"]),
        ({"kind": "scenes", "cuont": 3}, ["cuont: unknown key", "Did you mean 'count'?"]),
        ({"dir": "photos"}, ["kind"]),
        (3, ["3"]),
    ],
)
def test_a_wrong_spec_says_what_is_wrong_and_what_is_known(spec: Any, expected: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        open_source(spec, place="--data")
    assert str(caught.value).startswith("--data: ")
    for part in expected:
        assert part in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "csv", "jsonl", "parquet", "webdataset"])
def test_a_place_that_does_not_exist_is_named(kind: str) -> None:
    with pytest.raises(UserError, match=r"No such file or folder: nowhere/x .*POCKETCLIP_DATA"):
        open_source(f"{kind}:nowhere/x")


@pytest.mark.parametrize("kind", ["coco", "karpathy", "flickr"])
def test_annotations_that_do_not_exist_are_named(images: Path, kind: str) -> None:
    with pytest.raises(UserError, match="No such file or folder: nowhere/x"):
        open_source(f"{kind}:nowhere/x,{images}")


@pytest.mark.parametrize("kind", ["coco", "karpathy", "flickr"])
def test_an_image_folder_that_does_not_exist_is_named(images: Path, kind: str) -> None:
    spec = WRITERS[kind](images, PAIRS).replace(f",{images}", ",nowhere")
    with pytest.raises(UserError, match="No such file or folder: nowhere"):
        open_source(spec)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "coco", "karpathy", "flickr"])
def test_annotations_in_another_encoding_name_the_line(images: Path, kind: str) -> None:
    spec = WRITERS[kind](images, PAIRS)
    file = Path(spec.partition(":")[2].split(",")[0])
    file.write_bytes(file.read_bytes().replace(b"b caption 0", b"b c\xe4ption"))
    with pytest.raises(UserError, match=r"line \d+: not valid UTF-8 \(byte 0xe4\)") as caught:
        open_source(spec)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "coco", "karpathy", "flickr"])
@pytest.mark.parametrize("name", ["../b", "/etc/b"])
def test_a_file_name_that_leads_out_of_the_folder_is_refused(images: Path, kind: str, name: str) -> None:
    with pytest.raises(UserError, match="leads out of") as caught:
        open_source(WRITERS[kind](images, {name: PAIRS["b"]}))
    assert repr(f"{name}.jpg") in str(caught.value)
    assert "images=DIR" in str(caught.value)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "coco", "karpathy", "flickr"])
def test_a_picture_missing_from_disk_breaks_its_sample_only(images: Path, kind: str) -> None:
    source = open_source(WRITERS[kind](images, PAIRS))
    (images / "a.jpg").unlink()
    with pytest.raises(UserError, match=r"a\.jpg: cannot read the file \(No such file or directory\)"):
        source[1]
    assert source[0].key == "b"
    assert source[2].key == "c"
