"""Suites as they are written, and those that are shipped."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pocketclip.errors import UserError
from pocketclip.evaluate.class_sets import class_set
from pocketclip.evaluate.suites import read_suite, suite_names

SET: dict[str, Any] = {"name": "a", "folders": "a", "task": "zero_shot", "score": "top1_accuracy"}


def test_the_suites_that_papers_report_are_shipped() -> None:
    assert set(suite_names()) >= {"datacomp", "mobileclip", "scaling_down", "quick"}


@pytest.mark.parametrize("name", suite_names())
def test_a_shipped_suite_asks_for_scores_that_its_protocols_give(name: str) -> None:
    suite = read_suite(name)
    for one in suite.sets:
        protocol = one.settings.get("protocol")
        if protocol is not None:
            assert set(one.score) <= set(class_set(protocol).metrics), one.name


def test_datacomp_has_its_38_sets_and_their_main_metrics() -> None:
    sets = {one.name: one for one in read_suite("datacomp").sets}
    assert len(sets) == 38
    by_class = {name for name, one in sets.items() if one.score == ("mean_class_accuracy",)}
    assert by_class == {"caltech101", "aircraft", "flowers102", "pets"}
    groups = [group for one in sets.values() for group in one.groups]
    assert {group: groups.count(group) for group in groups} == {"VTAB": 13, "ImageNet shifts": 6, "Retrieval": 3}
    assert not [name for name, one in sets.items() if one.unmeasured]
    others = {name: one.score for name, one in sets.items() if name not in by_class and len(one.score) == 1}
    assert {name: score for name, (score,) in others.items() if score != "top1_accuracy"} == {
        "winogavil": "jaccard_10_12", "iwildcam": "macro_f1", "fmow": "worst_group_accuracy",
        "dollar_street": "worst_group_top5_accuracy", "geode": "worst_group_accuracy"
    }  # fmt: skip


def test_mobileclip_and_scaling_down_have_the_sets_of_their_papers() -> None:
    mobileclip = [one.name for one in read_suite("mobileclip").sets]
    shifts = ["imagenet_v2", "imagenet_a", "imagenet_o", "imagenet_r", "objectnet"]
    assert mobileclip == ["imagenet", *shifts, "mscoco", "flickr30k"]
    scaling = {one.name for one in read_suite("scaling_down").sets}
    assert scaling >= {"imagenet", "imagenet_sketch", "imagenet_probe", "mscoco", "flickr30k"}
    learned = {one.name: one.settings for one in read_suite("scaling_down").sets if one.train_folders}
    assert learned == {
        "imagenet_probe": {"sweep": "scaling_down"}, "imagenet_5_shot": {"shots": 5}, "imagenet_10_shot": {"shots": 10}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([], r"sets: .*at least 1"),
        ([SET, SET], "the name a stands for several sets"),
        ([{"name": "a"}], "the set a needs task, folders, score; or unmeasured"),
        ([{**SET, "task": "zeroshot"}], r"x\.yaml: a: Unknown task 'zeroshot'\. Did you mean 'zero_shot'\?"),
        ([{**SET, "settings": {"protocl": "pets"}}], "a: --set: .*protocl"),
        ([{**SET, "folder": "x"}], r"nknown key 'folder'\. Did you mean 'folders'\?"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(sets: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"title": "mine", "sets": sets}))
    with pytest.raises(UserError, match=message):
        read_suite(str(tmp_path / "x.yaml"))


def test_an_unknown_suite_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"Unknown suite or file of one 'datacmp'\. Did you mean 'datacomp'"):
        read_suite("datacmp")
