import errno
import io
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import teachers as tiny
from conftest import Told, encode_picture
from pocketclip.data import Sample, open_source
from pocketclip.data.identity import content_fingerprint
from pocketclip.data.shards import add_sample, new_shard, write_shards
from pocketclip.data.sources.reinforcement import Manifest, read_manifest
from pocketclip.distill.config import ReinforceConfig
from pocketclip.distill.reinforce import Reinforcer
from pocketclip.distill.store import open_reinforcing, reinforcing_stage, write_reinforced
from pocketclip.errors import UserError
from pocketclip.stages import cluster
from pocketclip.stages.cluster import open_engine
from pocketclip.stages.engine import Engine, compute_here
from pocketclip.stages.store import BlockFolder

Settings = Callable[..., dict[str, Any]]


class StopError(Exception):
    pass


def opened(values: dict[str, Any]) -> Reinforcer:
    return Reinforcer(ReinforceConfig.parse(values, place="recipe"), torch.device("cpu"))


def write(
    reinforcer: Reinforcer,
    out: Path,
    *,
    resume: bool = False,
    stop_at: int | None = None,
    engine: Engine = compute_here,
) -> Manifest:
    def on_progress(work: str, done: int, total: int, broken: Sequence[str]) -> None:
        if done == stop_at:
            raise StopError

    return write_reinforced(reinforcer, out, engine, Told(on_progress), resume=resume)


def stop(reinforcer: Reinforcer, out: Path, at: int) -> None:
    with pytest.raises(StopError):
        write(reinforcer, out, stop_at=at)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


SHARDS = {f"reinforced-00000{number}.tar" for number in range(3)}


def test_the_folder_is_a_source_with_all_that_was_made(settings: Settings, tmp_path: Path) -> None:
    reinforcer = opened(settings())
    manifest = write(reinforcer, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*SHARDS, "reinforcement.json"}
    assert manifest == read_manifest(tmp_path / "out")
    assert (manifest.num_samples, manifest.num_captions, manifest.num_views) == (8, 16, 3)
    assert [(one.name, one.kind, one.width, one.scale, one.image_size) for one in manifest.teachers] == [
        ("tiny", "bundle", 16, pytest.approx(1 / 0.07), 32),
        ("clip", "huggingface", 12, 60, 24),
    ]
    assert manifest.source_fingerprint == reinforcer.source.fingerprint()
    source = open_source(f"reinforced:{tmp_path / 'out'}")
    for index, item in enumerate(reinforcer.samples(0, 8, [])):
        found = source.reinforcement(index)  # type: ignore[attr-defined]
        assert found.views == item.views
        assert abs(found.features - item.features).max() < 2**-8
        assert source[index].image == reinforcer.source[index].image


def test_classes_and_metadata_go_along(settings: Settings, tmp_path: Path) -> None:
    with new_shard(tmp_path / "in.tar") as archive:
        for number in range(4):
            sample = Sample(f"k{number}", encode_picture(number), ("a dog",), "", number % 2, {"split": "val"})
            add_sample(archive, sample)
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    reinforcer = opened(settings(source=f"webdataset:{tmp_path / 'in.tar'}"))
    write(reinforcer, tmp_path / "out")
    source = open_source(f"reinforced:{tmp_path / 'out'}")
    assert source.class_names == ("cat", "dog")
    assert content_fingerprint(source) == content_fingerprint(reinforcer.source)
    write_shards(source, tmp_path / "plain")
    assert content_fingerprint(open_source(f"webdataset:{tmp_path / 'plain'}")) == content_fingerprint(source)


def test_a_stopped_run_goes_on_to_the_same_bytes_and_redoes_no_shard(settings: Settings, tmp_path: Path) -> None:
    reinforcer = opened(settings())
    write(reinforcer, tmp_path / "whole")
    out = tmp_path / "parts"
    stop(reinforcer, out, at=3)
    assert {path.name for path in out.glob("*.tar")} == {"reinforced-000000.tar"}
    time = (out / "reinforced-000000.tar").stat().st_mtime_ns
    write(reinforcer, out, resume=True)
    assert (out / "reinforced-000000.tar").stat().st_mtime_ns == time
    assert files_of(out) == files_of(tmp_path / "whole")
    assert not (out / "blocks").exists()


