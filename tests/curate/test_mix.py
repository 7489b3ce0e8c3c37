"""Mixed shards: what is taken and written, what the manifest says, and what an interruption leaves."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pocketclip.curate.mix as mix_module
import pocketclip.curate.selection as selection_module
from conftest import Told, encode_picture
from pocketclip.curate.curation import carry_out
from pocketclip.curate.mix import MixConfig, draw, mixing, parse_part
from pocketclip.curate.mix_report import MixReport
from pocketclip.data import open_source
from pocketclip.data.source import Sample
from pocketclip.errors import UserError
from pocketclip.stages.engine import compute_here, compute_in_threads, fill
from pocketclip.stages.store import Block, Stage
from pocketclip.stages.watch import SILENT, Watch


@pytest.mark.parametrize(
    ("text", "source", "weight"),
    [
        ("folder:a", "folder:a", 1.0),
        ("folder:a@0.25", "folder:a", 0.25),
        ("folder:a@1", "folder:a", 1.0),
        ("folder:me@home", "folder:me@home", 1.0),
        ("folder:me@home@.5", "folder:me@home", 0.5),
        ("folder:a@2@1", "folder:a@2", 1.0),
    ],
)
def test_the_last_number_behind_an_at_is_the_weight(text: str, source: str, weight: float) -> None:
    part = parse_part(text)
    assert (part.source, part.weight) == (source, weight)


@pytest.mark.parametrize("weight", ["0", "-1", "1.5", "nan", "inf"])
def test_a_weight_that_is_no_share_is_refused(weight: str) -> None:
    with pytest.raises(UserError, match=rf"folder:a@{weight}: the weight behind @ .* \(got {weight}\)"):
        parse_part(f"folder:a@{weight}")


def test_no_source_and_a_distance_out_of_range_are_refused() -> None:
    with pytest.raises(UserError) as caught:
        MixConfig.parse({"parts": [], "max_distance": 17}, place="mix")
    assert "mix: parts: " in str(caught.value)
    assert "mix: max_distance: " in str(caught.value)


def test_a_draw_is_a_share_the_same_every_time_and_holds_the_smaller_ones() -> None:
    half, fifth = draw(1000, 0.5, 3), draw(1000, 0.2, 3)
    assert (len(half), len(fifth)) == (500, 200)
    assert np.all(np.diff(half) > 0)
    assert set(fifth) < set(half)
    assert np.array_equal(half, draw(1000, 0.5, 3))
    assert not np.array_equal(half, draw(1000, 0.5, 4))
    assert np.array_equal(draw(7, 1.0, 5), np.arange(7))
    assert len(draw(10, 0.001, 0)) == 1


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mix_module, "MEASURED_BLOCK", 4)


def recompressed(data: bytes) -> bytes:
    output = io.BytesIO()
    Image.open(io.BytesIO(data)).resize((48, 36), Image.Resampling.BICUBIC).save(output, "JPEG", quality=90)
    return output.getvalue()


def make(folder: Path, pictures: dict[str, tuple[bytes, str]]) -> Path:
    folder.mkdir()
    for name, (data, captions) in pictures.items():
        (folder / f"{name}.jpg").write_bytes(data)
        (folder / f"{name}.txt").write_text(captions)
    return folder


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two sources and a test split: `b` and `x` are one picture, as are `d` and `t`; `c` is broken, `z` is mute."""
    first = {
        "a": (encode_picture(1), "one dog\ntwo &amp; two\n"),
        "b": (encode_picture(2), "a boat at sea\n"),
        "c": (b"no picture", "nothing to see\n"),
        "d": (encode_picture(4), "a thing to be tested\n"),
        "e": (encode_picture(5), "a hill\nA hill.\nhttps://example.org\n"),
    }
    second = {
        "a": (encode_picture(11), "another dog\n"),
        "x": (recompressed(encode_picture(2)), "the boat\na boat at sea\n"),
        "y": (encode_picture(12), "a long road\n"),
        "z": (encode_picture(13), "jpg\n"),
    }
    test = {"t": (recompressed(encode_picture(4)), "test\n")}
    return make(tmp_path / "one", first), make(tmp_path / "two", second), make(tmp_path / "test", test)


