"""Classes of shards, folders, scenes and texts, and how those of two parts are matched."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.data.labels import NO_LABEL, Labels, match_classes, read_labels
from pocketclip.data.shards import add_sample, new_shard, write_shards
from pocketclip.data.source import Sample, Subset
from pocketclip.data.sources.scene_world import COLOURS
from pocketclip.data.sources.scenes import ScenesSource
from pocketclip.errors import UserError


def write_shard(folder: Path, labels: list[int | None], names: str | None = None) -> str:
    with new_shard(folder / "x-000000.tar") as archive:
        for number, label in enumerate(labels):
            add_sample(archive, Sample(f"s{number}", encode_picture(number), (), "test", label))
    if names is not None:
        (folder / "classnames.txt").write_text(names)
    return f"webdataset:{folder}/x-000000.tar"


def class_folders(root: Path, **counts: int) -> str:
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}.jpg").write_bytes(encode_picture(number))
    return f"folder:{root},classes=folders"


def test_shards_give_numbers_and_the_names_beside_them(tmp_path: Path) -> None:
    labels = read_labels(open_source(write_shard(tmp_path, [1, None, 0], "dog\ncat\n")))
    assert labels.values.tolist() == [1, NO_LABEL, 0]
    assert labels.names == ("dog", "cat")
    assert labels.occurring[1] == "cat"


def test_a_folder_is_a_class_where_asked_for(tmp_path: Path) -> None:
    source = open_source(class_folders(tmp_path, dog=2, cat=1))
    labels = read_labels(source)
    assert labels.names == ("cat", "dog")
    assert labels.values.tolist() == [0, 1, 1]
    assert source[0].label == 0
    plain = open_source(f"folder:{tmp_path}")
    assert plain[0].label is None
    assert plain.fingerprint() != source.fingerprint()


def test_a_picture_beside_the_folders_of_classes_is_named(tmp_path: Path) -> None:
    spec = class_folders(tmp_path, dog=1)
    (tmp_path / "stray.jpg").write_bytes(encode_picture())
    with pytest.raises(UserError, match=r"stray\.jpg does not lie in the folder of a class"):
        open_source(spec)


@pytest.mark.parametrize("classes", ["colour", "shape", "size", "count"])
def test_scenes_have_a_class_of_their_first_group(classes: str) -> None:
    source = open_source(f"scenes:20,classes={classes}")
    assert isinstance(source, ScenesSource)
    assert source.class_names is not None
    for index in range(20):
        label = source.label(index)
        assert label is not None
        assert source.class_names[label] in str(source.scene(index).first).split()[:4] or classes == "shape"
        if classes == "colour":
            assert tuple(COLOURS)[label] == source.scene(index).first.colour


def test_a_subset_keeps_its_classes() -> None:
    whole = open_source("scenes:10,classes=size")
    part = Subset(whole, np.array([3, 7]), "part")
    assert read_labels(part).values.tolist() == read_labels(whole).values[[3, 7]].tolist()


def test_a_source_without_classes_is_an_error(make_folder: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"photos: no image has a class\..*classes=folders"):
        read_labels(open_source(f"folder:{make_folder()}"))


def test_a_class_beyond_the_names_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"class 2 has no name; classnames\.txt has 2 lines"):
        read_labels(open_source(write_shard(tmp_path, [0, 2], "dog\ncat\n")))


def labels_of(place: str, values: list[int], *names: str) -> Labels:
    return Labels(place, np.array(values), names or None)


def test_classes_are_matched_by_name_and_else_by_number() -> None:
    task = match_classes(labels_of("train", [0, 1, 1], "a", "b"), labels_of("test", [1, 0], "b", "a"))
    assert (task.class_names, task.train.tolist(), task.test.tolist()) == (("a", "b"), [0, 1, 1], [0, 1])
    assert task.unnamed == ()
    task = match_classes(labels_of("train", [5, 9, NO_LABEL], *"abcdefghij"), labels_of("test", [9]))
    assert task.unnamed == ("test",)
    assert (task.class_names, task.train.tolist(), task.test.tolist()) == (("5", "9"), [0, 1, NO_LABEL], [1])


def test_a_class_that_was_not_learned_cannot_be_tested() -> None:
    with pytest.raises(UserError, match=r"^test: no example of class c is in the training data train"):
        match_classes(labels_of("train", [0, 1], "a", "b"), labels_of("test", [2], "a", "b", "c"))


def test_one_class_is_nothing_to_learn() -> None:
    with pytest.raises(UserError, match=r"^train: every example is of one class \(a\)"):
        match_classes(labels_of("train", [0, 0], "a", "b"), labels_of("test", [0], "a", "b"))


def test_converted_folders_are_the_classes_that_they_were(tmp_path: Path) -> None:
    train = class_folders(tmp_path / "train", bird=2, cat=3, dog=2)
    test = open_source(class_folders(tmp_path / "test", cat=2, dog=1))
    write_shards(open_source(train), tmp_path / "out")
    before, after = (
        match_classes(read_labels(open_source(part)), read_labels(test))
        for part in (train, f"webdataset:{tmp_path / 'out'}")
    )
    assert after.class_names == before.class_names == ("bird", "cat", "dog")
    assert after.unnamed == ()
    assert after.train.tolist() == before.train.tolist()
    assert after.test.tolist() == before.test.tolist() == [1, 1, 2]


def test_only_line_feeds_end_the_name_of_a_class(tmp_path: Path) -> None:
    source = open_source(write_shard(tmp_path, [1], "a\u2028b\r\nc\x0cd\n"))
    assert source.class_names == ("a\u2028b", "c\x0cd")


def test_shards_in_folders_that_name_other_classes_are_refused(tmp_path: Path) -> None:
    for folder, names in (("x", "a\nb\n"), ("y", "b\na\n")):
        (tmp_path / folder).mkdir()
        write_shard(tmp_path / folder, [0, 1], names)
    with pytest.raises(UserError, match=r"x and .*y: their classnames\.txt differ; read one at a time"):
        read_labels(open_source(f"webdataset:{tmp_path}/*/x-000000.tar"))


def test_the_fingerprint_follows_the_names_of_classes(tmp_path: Path) -> None:
    first = open_source(write_shard(tmp_path, [0, 1], "a\nb\n")).fingerprint()
    (tmp_path / "classnames.txt").write_text("b\na\n")
    assert open_source(f"webdataset:{tmp_path}/x-000000.tar").fingerprint() != first