def test_progress_counts_samples_and_a_shard_when_it_is_there(settings: Settings, tmp_path: Path) -> None:
    seen: list[int] = []

    def on_progress(work: str, done: int, total: int, broken: Sequence[str]) -> None:
        assert (work, total) == ("reinforcing", 8)
        seen.append(done)
        assert len(list(tmp_path.glob("out/*.tar"))) == (done // 3 if done < 8 else 3)

    write_reinforced(opened(settings()), tmp_path / "out", compute_here, Told(on_progress), resume=False)
    assert sorted(set(seen)) == list(range(9))
    assert seen == sorted(seen)


@pytest.mark.parametrize("harm", ["cut", "missing", "record"])
def test_a_shard_that_is_not_whole_is_made_again(settings: Settings, tmp_path: Path, harm: str) -> None:
    reinforcer = opened(settings())
    write(reinforcer, tmp_path / "whole")
    out = tmp_path / "out"
    stop(reinforcer, out, at=6)
    if harm == "cut":
        os.truncate(out / "reinforced-000001.tar", 1024)
    elif harm == "missing":
        (out / "reinforced-000001.tar").unlink()
    else:
        os.truncate(out / "blocks" / "000001.npz", 100)
    (out / ".reinforced-000001.tar.killed").write_bytes(b"half")
    write(reinforcer, out, resume=True)
    assert files_of(out) == files_of(tmp_path / "whole")


def test_a_process_killed_inside_a_shard_leaves_none_of_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reinforcer = opened(settings())
    encode = Reinforcer._encode_views

    def killed(self: Reinforcer, numbers: range) -> Any:
        if 4 in numbers:
            raise StopError
        return encode(self, numbers)

    monkeypatch.setattr(Reinforcer, "_encode_views", killed)
    with pytest.raises(StopError):
        write(reinforcer, tmp_path / "out")
    assert set(files_of(tmp_path / "out")) == {"reinforced-000000.tar"}
    with pytest.raises(UserError, match="reinforcing is not finished; go on with: pocketclip reinforce"):
        open_source(f"reinforced:{tmp_path / 'out'}")


def test_a_full_disk_is_named_and_keeps_the_finished_shards(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reinforcer = opened(settings())
    write(reinforcer, tmp_path / "whole")
    add = tarfile.TarFile.addfile

    def full(archive: tarfile.TarFile, member: tarfile.TarInfo, data: io.BytesIO) -> None:
        if member.name == "004.features.npy":
            raise OSError(errno.ENOSPC, "No space left on device")
        add(archive, member, data)

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(UserError, match=r"Cannot write .*reinforced-000001\.tar: No space left on device"):
        write(reinforcer, tmp_path / "out")
    assert set(files_of(tmp_path / "out")) == {"reinforced-000000.tar"}
    monkeypatch.undo()
    write(reinforcer, tmp_path / "out", resume=True)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


# Folders made from something else


@pytest.fixture
def changed(settings: Settings, tmp_path: Path) -> Callable[[str], tuple[dict[str, Any], dict[str, Any]]]:
    """Values and the same with one thing changed."""

    def give(what: str) -> tuple[dict[str, Any], dict[str, Any]]:
        clip = tiny.write_huggingface_teacher(tmp_path / "teacher")
        values = settings(teachers=[{"kind": "huggingface", "name": str(clip)}])
        changes: dict[str, dict[str, Any]] = {
            "views": {"num_views": 2},
            "augment": {"augment": {"crop_scale": [0.5, 1.0]}},
            "dtype": {"dtype": "float16"},
            "seed": {"seed": 1},
            "size": {"samples_per_shard": 2},
        }
        return values, {**values, **changes.get(what, {})}

    return give


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("weights", r'teachers\.teacher is "\w+" there and "\w+" here'),
        ("width", r"teacher_widths\.teacher is 12 there and 20 here"),
        ("views", "num_views is 3 there and 2 here"),
        ("augment", r"augment\.crop_scale is \[0\.3, 1\.0\] there and \[0\.5, 1\.0\] here"),
        ("dtype", 'dtype is "bfloat16" there and "float16" here'),
        ("seed", "seed is 0 there and 1 here"),
    ],
)
def test_a_folder_of_other_teachers_or_settings_is_refused_untouched(
    changed: Callable[[str], Any], tmp_path: Path, what: str, reason: str, finished: bool
) -> None:
    values, other = changed(what)
    if finished:
        write(opened(values), tmp_path / "out")
    else:
        stop(opened(values), tmp_path / "out", at=3)
    before = files_of(tmp_path / "out")
    if what == "weights":
        tiny.write_huggingface_teacher(tmp_path / "teacher", seed=5)
    if what == "width":
        tiny.write_huggingface_teacher(tmp_path / "teacher", "siglip")
    with pytest.raises(UserError, match=reason) as caught:
        write(opened(other), tmp_path / "out", resume=True)
    assert "hoose another --out" in str(caught.value)
    assert files_of(tmp_path / "out") == before