def run(sources: tuple[Path, Path, Path], out: Path, watch: Watch = SILENT, **settings: Any) -> MixReport:
    words = ("resume", "dry_run", "name", "engine")
    call = {word: settings.pop(word) for word in words if word in settings}
    engine = call.pop("engine", compute_here)
    values = {
        "parts": [{"source": f"folder:{sources[0]}"}, {"source": f"folder:{sources[1]}"}],
        "without": [f"folder:{sources[2]}"],
        **settings,
    }
    config = MixConfig.parse(values, place="mix")
    return carry_out(mixing(config, out), engine, watch, samples_per_shard=2, **call)


def samples(out: Path) -> dict[str, Sample]:
    source = open_source(f"webdataset:{out}/data-*.tar")
    return {source[index].key: source[index] for index in range(len(source))}


def test_shards_hold_what_stays_with_clean_captions(sources: tuple[Path, Path, Path], tmp_path: Path) -> None:
    report = run(sources, tmp_path / "out")
    found = samples(tmp_path / "out")
    assert {key: sample.captions for key, sample in found.items()} == {
        "0-a": ("one dog", "two & two"),
        "0-e": ("a hill",),
        "1-a": ("another dog",),
        "1-x": ("the boat", "a boat at sea"),
        "1-y": ("a long road",),
    }
    assert found["0-a"].image == encode_picture(1)
    assert (report.num_images, report.num_captions, report.num_shards) == (5, 7, 3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(f"data-00000{number}.tar" for number in range(3)),
        "data.mix.json",
    ]


def test_the_manifest_says_what_became_of_each_source(sources: tuple[Path, Path, Path], tmp_path: Path) -> None:
    report = run(sources, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "data.mix.json").read_text())
    assert told["report"] == report.model_dump()
    assert told["mix"]["without"] == [f"folder:{sources[2]}"]
    first, second = report.sources
    names = ("taken", "broken", "held_out", "without_caption", "duplicates", "images", "captions")
    assert [getattr(first, f"num_{name}") for name in names] == [5, 1, 1, 0, 1, 2, 3]
    assert [getattr(second, f"num_{name}") for name in names] == [4, 0, 0, 1, 0, 3, 4]
    for one in report.sources:
        gone = one.num_broken + one.num_held_out + one.num_without_caption + one.num_duplicates
        assert one.num_taken == gone + one.num_images
        assert one.num_captions_read >= one.num_captions
    assert first.dropped_captions == {"empty": 1, "min_words": 0, "max_words": 0, "repeated": 1, "max_captions": 0}
    assert (first.num_captions_changed, second.dropped_captions["min_words"]) == (1, 1)
    (near,) = first.near_held_out
    assert (near.key, near.near) == ("d", f"folder:{sources[2]}: t")
    assert near.distance <= 4


