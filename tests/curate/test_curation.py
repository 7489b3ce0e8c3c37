"""Filtered shards: the samples that stay with the captions that stay, whole after any interruption."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import pocketclip.curate.selection as selection_module
import pocketclip.curate.signals as signals_module
from conftest import Told, encode_picture
from pocketclip.curate.curation import carry_out
from pocketclip.curate.filter import FilterConfig, FilterReport, filtering
from pocketclip.curate.signals import open_measuring
from pocketclip.data import open_source
from pocketclip.data.shards import add_sample, new_shard
from pocketclip.data.source import Sample, Source
from pocketclip.errors import UserError
from pocketclip.stages.engine import compute_here
from pocketclip.stages.store import Block
from pocketclip.stages.watch import SILENT, BrokenItems, Watch


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks in a handful of samples."""
    monkeypatch.setattr(signals_module, "MEASURED_BLOCK", 4)


@pytest.fixture
def folder(make_folder: Callable[..., Path]) -> Path:
    """Eleven pictures with two captions: 3 is broken, 5 has one caption of seven words, 8 is the same file as 7."""
    folder = make_folder(11, 2)
    (folder / "003.jpg").write_bytes(b"no picture")
    (folder / "005.txt").write_text("picture 5\none two three four five six seven\n")
    (folder / "008.jpg").write_bytes((folder / "007.jpg").read_bytes())
    return folder


RULES = {"drop_duplicate_images": True, "min_caption_words": 4, "max_caption_words": 6}


def run(folder: Path, out: Path, watch: Watch = SILENT, **settings: Any) -> FilterReport:
    rules = FilterConfig.parse(settings.pop("rules", RULES), place="rules")
    open_stage = partial(open_measuring, f"folder:{folder}")
    settings = {"samples_per_shard": 3, **settings}
    curation = filtering(open_stage(), open_stage, f"folder:{folder}", rules, out)
    return carry_out(curation, compute_here, watch, **settings)


def samples(out: Path, name: str = "data") -> list[Sample]:
    source = open_source(f"webdataset:{out}/{name}-*.tar")
    return [source[index] for index in range(len(source))]


def test_shards_hold_the_samples_and_captions_that_stay(folder: Path, tmp_path: Path) -> None:
    report = run(folder, tmp_path / "out")
    source = open_source(f"folder:{folder}")
    found = samples(tmp_path / "out")
    assert [sample.key for sample in found] == ["000", "001", "002", "004", "006", "007", "009", "010"]
    for sample in found:
        assert sample.image == source[int(sample.key)].image
        assert sample.captions == source[int(sample.key)].captions
    assert report.model_dump() == {
        "num_images": 10,
        "num_captions": 20,
        "num_kept_images": 8,
        "num_kept_captions": 16,
        "num_broken": 1,
        "num_without_caption": 0,
        "dropped_images": {"drop_duplicate_images": 1, "no_caption_left": 1},
        "dropped_captions": {"min_caption_words": 1, "max_caption_words": 1},
        "num_shards": 3,
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "data-000000.tar",
        "data-000001.tar",
        "data-000002.tar",
        "data.filter.json",
    ]


def test_an_image_keeps_the_captions_that_pass(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", rules={"max_caption_words": 6})
    captions = {sample.key: sample.captions for sample in samples(tmp_path / "out")}
    assert captions["005"] == ("picture 5",)
    assert len(captions["006"]) == 2


def stop_at(work: str, done: int) -> Watch:
    def on_progress(told: str, so_far: int, total: int, broken: Sequence[str]) -> None:
        if (told, so_far) == (work, done):
            raise KeyboardInterrupt

    return Told(on_progress)


@pytest.mark.parametrize(
    ("work", "done", "measured", "written"),
    [
        ("measuring images", 0, 11, 3),
        ("measuring images", 8, 3, 3),
        ("measuring images", 11, 0, 3),
        ("writing shards", 3, 0, 2),
        ("writing shards", 8, 0, 0),
    ],
)
def test_a_stopped_filter_goes_on_where_it_was(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str, done: int, measured: int, written: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "cut", stop_at(work, done))
    assert not (tmp_path / "cut" / "data.filter.json").exists()
    counts = {"measured": 0, "written": 0}
    measure, write = signals_module.measure, selection_module._write_shard

    def counting_measure(source: Source, start: int, stop: int) -> Block:
        counts["measured"] += stop - start
        return measure(source, start, stop)

    def counting_write(*arguments: Any) -> Block:
        counts["written"] += 1
        return write(*arguments)

    monkeypatch.setattr(signals_module, "measure", counting_measure)
    monkeypatch.setattr(selection_module, "_write_shard", counting_write)
    resumed = run(folder, tmp_path / "cut", resume=True)
    assert counts == {"measured": measured, "written": written}
    assert resumed == run(folder, tmp_path / "whole")
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "cut" / path.name).read_bytes(), path.name


