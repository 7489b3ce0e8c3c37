import io
import json
import os
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.data.pictures.augment import AugmentConfig, ViewParameters, draw_view
from pocketclip.data.pictures.rand_augment import RandAugmentConfig
from pocketclip.data.shards import new_shard, write_shards
from pocketclip.data.source import Sample
from pocketclip.data.sources.reinforced import ReinforcedSample, ReinforcedSource, pack, unpack, write_shard
from pocketclip.data.sources.reinforcement import Manifest, StoredTeacher, read_manifest, write_manifest
from pocketclip.errors import BrokenItemError, UserError

AUGMENT = AugmentConfig(crop_scale=(0.3, 1.0), rand_augment=RandAugmentConfig())
TEACHERS = (
    StoredTeacher(name="one", kind="bundle", width=8, scale=100, image_size=24, mark="a" * 16),
    StoredTeacher(name="two", kind="open_clip", width=4, scale=60, image_size=32, mark="b" * 16),
)
MANIFEST = Manifest(teachers=TEACHERS, num_views=3, num_synthetic=1, augment=AUGMENT)


def made(number: int, manifest: Manifest = MANIFEST) -> ReinforcedSample:
    """A sample with one or two captions and one synthetic one."""
    captions = tuple(f"caption {line} of {number}" for line in range(1 + number % 2))
    sample = Sample(f"{number:04d}", encode_picture(number), captions, f"made: {number}", number % 3 or None)
    views = [draw_view(manifest.augment, (32, 24), [number, view]) for view in range(manifest.num_views)]
    rows = np.random.default_rng(number).normal(size=(len(views) + len(captions) + 1, manifest.width))
    features = np.concatenate(
        [part / np.linalg.norm(part, axis=1, keepdims=True) for part in np.split(rows, [8], axis=1)], axis=1
    )
    return ReinforcedSample(sample, views, features.astype(np.float32), (f"synthetic of {number}",))


def write(folder: Path, manifest: Manifest = MANIFEST, shards: int = 2, samples: int = 3) -> Path:
    folder.mkdir(exist_ok=True)
    written = [
        write_shard(
            folder / f"reinforced-{shard:06d}.tar",
            (made(shard * samples + number, manifest) for number in range(samples)),
            manifest,
        )
        for shard in range(shards)
    ]
    write_manifest(folder, manifest, written)
    return folder


def opened(folder: Path) -> ReinforcedSource:
    source = open_source(f"reinforced:{folder}")
    assert isinstance(source, ReinforcedSource)
    return source


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_conversion_keeps_what_was_said_of_pictures_and_no_more(tmp_path: Path, dtype: Any) -> None:
    sample = replace(made(1).sample, captions=("None", "a dog"), metadata={"split": "val", "synthetic": 1, "key": [2]})
    item = replace(made(1), sample=sample, features=made(1).features[[0, 1, 2, 3, 4, 5]])
    manifest = MANIFEST.model_copy(update={"dtype": dtype})
    shard = write_shard(tmp_path / "reinforced-000000.tar", [item], manifest)
    write_manifest(tmp_path, manifest, [shard])
    source = opened(tmp_path)
    assert replace(source[0], place=sample.place) == sample
    assert len(source.reinforcement(0).features) == 3 + 2 + 1  # the word that stands for none keeps its row
    write_shards(source, tmp_path / "plain")
    plain = open_source(f"webdataset:{tmp_path / 'plain'}")[0]
    assert (plain.metadata, plain.label, plain.captions) == (sample.metadata, sample.label, ("a dog",))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_is_written_is_read_back(tmp_path: Path, dtype: Any) -> None:
    manifest = MANIFEST.model_copy(update={"dtype": dtype})
    source = opened(write(tmp_path / "out", manifest))
    assert len(source) == 6
    for number in range(6):
        given, found = made(number), source.reinforcement(number)
        assert source[number].image == given.sample.image
        assert source.captions(number) == source[number].captions == given.sample.captions
        assert source[number].label == given.sample.label
        assert found.views == tuple(given.views)
        assert found.synthetic == given.synthetic
        exact = torch.from_numpy(given.features).to(getattr(torch, dtype)).float().numpy()
        assert np.array_equal(found.features, exact)


def test_the_manifest_counts_and_names(tmp_path: Path) -> None:
    manifest = opened(write(tmp_path / "out")).manifest
    assert (manifest.num_samples, manifest.num_captions, manifest.width) == (6, 9, 12)
    assert manifest.columns == (slice(0, 8), slice(8, 12))
    assert [shard.file for shard in manifest.shards] == ["reinforced-000000.tar", "reinforced-000001.tar"]
    assert read_manifest(tmp_path / "out") == manifest


