import gzip
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conftest import encode_picture
from pocketclip.cli.main import app
from pocketclip.config import kinds_of
from pocketclip.curate.mix import MixConfig, parse_part
from pocketclip.data import SourceConfig, open_source, split_source_text
from pocketclip.data.written import split_text
from pocketclip.errors import UserError
from pocketclip.recipe import DataConfig

COCO = {"images": [{"id": 1, "file_name": "0.jpg"}], "annotations": [{"image_id": 1, "caption": "a dog"}]}
KARPATHY = {"images": [{"filename": "0.jpg", "split": "train", "sentences": [{"raw": "a dog"}]}]}
KARPATHY_SPEC = {"kind": "karpathy", "file": "karpathy.json", "images": "photos"}
NLVR2 = {"identifier": "dev-1-0-0", "sentence": "a", "label": "True"}
TEXTS = {
    "pairs.csv": "image,caption\nphotos/0.jpg,a dog\n",
    "PAIRS.TSV": "image\tcaption\nphotos/0.jpg\ta dog\n",
    "a,b.csv": "image,caption\n0.jpg,a dog\n",
    "pairs.jsonl": json.dumps({"image": "photos/0.jpg", "caption": "a dog"}),
    "lines.json": json.dumps({"image": "photos/0.jpg", "caption": "a dog"}),
    "captions.txt": "image,caption\nphotos/0.jpg,a dog\n",
    "coco.json": json.dumps(COCO),
    "karpathy.json": json.dumps(KARPATHY),
    "dev.json": json.dumps(NLVR2) + "\n" + json.dumps(NLVR2),
    "Flickr8k.token.txt": "0.jpg#0\ta dog\n",
    "list.json": json.dumps([{"image": "photos/0.jpg", "caption": "a dog"}]),
    "config.json": "{}",
    "cut.json": "{",
    "notes.txt": "nothing here",
    "photos.zip": "PK",
}
FOLDERS = (
    "photos",
    "photos, of 2024",
    "photos:2024",
    "rich[/x]",
    "a=b",
    "scenes",
    "coco",
    "home/mine",
    "data/flickr",
)