def test_another_shard_size_is_refused_while_unfinished(changed: Callable[[str], Any], tmp_path: Path) -> None:
    values, other = changed("size")
    stop(opened(values), tmp_path / "out", at=3)
    with pytest.raises(UserError, match="block_size is 3 there and 2 here"):
        write(opened(other), tmp_path / "out", resume=True)


def test_a_finished_folder_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    reinforcer = opened(settings())
    manifest = write(reinforcer, tmp_path / "out")
    with pytest.raises(UserError, match=r"out: is reinforced already; choose another --out"):
        write(reinforcer, tmp_path / "out")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert write(reinforcer, tmp_path / "out", resume=True) == manifest
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == times
    os.truncate(tmp_path / "out" / "reinforced-000000.tar", 512)
    with pytest.raises(UserError, match=r"reinforced-000000\.tar: has 512 bytes, .* cut off"):
        write(reinforcer, tmp_path / "out", resume=True)


def test_the_same_command_goes_on_with_an_unfinished_folder(settings: Settings, tmp_path: Path) -> None:
    reinforcer = opened(settings())
    whole = write(reinforcer, tmp_path / "whole")
    stop(reinforcer, tmp_path / "out", at=3)
    assert write(reinforcer, tmp_path / "out") == whole
    with pytest.raises(UserError, match="is reinforced already"):
        write(reinforcer, tmp_path / "out")


def test_shards_of_someone_else_are_not_overwritten(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "reinforced-000000.tar").write_text("precious")
    reinforcer = opened(settings())
    for resume in (False, True):
        with pytest.raises(UserError, match=r"holds shards reinforced-\*\.tar that no unfinished run left here"):
            write(reinforcer, tmp_path / "out", resume=resume)
    assert files_of(tmp_path / "out") == {"reinforced-000000.tar": b"precious"}


def test_broken_items_are_in_the_manifest(settings: Settings, make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_folder(6, 1, "some")
    (folder / "002.jpg").write_bytes(b"no picture")
    manifest = write(opened(settings(source=f"folder:{folder}")), tmp_path / "out")
    assert manifest.num_samples == 5
    assert len(manifest.broken) == 1
    assert "002.jpg" in manifest.broken[0]


def test_nothing_to_reinforce_is_named(settings: Settings, make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_folder(3, 1, "bad")
    for file in folder.glob("*.jpg"):
        file.write_bytes(b"no picture")
    with pytest.raises(UserError, match="no sample could be reinforced"):
        write(opened(settings(source=f"folder:{folder}")), tmp_path / "out")


def test_another_process_opens_the_same_stage(settings: Settings, tmp_path: Path) -> None:
    reinforcer = opened(settings())
    here = reinforcing_stage(reinforcer, tmp_path)
    there = open_reinforcing(reinforcer.config.model_dump(mode="json"), tmp_path, "cpu")
    assert BlockFolder(tmp_path, there).manifest() == BlockFolder(tmp_path, here).manifest()


@pytest.mark.slow
def test_ray_writes_the_same_bytes(
    settings: Settings, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    for name, value in cluster.QUIET.items():
        monkeypatch.setenv(name, value)  # read when Ray is imported
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster, "available_cores", lambda: 2)
    reinforcer = opened(settings(captioner={"name": str(models / "blip"), "num_captions": 2, "max_tokens": 6}))
    write(reinforcer, tmp_path / "local")
    with open_engine("ray") as engine:
        write(reinforcer, tmp_path / "ray", engine=engine)
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "local")
