"""Whether a run's splits are apart, and its data what they were."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import QuietWatch, encode_picture, tiny_recipe_settings
from pocketclip.data import Source, open_source
from pocketclip.errors import UserError
from pocketclip.recipe import DataConfig, Recipe
from pocketclip.run.data import LISTS, check_apart, check_unchanged, keep_lists, open_data
from pocketclip.stages.watch import SILENT

MakeFolder = Callable[..., Path]


def opened(folder: Path) -> Source:
    return open_source({"kind": "folder", "dir": folder})


def config(train: Path, **settings: object) -> DataConfig:
    return DataConfig.parse({"train": {"kind": "folder", "dir": train}, **settings}, place="data")


def splits_of(data: DataConfig) -> dict[str, Source]:
    train, val = open_data(data)
    return {"train": train, "val": val}


def test_the_same_data_twice_are_refused(make_folder: MakeFolder) -> None:
    source = opened(make_folder(8))
    message = r"data\.val: 8 of 8 pictures are in data\.train, too \(.*000\.jpg is .*; \.\.\.\)"
    with pytest.raises(UserError, match=message):
        check_apart({"train": source, "val": source}, config(Path("photos")), SILENT)


def test_an_overlap_is_allowed_by_name(make_folder: MakeFolder) -> None:
    source, watch = opened(make_folder(8)), QuietWatch()
    notes = check_apart({"train": source, "val": source}, config(Path("photos"), allow_overlap=True), watch)
    assert notes["val"] == watch.notes
    assert notes["val"][0].startswith("data.val: 8 of 8 pictures are in data.train")


@pytest.mark.parametrize(("shared", "refused"), [(1, False), (3, True)])
def test_a_small_overlap_is_told_and_a_large_one_refused(make_folder: MakeFolder, shared: int, refused: bool) -> None:
    train, test = make_folder(30, name="train"), make_folder(40, name="test")
    for number in range(40 - shared):
        (test / f"{number:03d}.jpg").write_bytes(encode_picture(100 + number))
    for number in range(shared):
        (train / f"{number:03d}.jpg").write_bytes(encode_picture(40 - shared + number))
    splits = {"train": opened(train), "val": opened(make_folder(4, name="val")), "test": opened(test)}
    (Path(splits["val"].place(0)).parent / "x").touch()
    for number in range(4):
        Path(splits["val"].place(number)).write_bytes(encode_picture(500 + number))
    data = config(train)
    if refused:
        with pytest.raises(UserError, match=r"data\.test: 3 of 40 pictures are in data\.train"):
            check_apart(splits, data, SILENT)
    else:
        assert check_apart(splits, data, SILENT)["test"][0].startswith("data.test: 1 of 40 pictures are in data.train")


def test_splits_that_are_apart_have_nothing_to_note(make_folder: MakeFolder) -> None:
    assert not any(check_apart(splits_of(config(make_folder(10))), config(Path("x")), SILENT).values())


def test_copies_in_the_training_data_are_told(make_folder: MakeFolder) -> None:
    folder = make_folder(10)
    (folder / "009.jpg").write_bytes(encode_picture(8))
    notes = check_apart({"train": opened(folder)}, config(folder), SILENT)
    assert notes["train"] == ["data.train: 10 pictures are 9 different ones, the others copies"]


def test_drawings_may_be_drawn_twice() -> None:
    source = open_source("scenes:50")
    notes = check_apart({"train": source, "val": source}, config(Path("x")), SILENT)
    assert notes["val"][0].startswith("data.val: 50 of 50")


def add(folder: Path) -> None:
    (folder / "new.jpg").write_bytes(encode_picture(77))


def remove(folder: Path) -> None:
    (folder / "003.jpg").unlink()


def repaint(folder: Path) -> None:
    (folder / "003.jpg").write_bytes(encode_picture(77))


def reword(folder: Path) -> None:
    (folder / "003.txt").write_text("something else")


def flip_a_byte(folder: Path) -> None:
    file, status = folder / "003.jpg", (folder / "003.jpg").stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (add, r"1 added \(.*new\.jpg\)"),
        (remove, r"1 removed \(.*003\.jpg\)"),
        (repaint, r"1 with other bytes \(.*003\.jpg\)"),
        (reword, r"1 with other captions \(.*003\.jpg\)"),
        (flip_a_byte, r"1 with other bytes \(.*003\.jpg\)"),
    ],
)
def test_a_run_does_not_go_on_with_other_data(
    make_folder: MakeFolder, tmp_path: Path, change: Callable[[Path], None], told: str
) -> None:
    folder = make_folder(12)
    data = config(folder)
    keep_lists(tmp_path, splits_of(data), SILENT)
    check_unchanged(tmp_path, splits_of(data), SILENT)
    change(folder)
    with pytest.raises(UserError, match=rf"data\.train is not what the run was begun with: {told}"):
        check_unchanged(tmp_path, splits_of(data), SILENT)


def test_it_goes_on_with_files_that_were_touched_or_moved(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder, watch = make_folder(12), QuietWatch()
    keep_lists(tmp_path, splits_of(config(folder)), SILENT)
    moved = folder.rename(folder.with_name("moved"))
    os.utime(moved / "003.jpg", ns=(1, 1))
    check_unchanged(tmp_path, splits_of(config(moved)), watch)
    told = "files were touched or moved; every picture and caption is as it was."
    assert watch.notes == [f"data.{name}: {told}" for name in ("train", "val")]


def test_a_changed_validation_source_is_named(make_folder: MakeFolder, tmp_path: Path) -> None:
    train, val = make_folder(8, name="train"), make_folder(4, name="val")
    data = config(train, val={"kind": "folder", "dir": val})
    keep_lists(tmp_path, splits_of(data), SILENT)
    add(val)
    with pytest.raises(UserError, match=r"data\.val is not what the run was begun with: 1 added"):
        check_unchanged(tmp_path, splits_of(data), SILENT)


def test_verifying_compares_whatever_the_fingerprints_say(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketclip.data.sources.folder.file_stamp", lambda path: [str(path)])
    folder = make_folder(12)
    data = config(folder)
    keep_lists(tmp_path, splits_of(data), SILENT)
    repaint(folder)
    check_unchanged(tmp_path, splits_of(data), SILENT)  # nothing to be seen
    train, val = open_data(data, verify=True)
    with pytest.raises(UserError, match="1 with other bytes"):
        check_unchanged(tmp_path, {"train": train, "val": val}, SILENT, verify=True)


def test_an_older_run_goes_on_unchecked_and_says_so(make_folder: MakeFolder, tmp_path: Path) -> None:
    watch = QuietWatch()
    check_unchanged(tmp_path, splits_of(config(make_folder(8))), watch)
    assert "was begun without a list of its data" in watch.notes[0]


def test_a_damaged_list_is_named(make_folder: MakeFolder, tmp_path: Path) -> None:
    (tmp_path / LISTS).write_bytes(b"PK")
    with pytest.raises(UserError, match=r"data\.npz: damaged"):
        check_unchanged(tmp_path, splits_of(config(make_folder(8))), SILENT)


def test_leave_to_overlap_changes_no_other_recipe() -> None:
    settings = tiny_recipe_settings()
    plain = Recipe.parse(settings, place="x")
    assert "allow_overlap" not in plain.model_dump(mode="json")["data"]
    settings["data"] = {**settings["data"], "allow_overlap": True}  # type: ignore[dict-item]
    assert Recipe.parse(settings, place="x").fingerprint() != plain.fingerprint()


# Subsets


def test_a_subset_changes_no_other_recipe() -> None:
    settings = tiny_recipe_settings()
    plain = Recipe.parse(settings, place="x")
    assert "subset" not in plain.model_dump(mode="json")["data"]
    settings["data"] = {**settings["data"], "subset": "kept.txt"}  # type: ignore[dict-item]
    chosen = Recipe.parse(settings, place="x")
    assert chosen.fingerprint() != plain.fingerprint()
    assert chosen.data.subset is not None
    assert chosen.data.subset.ids == Path("kept.txt")
    assert Recipe.parse(chosen.model_dump(mode="json"), place="x") == chosen


def test_what_is_held_out_is_the_same_for_every_subset(make_folder: MakeFolder) -> None:
    folder = make_folder(20)
    whole, held = open_data(config(folder))
    kept = {whole[index].key for index in range(len(whole))}
    for subset in ({"count": 3}, {"count": 9}, {"top": 0.5, "score": "caption_letters"}):
        train, val = open_data(config(folder, subset=subset))
        assert val.fingerprint() == held.fingerprint()
        assert {train[index].key for index in range(len(train))} < kept


def test_what_a_subset_left_out_is_told_once_and_noted(make_folder: MakeFolder, tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("001\n002\n004\n005\nnobody\n")
    data, watch = config(make_folder(12), subset=str(tmp_path / "kept.txt"), hold_out=0.25), QuietWatch()
    notes = check_apart(splits_of(data), data, watch)["train"]
    assert notes == watch.notes
    assert notes[0].startswith("data.subset: 9 training images, ")
    assert [line for line in notes if "1 of the 5 ids" in line] == notes[1:]


def test_a_run_does_not_go_on_with_another_subset(make_folder: MakeFolder, tmp_path: Path) -> None:
    listed = tmp_path / "kept.txt"
    listed.write_text("\n".join(f"{number:03d}" for number in range(12)))
    val = make_folder(4, name="val")
    for settings in ({}, {"val": {"kind": "folder", "dir": val}}):
        data = config(tmp_path / "photos", subset=str(listed), **settings)
        run = tmp_path / f"run{len(settings)}"
        run.mkdir()
        if not settings:
            make_folder(20)
        keep_lists(run, splits_of(data), SILENT)
        check_unchanged(run, splits_of(data), SILENT)
        before = listed.read_text()
        listed.write_text(f"{before}\n013\n015")
        with pytest.raises(UserError, match=r"data\.subset is not what the run was begun with: [12] added \(.*01[35]"):
            check_unchanged(run, splits_of(data), SILENT)
        listed.write_text(before)
        check_unchanged(run, splits_of(data), SILENT)


def test_at_most_opens_some_from_all_of_a_source_and_no_others(make_folder: MakeFolder) -> None:
    photos = make_folder(40)
    whole = opened(photos)
    data = config(photos, at_most=20, hold_out=0.2)
    train, val = open_data(data)
    names = {part.place(index) for part in (train, val) for index in range(len(part))}
    assert (len(train) + len(val), len(names)) == (20, 20)
    assert whole.place(0) in names  # spread from the first to the last
    assert whole.place(39) in names
    for index in range(40):
        if whole.place(index) not in names:
            Path(whole.place(index)).unlink()  # would be missed by whoever reads all
    splits = {"train": train, "val": val}
    assert check_apart(splits, data, SILENT) == {"train": [], "val": []}
    keep_lists(photos.parent, splits, SILENT)
    assert sorted(dict(open_lists(photos.parent / LISTS))) == ["train", "val"]
    check_unchanged(photos.parent, splits, SILENT)


def test_a_subset_of_at_most_some_looks_at_no_others(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, seen = make_folder(40), set[int]()
    (photos.parent / "kept.txt").write_text("".join(f"{number:03d}\n" for number in range(0, 40, 2)))
    kind = type(opened(photos))
    for name in ("sample", "key"):
        read = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda self, index, read=read: seen.add(index) or read(self, index))
    subset = {"ids": photos.parent / "kept.txt", "min": {"image_side": 1}}
    train, val = open_data(config(photos, at_most=10, hold_out=0.2, subset=subset))
    assert len(seen) == 10 >= len(train) + len(val)


def open_lists(file: Path) -> dict[str, int]:
    with np.load(file) as arrays:
        return {name.removesuffix("_pictures"): len(arrays[name]) for name in arrays if name.endswith("_pictures")}


def test_at_most_of_fewer_changes_nothing(make_folder: MakeFolder) -> None:
    photos = make_folder(12)
    both = [open_data(config(photos, **settings)) for settings in ({}, {"at_most": 12}, {"at_most": 1000})]
    assert len({(train.fingerprint(), val.fingerprint()) for train, val in both}) == 1


def test_at_most_leaves_the_hash_of_other_recipes(make_folder: MakeFolder) -> None:
    assert "at_most" not in config(make_folder(8)).model_dump()


def test_at_most_tears_no_examples_apart() -> None:
    data = DataConfig.parse({"train": "scene_pairs:64", "val": "scene_pairs:16,seed=1", "at_most": 8}, place="data")
    with pytest.raises(UserError, match=r"data\.at_most: .* would lose their partners"):
        open_data(data)