def shard(file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    with tarfile.open(file, "w") as archive:
        archive.add("photos/0.jpg", "0.jpg")
        archive.add("photos/0.txt", "0.txt")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with one picture in whatever a user may have."""
    import pyarrow.parquet

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("POCKETCLIP_DATA")
    for name in FOLDERS:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "0.jpg").write_bytes(encode_picture())
        (folder / "0.txt").write_text("a dog")
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text)
    for name in ("x.tar", "shards/s-00.tar", "shards/s-01.tar", "shards, two/s-00.tar", "home/y.tar"):
        shard(tmp_path / name)
    (tmp_path / "shards" / "classnames.txt").write_text("dog")
    (tmp_path / "tables").mkdir()
    rows = {"image": [{"bytes": encode_picture()}], "caption": ["a dog"]}
    for name in ("tables/p.parquet", "one.PARQUET"):
        pyarrow.parquet.write_table(pyarrow.table(rows), name)
    (tmp_path / "reinforced").mkdir()
    (tmp_path / "reinforced" / "reinforcement.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("photos", {"kind": "folder", "dir": "photos"}),
        ("photos/", {"kind": "folder", "dir": "photos/"}),
        ("./photos", {"kind": "folder", "dir": "./photos"}),
        ("flickr", {"kind": "folder", "dir": "flickr"}),  # below the data folder
        ("coco", {"kind": "folder", "dir": "coco"}),  # the kind alone opens nothing
        ("photos,classes=none", {"kind": "folder", "dir": "photos", "classes": "none"}),
        ("photos, of 2024", {"kind": "folder", "dir": "photos, of 2024"}),
        ("folder:photos, of 2024", {"kind": "folder", "dir": "photos, of 2024"}),
        ("folder:dir=photos, of 2024,classes=none", {"kind": "folder", "dir": "photos, of 2024", "classes": "none"}),
        ("photos:2024", {"kind": "folder", "dir": "photos:2024"}),
        ("rich[/x]", {"kind": "folder", "dir": "rich[/x]"}),
        ("a=b", {"kind": "folder", "dir": "a=b"}),
        ("folder:a=b", {"kind": "folder", "dir": "a=b"}),
        ("~/mine", {"kind": "folder", "dir": "~/mine"}),
        ("./scenes", {"kind": "folder", "dir": "./scenes"}),
        ("pairs.csv", {"kind": "csv", "file": "pairs.csv"}),
        ("pairs.csv,.,caption=caption", {"kind": "csv", "file": "pairs.csv", "images": ".", "caption": "caption"}),
        ("PAIRS.TSV", {"kind": "csv", "file": "PAIRS.TSV"}),
        ("captions.txt", {"kind": "csv", "file": "captions.txt"}),
        ("csv:a,b.csv,photos", {"kind": "csv", "file": "a,b.csv", "images": "photos"}),
        ("a,b.csv,photos, of 2024", {"kind": "csv", "file": "a,b.csv", "images": "photos, of 2024"}),
        ("pairs.jsonl", {"kind": "jsonl", "file": "pairs.jsonl"}),
        ("lines.json", {"kind": "jsonl", "file": "lines.json"}),
        ("one.PARQUET", {"kind": "parquet", "file": "one.PARQUET"}),
        ("tables", {"kind": "parquet", "file": "tables"}),
        ("tables/*.parquet", {"kind": "parquet", "file": "tables/*.parquet"}),
        ("x.tar", {"kind": "webdataset", "shards": "x.tar"}),
        ("~/y.tar", {"kind": "webdataset", "shards": "~/y.tar"}),
        ("shards", {"kind": "webdataset", "shards": "shards"}),
        ("shards/*.tar", {"kind": "webdataset", "shards": "shards/*.tar"}),
        ("shards, two/*.tar", {"kind": "webdataset", "shards": "shards, two/*.tar"}),
        ("shards/s-{00..01}.tar", {"kind": "webdataset", "shards": "shards/s-{00..01}.tar"}),
        ("shards/s-{00,01}.tar", {"kind": "webdataset", "shards": "shards/s-{00,01}.tar"}),
        ("x.tar::shards/s-00.tar", {"kind": "webdataset", "shards": "x.tar::shards/s-00.tar"}),
        ("coco.json,photos", {"kind": "coco", "file": "coco.json", "images": "photos"}),
        ("karpathy.json,photos,train", {**KARPATHY_SPEC, "split": "train"}),
        ("Flickr8k.token.txt,photos", {"kind": "flickr", "file": "Flickr8k.token.txt", "images": "photos"}),
    ],
)  # fmt: skip
def test_what_lies_at_a_place_tells_its_kind(here: Path, text: str, expected: dict[str, str]) -> None:
    assert split_source_text(text) == expected
    source = open_source(text)
    assert source[0].image == encode_picture()
    assert source.captions(0) == ("a dog",)
    assert open_source(expected).fingerprint() == source.fingerprint()


def test_a_folder_that_reinforce_wrote_is_reinforced_and_a_kind_that_opens_alone_is_no_folder(here: Path) -> None:
    assert split_source_text("reinforced") == {"kind": "reinforced", "folder": "reinforced"}
    assert split_source_text("./reinforced") == {"kind": "reinforced", "folder": "./reinforced"}
    assert split_source_text("scenes") == {"kind": "scenes"}


@pytest.mark.parametrize("name", ["pictures.csv.gz", "Pictures.JSONL", "x.TSV.GZ", "never/x-{000..009}.tar"])
def test_a_file_that_is_not_there_is_told_by_its_suffix_and_named(here: Path, name: str) -> None:
    with pytest.raises(UserError, match="No such file or folder") as caught:
        open_source(name)
    assert "POCKETCLIP_DATA" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "parts", "line"),
    [
        ("coco.json", ["COCO annotations"], "coco:coco.json,photos"),
        ("karpathy.json", ["Karpathy split"], "karpathy:karpathy.json,photos"),
        ("Flickr8k.token.txt", ["Flickr token file"], "flickr:Flickr8k.token.txt,photos"),
        ("photos/0.jpg", ["one picture"], "folder:photos"),
        ("photos/*.jpg", ["a pattern stands for .tar or .parquet"], "folder:photos"),
        ("dev.json", ["NLVR2", "nlvr2:dev.json,IMAGES_DIR"], None),
        ("list.json", ["a JSON list", "jq -c '.[]' 'list.json' > pairs.jsonl"], None),
        ("config.json", ["neither COCO captions"], None),
        ("cut.json", ["not valid JSON"], None),
        ("notes.txt", ["neither a table with a header", "'nothing here'"], None),
        ("photos.zip", ["unpack it"], None),
        ("nowhere/photos", ["No such file or folder: nowhere/photos", "data/nowhere/photos"], None),
        ("", ["Unknown kind of source ''"], None),
        ("photo", ["No such file or folder: photo", "Did you mean 'photos'?"], None),
        ("nope", ["No such file or folder: nope (looked at nope and "], None),
        ("scnes", ["Unknown kind of source 'scnes'. Did you mean 'scenes'?"], None),
        ("flder:photos", ["Did you mean 'folder'?"], None),
        ("C:\\photos", ["Unknown kind of source 'C'", "Nor is there a file or folder"], None),
        ("https://example.org/x.tar", ["wget https://example.org/x.tar"], None),
        ("photos,captoin=x", ["Unknown setting of folder 'captoin'"], None),
        ("photos,other", ["'other' is one place too many"], None),
        ("csv:pairs.csv,photos,photos", ["'photos' is one place too many"], None),
        ("folder:photos,dir=photos", ["'dir' is given twice"], None),
    ],
)
def test_what_is_not_certain_is_told_with_the_line_to_type(
    here: Path, text: str, parts: list[str], line: str | None
) -> None:
    with pytest.raises(UserError) as caught:
        open_source(text, place="--data")
    assert str(caught.value).startswith("--data: ")
    for part in parts:
        assert part in str(caught.value)
    if line is not None:
        assert line.replace(",photos", ",IMAGES_DIR") in str(caught.value)
        assert open_source(line).captions(0) == ("a dog",)


def recipe(text: str) -> Any:
    return DataConfig.parse({"train": text}, place="recipe.yaml").train.open()


def mixed(text: str) -> Any:
    config = MixConfig.parse({"parts": [{"source": parse_part(f"{text}@0.5").source}]}, place="mix")
    return open_source(config.parts[0].source)


@pytest.mark.parametrize("text", ["photos", "photos, of 2024", "pairs.csv", "shards/*.tar", "rich[/x]", "~/mine"])
@pytest.mark.parametrize("way", [open_source, recipe, mixed])
def test_a_plain_place_works_wherever_a_source_is_taken(here: Path, way: Callable[[str], Any], text: str) -> None:
    assert way(text).fingerprint() == open_source(text).fingerprint()


@pytest.mark.parametrize("text", ["photos", "photos, of 2024", "pairs.csv", "shards", "rich[/x]", "x.tar"])
def test_a_plain_place_works_on_the_command_line(here: Path, text: str) -> None:
    result = CliRunner().invoke(app, ["data", "inspect", text, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["num_captions"] >= 1


def test_a_recipe_keeps_what_was_written_as_a_mapping(here: Path) -> None:
    plain, spelled = (DataConfig.parse({"train": text}, place="x") for text in ("photos", "folder:photos"))
    assert plain.model_dump(mode="json")["train"] == {"kind": "folder", "dir": "photos", "classes": "none"}
    assert plain.fingerprint() == spelled.fingerprint()


def test_a_home_folder_is_found_in_a_mapping_too(here: Path) -> None:
    values = {"kind": "csv", "file": "a,b.csv", "images": "~/mine"}
    assert open_source(values)[0].image == encode_picture()
    assert open_source({"kind": "webdataset", "shards": "~/y.tar"}).captions(0) == ("a dog",)
    assert open_source("flickr:Flickr8k.token.txt,~/mine").captions(0) == ("a dog",)


def test_shards_beside_pictures_or_folders_are_passed_for_the_pictures(here: Path) -> None:
    shard(here / "photos" / "x.tar")
    assert split_source_text("photos")["kind"] == "folder"
    (here / "shards" / "below").mkdir()
    assert split_source_text("shards")["kind"] == "folder"


@pytest.mark.parametrize("name", ["pairs.csv", "PAIRS.TSV", "pairs.jsonl", "captions.txt", "coco.json"])
def test_a_packed_text_is_told_by_what_it_is(here: Path, name: str) -> None:
    Path(f"{name}.gz").write_bytes(gzip.compress(Path(name).read_bytes()))
    behind = ",photos" if name == "coco.json" else ""
    assert split_source_text(f"{name}.gz{behind}")["kind"] == split_source_text(f"{name}{behind}")["kind"]
    assert open_source(f"{name}.gz{behind}").captions(0) == ("a dog",)


def test_a_name_that_is_not_utf8_is_a_plain_place(here: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    (here / "photos").rename(here / name)
    assert split_text(name, kinds_of(SourceConfig)) == {"kind": "folder", "dir": name}
