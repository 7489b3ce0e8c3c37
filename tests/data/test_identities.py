"""Who pictures show, from shards, folders and tables, through parts, conversion and held-out pictures."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import encode_picture
from pocketclip.data import Source, hold_out, open_source
from pocketclip.data.identities import NO_IDENTITY, find_identities, read_identities
from pocketclip.data.identity import content_fingerprint
from pocketclip.data.shards import add_sample, new_shard, write_shards
from pocketclip.data.source import Sample, Subset
from pocketclip.errors import BrokenItemError, UserError

SHOWN = ("anna", None, "7", "anna", "ben", "7")


def shards(folder: Path) -> str:
    with new_shard(folder / "x-000000.tar") as archive:
        for number, identity in enumerate(SHOWN):
            sample = Sample(f"s{number}", encode_picture(number), ("one", "two"), "", None, {"view": number})
            add_sample(archive, replace(sample, identity=identity))
    return f"webdataset:{folder}/x-000000.tar"


def pictures(folder: Path) -> list[str]:
    for number in range(len(SHOWN)):
        (folder / f"{number}.png").write_bytes(encode_picture(number))
    return [f"{number}.png" for number in range(len(SHOWN))]


def folder_of(folder: Path) -> str:
    for number, name in enumerate(pictures(folder)):
        values = {"captions": ["one", "two"], "view": number, "identity": SHOWN[number]}
        (folder / name).with_suffix(".json").write_text(json.dumps(values))
    return f"folder:{folder}"


def table(folder: Path) -> str:
    with (folder / "t.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption", "who"])
        for name, identity in zip(pictures(folder), SHOWN, strict=True):
            rows.writerows([name, caption, identity or ""] for caption in ("one", "two"))
    return f"csv:{folder}/t.csv,identity=who"


def lines(folder: Path) -> str:
    rows = [
        {"image": name, "captions": ["one", "two"], "who": int(who) if who == "7" else who}
        for name, who in zip(pictures(folder), SHOWN, strict=True)
    ]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"jsonl:{folder}/t.jsonl,identity=who"


def parquet(folder: Path, *, with_bytes: bool) -> str:
    pq = pytest.importorskip("pyarrow.parquet")
    names = pictures(folder)
    images = [{"bytes": (folder / name).read_bytes()} for name in names] if with_bytes else names
    pa = pytest.importorskip("pyarrow")
    columns = {"image": images, "captions": [["one", "two"]] * len(names), "who": list(SHOWN)}
    pq.write_table(pa.table(columns), folder / "t.parquet")
    return f"parquet:{folder}/t.parquet,identity=who"


WRITERS = {
    "shards": shards,
    "folder": folder_of,
    "csv": table,
    "jsonl": lines,
    "parquet of names": lambda folder: parquet(folder, with_bytes=False),
    "parquet of pictures": lambda folder: parquet(folder, with_bytes=True),
}


@pytest.fixture(params=WRITERS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return open_source(WRITERS[request.param](tmp_path))


def test_every_kind_tells_who_is_shown(source: Source) -> None:
    assert "identities" in source.gives
    assert tuple(source.identity(index) for index in range(len(source))) == SHOWN
    assert tuple(source[index].identity for index in range(len(source))) == SHOWN
    found = read_identities(source)
    assert found.names == ("anna", "7", "ben")
    assert found.values.tolist() == [0, NO_IDENTITY, 1, 0, 2, 1]
    assert found.num_images.tolist() == [2, 2, 1]


def test_parts_and_converted_shards_keep_it(source: Source, tmp_path: Path) -> None:
    part = Subset(source, np.array([4, 0]), "part")
    assert ("identities" in part.gives, part.identity(0), part[1].identity) == (True, "ben", "anna")
    write_shards(source, tmp_path / "out")
    written = open_source(f"webdataset:{tmp_path}/out")
    assert tuple(written.identity(index) for index in range(len(written))) == SHOWN
    assert content_fingerprint(written) == content_fingerprint(source)


def test_the_fingerprint_follows_it(tmp_path: Path) -> None:
    spec = table(tmp_path)
    before = open_source(spec)
    text = (tmp_path / "t.csv").read_text()
    (tmp_path / "t.csv").write_text(text.replace("ben", "eva"))
    after = open_source(spec)
    assert after.fingerprint() != before.fingerprint()
    assert content_fingerprint(after) != content_fingerprint(before)
    assert "identities" not in open_source(f"csv:{tmp_path}/t.csv").gives


def test_who_is_held_out_is_in_no_training_picture(tmp_path: Path) -> None:
    with new_shard(tmp_path / "x-000000.tar") as archive:
        for number in range(24):
            sample = Sample(f"s{number}", encode_picture(number), (f"c{number}",), "")
            add_sample(archive, replace(sample, identity=f"p{number % 8}"))
    rest, held = hold_out(open_source(f"webdataset:{tmp_path}"), 0.3)
    sides = [set(find_identities(side).names) for side in (rest, held)]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == {f"p{number}" for number in range(8)}


def test_a_picture_of_two_people_is_named(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "t.csv").write_text("image,caption,who\n0.png,a,anna\n0.png,b,ben\n")
    with pytest.raises(UserError, match=r"t\.csv: line 3: 0\.png shows 'ben' here and 'anna' above"):
        open_source(f"csv:{tmp_path}/t.csv,identity=who")


@pytest.mark.parametrize("value", ["[1]", "true", "1.5"])
def test_what_is_no_identity_breaks_its_item(tmp_path: Path, value: str) -> None:
    folder_of(tmp_path)
    (tmp_path / "0.json").write_text(f'{{"captions": ["a"], "identity": {value}}}')
    source = open_source(f"folder:{tmp_path}")
    with pytest.raises(BrokenItemError, match=r"0\.json: an identity is a text or a whole number"):
        source[0]
    assert find_identities(source).values[0] == NO_IDENTITY


def test_a_source_that_tells_nobody_is_an_error(tmp_path: Path) -> None:
    pictures(tmp_path)
    with pytest.raises(UserError, match="no image has an identity"):
        read_identities(open_source(f"folder:{tmp_path}"))