def test_some_of_the_teachers_are_chosen_by_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "out")
    first, second = MANIFEST.teachers
    source = open_source(f"reinforced:{folder},teachers={second.name}")
    assert isinstance(source, ReinforcedSource)
    assert source.teachers == ((second, slice(8, 12)),)
    assert np.array_equal(source.reinforcement(0).features, opened(folder).reinforcement(0).features)
    assert [teacher for teacher, _ in opened(folder).teachers] == [first, second]
    with pytest.raises(UserError, match="'nobody'"):
        open_source({"kind": "reinforced", "folder": str(folder), "teachers": [second.name, "nobody"]})


def test_half_precision_is_that_of_torch() -> None:
    values = np.random.default_rng(0).normal(size=(100, 100)).astype(np.float32)
    values[0] = np.linspace(-1, 1, 100)
    values[1] = (np.arange(100) * 2 + 1) / 512 + 1  # halfway between two bfloat16
    for dtype in ("bfloat16", "float16"):
        exact = torch.from_numpy(values).to(getattr(torch, dtype)).float().numpy()
        assert np.array_equal(unpack(pack(values, dtype)), exact)  # type: ignore[arg-type]


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one"), write(tmp_path / "two")
    for file in one.iterdir():
        assert file.read_bytes() == (two / file.name).read_bytes()


def test_ordinary_readers_see_ordinary_shards(tmp_path: Path) -> None:
    import webdataset

    pattern = f"{write(tmp_path / 'out')}/reinforced-{{000000..000001}}.tar"
    plain = open_source(f"webdataset:{pattern}")
    theirs = list(webdataset.WebDataset(pattern, shardshuffle=False, empty_check=False).decode())
    assert len(plain) == len(theirs) == 6
    for number, one in enumerate(theirs):
        given = made(number)
        assert plain[number].captions == given.sample.captions == tuple(one["json"]["captions"])
        assert plain[number].image == given.sample.image
        assert [ViewParameters.from_json(view) for view in one["views.json"]] == given.views
        assert np.array_equal(one["features.npy"], pack(given.features, "bfloat16"))


def test_at_the_published_size_what_is_stored_comes_back(tmp_path: Path) -> None:
    """The published size: 30 views, 6 texts, two teachers of 768."""
    teachers = tuple(teacher.model_copy(update={"width": 768}) for teacher in TEACHERS)
    manifest = MANIFEST.model_copy(update={"teachers": teachers, "num_views": 30, "num_synthetic": 5})
    features = np.tile(np.float32(2.0) ** -np.arange(36, dtype=np.float32)[:, None], 1536)  # exact in bfloat16
    views = [draw_view(AUGMENT, (32, 24), [view]) for view in range(30)]
    items = (
        ReinforcedSample(Sample(f"{number}", encode_picture(), ("a",), ""), views, features, ("s",) * 5)
        for number in range(50)
    )
    (tmp_path / "out").mkdir()
    write_manifest(tmp_path / "out", manifest, [write_shard(tmp_path / "out" / "reinforced-0.tar", items, manifest)])
    source = opened(tmp_path / "out")
    for number in range(50):
        found = source.reinforcement(number)
        assert np.array_equal(found.features, features)
        assert list(found.views) == views
        assert found.synthetic == ("s",) * 5


def test_a_source_can_be_sent_to_another_process(tmp_path: Path) -> None:
    source = opened(write(tmp_path / "out"))
    sent = pickle.loads(pickle.dumps(source))
    assert np.array_equal(sent.reinforcement(4).features, source.reinforcement(4).features)


# What may be wrong