def test_captions_of_duplicates_may_be_joined(sources: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (sources[0] / "b.txt").write_text("A boat at sea .\na ship\n")
    run(sources, tmp_path / "out", join_captions=True)
    assert samples(tmp_path / "out")["0-b"].captions == ("A boat at sea .", "a ship", "the boat")


def test_samples_say_their_source_and_lose_their_label(
    tmp_path: Path, write_tar: Callable[..., Path], sources: tuple[Path, Path, Path]
) -> None:
    tar = write_tar("l.tar", [("k.jpg", encode_picture(30)), ("k.json", b'{"captions": ["a big dog"], "label": 3}')])
    run(sources, tmp_path / "out", parts=[{"source": f"webdataset:{tar}"}])
    assert samples(tmp_path / "out")["0-k"].label is None
    assert f'"source": "webdataset:{tar}"'.encode() in (tmp_path / "out" / "data-000000.tar").read_bytes()


def test_people_of_different_sources_are_different(
    tmp_path: Path, write_tar: Callable[..., Path], sources: tuple[Path, Path, Path]
) -> None:
    text = b'{"captions": ["a tall man"], "identity": 7}'
    files = {
        name: [(f"{name}.jpg", encode_picture(seed)), (f"{name}.json", text)] for name, seed in (("k", 30), ("m", 31))
    }
    parts = [{"source": f"webdataset:{write_tar(f'{name}.tar', members)}"} for name, members in files.items()]
    run(sources, tmp_path / "out", parts=parts)
    found = samples(tmp_path / "out")
    assert (found["0-k"].identity, found["1-m"].identity) == ("0-7", "1-7")


def test_a_weight_takes_a_share_of_the_items(sources: tuple[Path, Path, Path], tmp_path: Path) -> None:
    parts = [{"source": f"folder:{sources[1]}", "weight": 0.5}]
    report = run(sources, tmp_path / "out", parts=parts)
    assert (report.sources[0].num_items, report.sources[0].num_taken) == (4, 2)


def stop_at(work: str, done: int) -> Watch:
    def on_progress(told: str, so_far: int, total: int, broken: Sequence[str]) -> None:
        if (told.split()[0], so_far) == (work, done):
            raise KeyboardInterrupt

    return Told(on_progress)


@pytest.mark.parametrize(
    ("work", "done", "measured", "written"), [("reading", 4, 2, 3), ("writing", 0, 0, 3), ("writing", 4, 0, 1)]
)
@pytest.mark.parametrize("resume", [False, True])
def test_a_stopped_mix_goes_on_where_it_was(
    sources: tuple[Path, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: str,
    done: int,
    measured: int,
    written: int,
    resume: bool,
) -> None:
    """Asked for or not."""
    with pytest.raises(KeyboardInterrupt):
        run(sources, tmp_path / "cut", stop_at(work, done))
    counts = {"measure": 0, "_write_shard": 0}

    def counting(module: Any, name: str) -> None:
        function = getattr(module, name)

        def counted(*arguments: Any) -> Block:
            counts[name] += 1
            return function(*arguments)

        monkeypatch.setattr(module, name, counted)

    counting(mix_module, "measure")
    counting(selection_module, "_write_shard")
    resumed = run(sources, tmp_path / "cut", resume=resume)
    assert counts["_write_shard"] == written
    assert (counts["measure"] == 0) == (measured == 0)
    assert resumed == run(sources, tmp_path / "whole")
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "cut" / path.name).read_bytes(), path.name


def test_threads_write_the_same_bytes(sources: tuple[Path, Path, Path], tmp_path: Path) -> None:
    run(sources, tmp_path / "serial")
    run(sources, tmp_path / "many", engine=compute_in_threads)
    for path in (tmp_path / "serial").iterdir():
        assert path.read_bytes() == (tmp_path / "many" / path.name).read_bytes(), path.name


def test_an_error_in_a_thread_ends_the_work(tmp_path: Path) -> None:
    def compute(start: int, stop: int) -> Block:
        raise UserError(f"block at {start}")

    stage = Stage("x", {}, 8, 2, compute)
    with pytest.raises(UserError, match="block at 0"):
        fill(tmp_path / "b", stage, lambda: stage, compute_in_threads, SILENT, resume=False)


def test_a_dry_run_tells_the_plan_and_a_resumed_one_writes_it(sources: tuple[Path, Path, Path], tmp_path: Path) -> None:
    told = run(sources, tmp_path / "out", dry_run=True)
    assert list((tmp_path / "out").glob("*.tar")) == []
    report = run(sources, tmp_path / "out", resume=True)
    assert (told.num_images, told.num_captions, told.num_shards) == (report.num_images, report.num_captions, 0)


def test_a_finished_mix_is_not_done_again(sources: tuple[Path, Path, Path], tmp_path: Path) -> None:
    report = run(sources, tmp_path / "out")
    with pytest.raises(UserError, match="are here already"):
        run(sources, tmp_path / "out")
    assert run(sources, tmp_path / "out", resume=True) == report
    with pytest.raises(UserError, match=r"mix\.max_distance is 4 there and 3 here"):
        run(sources, tmp_path / "out", resume=True, max_distance=3)
    (tmp_path / "out" / "data.mix.json").write_text("{}")
    with pytest.raises(UserError, match=r"data\.mix\.json: damaged"):
        run(sources, tmp_path / "out", resume=True)


def test_shards_that_are_not_ours_are_left_alone(sources: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (tmp_path / "data-000007.tar").write_bytes(b"")
    with pytest.raises(UserError, match="holds shards 'data' that we did not write"):
        run(sources, tmp_path)


def test_a_mix_of_which_nothing_is_left_is_an_error_with_the_counts(
    sources: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"nothing is left to write \(taken: 4, .*held out: 4, .*duplicates: 0\)"):
        run(sources, tmp_path / "out", parts=[{"source": f"folder:{sources[1]}"}], without=[f"folder:{sources[1]}"])
