"""Which samples a recipe's `data.subset` chooses: the same ones wherever they lie, small ones inside large ones."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import encode_picture
from pocketclip.data import hold_out, open_source
from pocketclip.data.ids import write_ids
from pocketclip.data.shards import write_shards
from pocketclip.data.source import Source
from pocketclip.data.sources.delimited import LONGEST_FIELD
from pocketclip.data.subset import ChosenSubset, SubsetConfig, choose
from pocketclip.errors import UserError

MakeFolder = Callable[..., Path]


def chosen(source: Source, **settings: Any) -> ChosenSubset:
    return choose(source, SubsetConfig.parse(settings, place="recipe"))


def keys(source: Source) -> list[str]:
    return [source[index].key for index in range(len(source))]


@pytest.fixture
def photos(make_folder: MakeFolder) -> Source:
    """Twenty pictures of growing size, of which number n has a caption of n + 1 words."""
    folder = make_folder(20, 1)
    for number in range(20):
        (folder / f"{number:03d}.jpg").write_bytes(encode_picture(number, (40 + 4 * number, 40)))
        (folder / f"{number:03d}.txt").write_text(" ".join(["word"] * (number + 1)))
    return open_source(f"folder:{folder}")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "chooses nothing"),
        ({"count": 5, "share": 0.5}, "give one of them"),
        ({"top": 0.5}, "top needs a score to rank by"),
        ({"score": "caption_words"}, "score has no effect without top"),
        ({"scores": "x.csv"}, "scores has no effect"),
        ({"seed": 3, "top": 0.5, "score": "english"}, "seed has no effect"),
        ({"id": "uid", "count": 5}, "id has no effect"),
        ({"count": 0}, "count"),
        ({"top": 1.5, "score": "english"}, "top"),
        ({"language": "de"}, "language"),
        ({"cuont": 5}, "Did you mean 'count'?"),
    ],
)
def test_settings_that_make_no_sense_are_explained(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError) as caught:
        SubsetConfig.parse(settings, place="recipe")
    assert reason in str(caught.value)


@pytest.mark.parametrize("seed", range(5))
def test_a_small_count_is_inside_a_large_one(photos: Source, seed: int) -> None:
    nested = [set(keys(chosen(photos, count=count, seed=seed))) for count in (1, 4, 11, 20)]
    assert [len(names) for names in nested] == [1, 4, 11, 20]
    assert all(small < large for small, large in pairwise(nested))
    assert set(keys(chosen(photos, share=0.2, seed=seed))) == nested[1]


def test_another_seed_draws_others_and_every_image_comes_up(photos: Source) -> None:
    drawn = [frozenset(keys(chosen(photos, count=5, seed=seed))) for seed in range(30)]
    assert len(set(drawn)) > 25
    assert frozenset.union(*drawn) == set(keys(photos))


def test_the_same_pictures_are_drawn_wherever_they_lie_and_in_whatever_order(
    photos: Source, tmp_path: Path, make_folder: MakeFolder
) -> None:
    write_shards(photos, tmp_path / "shards", name="x", samples_per_shard=7)
    renamed = make_folder(20, 1, name="renamed")
    for number in range(20):
        (renamed / f"{19 - number:03d}.jpg").write_bytes(photos[number].image)
    others = [open_source(str(tmp_path / "shards" / "*.tar")), open_source(f"folder:{renamed}")]
    for settings in ({"count": 7}, {"share": 0.3, "seed": 2}, {"top": 0.4, "score": "image_side"}):
        drawn = [chosen(source, **settings) for source in (photos, *others)]
        first, *rest = ({part[index].image for index in range(len(part))} for part in drawn)
        assert all(images == first for images in rest), settings


def test_samples_are_in_the_order_of_the_source(photos: Source) -> None:
    assert chosen(photos, count=9).indices.tolist() == sorted(chosen(photos, count=9).indices.tolist())
    assert chosen(photos, top=0.5, score="caption_words").indices.tolist() == list(range(10, 20))


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"min": {"caption_words": 5}, "max": {"caption_words": 8}}, range(4, 8)),
        ({"min": {"caption_letters": 90}}, range(18, 20)),
        ({"max": {"aspect_ratio": 1.5}}, range(6)),
        ({"min": {"image_side": 40}}, range(20)),
        ({"top": 0.2, "score": "aspect_ratio"}, range(16, 20)),
        ({"top": 0.01, "score": "caption_words"}, [19]),
        ({"max": {"caption_words": 10}, "top": 0.5, "score": "caption_words"}, range(5, 10)),
        ({"language": "en"}, range(20)),
    ],
)
def test_scores_measured_here_choose(photos: Source, settings: dict[str, Any], wanted: Any) -> None:
    assert chosen(photos, **settings).indices.tolist() == list(wanted)


def test_measures_are_kept_so_pictures_are_opened_once(photos: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    first = chosen(photos, max={"aspect_ratio": 1.5})
    monkeypatch.setattr(type(photos), "sample", lambda *_: pytest.fail("read again"))
    assert chosen(photos, max={"aspect_ratio": 1.5}).indices.tolist() == first.indices.tolist()


def test_of_another_language_is_left_out_where_most_captions_are(make_folder: MakeFolder) -> None:
    folder = make_folder(3, 2)
    (folder / "001.txt").write_text("ein Hund und eine Katze\nder Hund rennt mit dem Ball\nA dog\n")
    (folder / "002.txt").write_text("ein Hund und eine Katze\nA dog runs\n")
    assert keys(chosen(open_source(f"folder:{folder}"), language="en")) == ["000", "002"]


def test_of_near_duplicates_the_first_that_is_left_stays(photos: Source) -> None:
    folder = Path(photos.place(0)).parent
    (folder / "000.jpg").write_bytes(encode_picture(7, (68, 40)))
    (folder / "003.jpg").write_bytes(encode_picture(7, (136, 80)))
    again = open_source(f"folder:{folder}")
    assert {0, 3, 7} - set(chosen(again, drop_near_duplicates=True).indices.tolist()) == {3, 7}
    left = chosen(again, drop_near_duplicates=True, min={"caption_words": 3}).indices.tolist()
    assert {0, 3, 7} & set(left) == {3}


# Files


def test_ids_choose_whatever_kind_of_file_they_are_in(photos: Source, tmp_path: Path) -> None:
    for name in ("kept.txt", "kept.parquet"):
        write_ids(tmp_path / name, ["003", "011", "nobody"])
        found = chosen(photos, ids=tmp_path / name)
        assert keys(found) == ["003", "011"]
        assert found.notes == (
            "data.subset: 20 training images, 2 after ids",
            f"data.subset: 1 of the 3 ids of {tmp_path / name} are not in {photos.name}",
        )
    write_ids(tmp_path / "all.txt", keys(photos))
    assert len(chosen(photos, ids=tmp_path / "all.txt").notes) == 1


@pytest.mark.parametrize("as_key", [True, False])
def test_uids_of_datacomp_are_found_in_metadata_or_as_keys(tmp_path: Path, write_tar: Any, as_key: bool) -> None:
    uids = [f"{number * 7919:016x}{number:016x}" for number in range(6)]
    members = []
    for number, uid in enumerate(uids):
        key = uid if as_key else f"{number:09d}"
        members.append((f"{key}.jpg", encode_picture(number)))
        told = {"caption": "a dog", **({} if as_key else {"uid": uid})}
        members.append((f"{key}.json", json.dumps(told).encode()))
    source = open_source(f"webdataset:{write_tar('x.tar', members)}")
    write_ids(tmp_path / "kept.npy", [uids[4], uids[1], "f" * 32])
    found = chosen(source, ids=tmp_path / "kept.npy")
    assert found.indices.tolist() == [1, 4]
    assert "1 of the 3 ids" in found.notes[1]


def test_ids_may_be_another_entry_of_the_metadata(tmp_path: Path, write_tar: Any) -> None:
    members = []
    for number in range(4):
        told = {"caption": "a dog", "sha": f"hash {number}"}
        members += [(f"{number}.jpg", encode_picture(number)), (f"{number}.json", json.dumps(told).encode())]
    source = open_source(f"webdataset:{write_tar('x.tar', members)}")
    (tmp_path / "kept.txt").write_text("hash 2\nhash 3\n")
    assert chosen(source, ids=tmp_path / "kept.txt", id="sha").indices.tolist() == [2, 3]
    with pytest.raises(UserError, match=r"such as 'hash 2', 'hash 3'\) is the key of a sample of .* '0', '1', '2'"):
        chosen(source, ids=tmp_path / "kept.txt")


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
def test_scores_of_a_table_rank(photos: Source, tmp_path: Path, ending: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {"key": [f"{number:03d}" for number in range(19, -1, -1)], "clip": [0.1 * n for n in range(20)]}
    file = tmp_path / f"scores{ending}"
    if ending == ".parquet":
        pq.write_table(pa.table({**rows, "words": ["x"] * 20}), file, row_group_size=3)
    else:
        sign = "," if ending == ".csv" else "\t"
        lines = [f"{key}{sign}{score}{sign}x" for key, score in zip(*rows.values(), strict=True)]
        file.write_text("\n".join([f"key{sign}clip{sign}words", *lines]) + "\n")
    assert chosen(photos, top=0.2, scores=file).indices.tolist() == [0, 1, 2, 3]
    nested = [set(keys(chosen(photos, top=share, scores=file, score="clip"))) for share in (0.2, 0.4, 0.6, 1)]
    assert [len(names) for names in nested] == [4, 8, 12, 20]
    assert all(small < large for small, large in pairwise(nested))
    assert chosen(photos, min={"clip": 1.65}, scores=file).indices.tolist() == [0, 1, 2]


def test_equal_scores_are_cut_the_same_way_and_nested(photos: Source, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("key,clip\n" + "".join(f"{key},{int(key) // 10}\n" for key in keys(photos)))
    found = [set(keys(chosen(photos, top=share, scores=tmp_path / "s.csv"))) for share in (0.2, 0.5, 0.7)]
    assert [len(names) for names in found] == [4, 10, 14]
    assert found[0] < found[1] < found[2]
    assert found[0] != {f"{number:03d}" for number in range(10, 14)}  # not the first ones: those may be alike


def test_without_a_score_an_image_is_left_out_and_counted(photos: Source, tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text("key,clip\n001,0.5\n002,\n003,nan\n004,0.25\nother,1\n")
    found = chosen(photos, top=1, scores=file)
    assert keys(found) == ["001", "004"]
    assert found.notes[1:] == (
        f"data.subset: 1 of the 5 ids of {file} are not in {photos.name}",
        f"data.subset: 18 of 20 images have no clip in {file}: left out",
    )


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_rows_without_an_id_score_nothing(photos: Source, tmp_path: Path, ending: str) -> None:
    import decimal

    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / f"s{ending}"
    if ending == ".csv":
        file.write_bytes("\ufeffkey,clip\r\n,9\r\n\r\n,8\r\n001,1\r\n002,2,further\r\n".encode())
    else:
        clip = [decimal.Decimal(number) for number in (9, 8, 1, 2)]
        pq.write_table(pa.table({"key": [None, None, "001", "002"], "clip": clip}), file)
    assert keys(chosen(photos, top=0.5, scores=file)) == ["002"]


@pytest.mark.parametrize(
    ("text", "settings", "reason"),
    [
        (
            "key,clip\na,1\nb,2\n",
            {"top": 0.5},
            "none of its 2 ids (such as 'a', 'b') is the key of a sample of folder:",
        ),
        ("key,clip\n001,1\n001,2\n", {"top": 0.5}, "1 ids are scored twice, that of row 1 in row 2 again"),
        ("key,clip\n,1\n001,2\n,3\n001,4\n", {"top": 0.5}, "1 ids are scored twice, that of row 2 in row 4 again"),
        ("key,clip,b32\n001,1,2\n", {"top": 0.5}, "has several scores; name one of clip, b32"),
        ("key,clip\n001,1\n", {"top": 0.5, "score": "clop"}, "Unknown score 'clop'. Did you mean 'clip'?"),
        ("key,clip\n001,1\n", {"top": 0.5, "score": "english"}, "has no effect; name one of clip"),
        ("key,clip\n001,good\n", {"top": 0.5}, "no column of numbers beside the ids (there are: key, clip)"),
        ("name,clip\n001,1\n", {"top": 0.5}, "no column uid, key or id that names samples"),
        ("key,clip\n001,good,too\n", {"top": 0.5}, "no column of numbers beside the ids (there are: key, clip)"),
        (
            f"key,clip\n{'0' * (LONGEST_FIELD + 1)},1\n",
            {"top": 0.5},
            "cannot be read as a table of scores (field larger than",
        ),
        ("key,clip\n", {"top": 0.5}, "scores nothing"),
        ("", {"top": 0.5}, "scores nothing"),
    ],
)
def test_scores_of_something_else_are_refused_in_one_line(
    photos: Source, tmp_path: Path, text: str, settings: dict[str, Any], reason: str
) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        chosen(photos, scores=tmp_path / "s.csv", **settings)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_field_without_end_is_refused_in_one_line(photos: Source, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(f"key,clip\n{'0' * (LONGEST_FIELD + 1)},1\n")
    with pytest.raises(UserError, match=r"cannot be read as a table of scores \(field larger than"):
        chosen(photos, scores=tmp_path / "s.csv", top=0.5)


def test_a_subset_that_keeps_nothing_says_where_they_went(photos: Source) -> None:
    reason = r"keeps no image of .* \(20 training images, 3 after min.caption_words, 0 after max.aspect_ratio\)"
    with pytest.raises(UserError, match=reason):
        chosen(photos, min={"caption_words": 18}, max={"aspect_ratio": 1.2})


def test_more_than_there_are_is_refused_and_the_line_it_says_works(photos: Source) -> None:
    part, _ = hold_out(photos, 0.2)
    with pytest.raises(UserError, match=r"17 is more than the 16 .*, where 4 are held out; .*") as caught:
        chosen(part, count=17)
    fewer = int(str(caught.value).rpartition("--set data.subset.count=")[2])
    assert len(chosen(part, count=fewer)) == 16


def test_ids_that_are_held_out_are_no_strangers(photos: Source, tmp_path: Path) -> None:
    part, held = hold_out(photos, 0.2)
    write_ids(tmp_path / "kept.txt", [*keys(part)[:5], *keys(held)])
    found = chosen(part, ids=tmp_path / "kept.txt")
    assert keys(found) == keys(part)[:5]
    assert found.notes == ("data.subset: 16 training images, 5 after ids",)
    assert found.fingerprint() != part.fingerprint()


def test_a_broken_picture_is_drawn_last(photos: Source) -> None:
    Path(photos.place(4)).unlink()
    for seed in range(5):
        assert 4 not in chosen(photos, count=19, seed=seed).indices
    assert len(chosen(photos, count=20)) == 20


def test_examples_of_several_images_are_refused() -> None:
    with pytest.raises(UserError, match="would lose their partners"):
        chosen(open_source("scenes:10,twinned=true"), count=4)


def test_keys_are_those_of_the_samples_in_every_kind_of_source(photos: Source, tmp_path: Path) -> None:
    write_shards(photos, tmp_path / "shards", name="x", samples_per_shard=7)
    folder = Path(photos.place(0)).parent
    rows = "".join(f"{number:03d}.jpg,a dog {number}\n" for number in range(20))
    (tmp_path / "pairs.csv").write_text(f"image,caption\n{rows}")
    texts = ("scenes:4", f"csv:{tmp_path / 'pairs.csv'},{folder}", str(tmp_path / "shards" / "*.tar"))
    for source in (photos, *map(open_source, texts), hold_out(photos, 0.3)[1]):
        numbers = range(len(source))
        assert [source.key(number) for number in numbers] == keys(source)
        assert [source.metadata(number) for number in numbers] == [source[number].metadata for number in numbers]


def test_numbers_are_spread_evenly(photos: Source) -> None:
    from pocketclip.data.subset import shuffle_keys

    first = shuffle_keys(np.arange(100_000), 0).astype(np.float64) / 2**64
    assert abs(first.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(first, shuffle_keys(np.arange(100_000), 1))[0, 1]) < 0.02