def rewrite(file: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Write a shard's members anew; None leaves one out. The manifest is told of the new length."""
    with tarfile.open(file) as archive:
        members = [(member.name, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    with new_shard(file) as archive:
        for name, data in members:
            changed = change(name, data)
            if changed is not None:
                info = tarfile.TarInfo(name)
                info.size = len(changed)
                archive.addfile(info, io.BytesIO(changed))
    manifest = read_manifest(file.parent)
    shards = [
        shard.model_copy(update={"num_bytes": file.stat().st_size}) if shard.file == file.name else shard
        for shard in manifest.shards
    ]
    write_manifest(file.parent, manifest, shards)


@pytest.mark.parametrize("ending", ["views.json", "features.npy", "json"])
def test_a_missing_member_breaks_its_sample_only(tmp_path: Path, ending: str) -> None:
    file = write(tmp_path / "out") / "reinforced-000001.tar"
    rewrite(file, lambda name, data: None if name == f"0004.{ending}" else data)
    source = opened(tmp_path / "out")
    with pytest.raises(BrokenItemError, match=rf"reinforced-000001\.tar: 0004: has no {ending}"):
        source.reinforcement(4)
    source.reinforcement(5)


@pytest.mark.parametrize(
    ("ending", "data", "reason"),
    [
        ("views.json", b"[[null, 0], [null, 0]]", "has 2 views; reinforcement.json says 3"),
        ("views.json", b"[[null, 0], [null, 0], [[5, 5, 4, 9], 0]]", r"damaged \(should be \[box, flip"),
        ("views.json", b"[[null, 0]", "damaged"),
        ("features.npy", b"", "damaged"),
        ("features.npy", b"\x80\x04N.", "damaged"),
        ("json", b"{}", "damaged"),
        ("json", b"\xff", "damaged"),
    ],
)
def test_a_damaged_member_breaks_its_sample_only(tmp_path: Path, ending: str, data: bytes, reason: str) -> None:
    file = write(tmp_path / "out") / "reinforced-000000.tar"
    rewrite(file, lambda name, old: data if name == f"0000.{ending}" else old)
    source = opened(tmp_path / "out")
    with pytest.raises(BrokenItemError, match=rf"reinforced-000000\.tar: 0000: .*{reason}"):
        source.reinforcement(0)
    source.reinforcement(1)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((5, 12), np.uint16), r"features are \(5, 12\); .* need \(6, 12\)"),
        (np.zeros((6, 8), np.uint16), r"features are \(6, 8\)"),
        (np.zeros((6, 12), np.float64), "float64 is no feature array"),
        (np.zeros(72, np.uint16), r"shape \(72,\)"),
        (np.array([{}], object), "object is no feature array"),
    ],
)
def test_features_of_another_shape_or_type_break_their_sample(tmp_path: Path, array: Any, reason: str) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    rewrite(
        write(tmp_path / "out") / "reinforced-000000.tar",
        lambda name, old: buffer.getvalue() if name == "0001.features.npy" else old,
    )
    with pytest.raises(BrokenItemError, match=reason):
        opened(tmp_path / "out").reinforcement(1)


def test_a_cut_or_missing_shard_is_named_when_the_folder_is_opened(tmp_path: Path) -> None:
    file = write(tmp_path / "out") / "reinforced-000001.tar"
    size = file.stat().st_size
    os.truncate(file, size - 2048)
    with pytest.raises(
        UserError, match=rf"reinforced-000001\.tar: has {size - 2048:,} bytes, .* says {size:,}: it is cut"
    ):
        opened(tmp_path / "out")
    file.unlink()
    with pytest.raises(UserError, match=r"reinforced-000001\.tar: missing"):
        opened(tmp_path / "out")


def test_a_shard_of_other_teachers_is_named_when_the_folder_is_opened(tmp_path: Path) -> None:
    other = TEACHERS[0].model_copy(update={"mark": "c" * 16}), TEACHERS[1]
    write(tmp_path / "other", MANIFEST.model_copy(update={"teachers": other}))
    write(tmp_path / "out")
    name = "reinforced-000001.tar"
    (tmp_path / "other" / name).replace(tmp_path / "out" / name)  # as long as the right one
    with pytest.raises(UserError, match=rf"{name}: 0003: was reinforced by other teachers or settings"):
        opened(tmp_path / "out")


def test_a_changed_scale_is_no_other_teacher(tmp_path: Path) -> None:
    file = write(tmp_path / "out") / "reinforcement.json"
    values = json.loads(file.read_text())
    values["teachers"][0]["scale"] = 70
    file.write_text(json.dumps(values))
    assert opened(tmp_path / "out").manifest.teachers[0].scale == 70


def test_a_folder_without_a_whole_manifest_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "out")
    for text, reason in (
        ("{", "damaged"),
        ('{"num_views": 3}', "teachers: is required"),
        ((folder / "reinforcement.json").read_text().replace("reinforced-000000", "../x"), r"shards\.0\.file"),
    ):
        (folder / "reinforcement.json").write_text(text)
        with pytest.raises(UserError, match=rf"reinforcement\.json: {reason}"):
            opened(folder)
    (folder / "reinforcement.json").unlink()
    with pytest.raises(UserError, match=r"has no reinforcement\.json; give a folder that `pocketclip reinforce` wrote"):
        opened(folder)
    (folder / "blocks").mkdir()
    with pytest.raises(UserError, match="not finished; go on with: pocketclip reinforce RECIPE --resume"):
        opened(folder)


def test_numbers_that_are_not_finite_are_never_written(tmp_path: Path) -> None:
    item = made(0)
    item.features[2, 1] = np.nan
    with pytest.raises(UserError, match="made: 0: a teacher gave features that are not finite"):
        write_shard(tmp_path / "reinforced-0.tar", [item], MANIFEST)
    assert list(tmp_path.iterdir()) == []