def test_a_finished_filter_is_not_done_again(folder: Path, tmp_path: Path) -> None:
    report = run(folder, tmp_path / "out")
    with pytest.raises(UserError, match="are here already"):
        run(folder, tmp_path / "out")
    assert run(folder, tmp_path / "out", resume=True) == report
    other = {**RULES, "min_caption_words": 5}
    with pytest.raises(UserError, match=r"rules\.min_caption_words is 4 there and 5 here"):
        run(folder, tmp_path / "out", rules=other, resume=True)


def test_half_written_shards_of_other_rules_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out", stop_at("writing shards", 3))
    with pytest.raises(UserError, match=r"rules\.min_caption_words is 4 there and 2 here"):
        run(folder, tmp_path / "out", rules={**RULES, "min_caption_words": 2}, resume=True)


def test_rules_may_change_while_only_measuring_was_done(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out", stop_at("measuring images", 11))
    report = run(folder, tmp_path / "out", rules={"min_caption_words": 4}, resume=True)
    assert report.num_kept_images == 10


def test_two_names_share_a_folder(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", name="one")
    run(folder, tmp_path / "out", name="two", rules={"max_caption_words": 2})
    assert (len(samples(tmp_path / "out", "one")), len(samples(tmp_path / "out", "two"))) == (8, 1)


def test_shards_that_are_not_ours_are_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data-000007.tar").write_bytes(b"")
    with pytest.raises(UserError, match="holds shards 'data' that we did not write"):
        run(folder, tmp_path)
    assert list(tmp_path.glob("*.blocks")) == []


def test_rules_that_drop_everything_are_an_error_with_the_counts(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'keep no image \(dropped: {"min_image_side": 10}\)'):
        run(folder, tmp_path / "out", rules={"min_image_side": 1000})


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"report": {}}'])
def test_a_damaged_report_is_named(folder: Path, tmp_path: Path, content: str) -> None:
    run(folder, tmp_path / "out")
    (tmp_path / "out" / "data.filter.json").write_text(content)
    with pytest.raises(UserError, match=r"data\.filter\.json"):
        run(folder, tmp_path / "out", resume=True)


def test_the_report_says_what_was_asked(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "data.filter.json").read_text())
    assert told["rules"]["min_caption_words"] == 4
    assert told["source"] == open_source(f"folder:{folder}").fingerprint()
    assert told["report"]["num_kept_images"] == 8


@pytest.mark.parametrize("at_once", [True, False])
def test_a_repeated_filter_comes_to_the_same_verdict(folder: Path, tmp_path: Path, at_once: bool) -> None:
    def verdict(share: float, **settings: Any) -> str:
        try:
            return str(run(folder, tmp_path / "out", BrokenItems(11, share), **settings).num_kept_images)
        except UserError as error:
            return str(error)

    refused = verdict(0.0)
    assert refused.startswith("1 of 11 items are broken")
    assert verdict(0.0, resume=at_once) == refused
    assert verdict(0.5, resume=at_once) == "8"  # what the message advises, with nothing else
    assert verdict(0.0, resume=True) == refused
    assert verdict(0.5, resume=True) == "8"


def test_a_finished_filter_of_an_earlier_version_is_still_known(folder: Path, tmp_path: Path) -> None:
    report = run(folder, tmp_path / "out")
    told = tmp_path / "out" / "data.filter.json"
    values = json.loads(told.read_text())
    assert [one[:2] for one in values.pop("broken")] == [["measuring images", 11]]
    told.write_text(json.dumps(values))
    assert run(folder, tmp_path / "out", resume=True) == report


def test_classes_and_metadata_stay(tmp_path: Path) -> None:
    with new_shard(tmp_path / "x.tar") as archive:
        for number in range(4):
            sample = Sample(f"k{number}", encode_picture(number), ("one two",), "", number % 2, {"split": "val"})
            add_sample(archive, sample)
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    shards = f"webdataset:{tmp_path}/x.tar"
    open_stage = partial(open_measuring, shards)
    rules = FilterConfig.parse({"min_image_side": 1}, place="rules")
    carry_out(filtering(open_stage(), open_stage, shards, rules, tmp_path / "out"), compute_here, SILENT)
    assert open_source(f"webdataset:{tmp_path / 'out'}").class_names == ("cat", "dog")
    assert [(one.label, one.metadata) for one in samples(tmp_path / "out")] == [
        (n % 2, {"split": "val"}) for n in range(4)
    ]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "classnames.txt").write_text("wolf\n")
    with pytest.raises(UserError, match="names 1 classes, from wolf to wolf, which are not those"):
        carry_out(filtering(open_stage(), open_stage, shards, rules, tmp_path / "other"), compute_here, SILENT)
