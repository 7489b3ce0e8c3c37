"""Scores of groups of images against slow counts, and groups as sources tell them."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import encode_picture
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.data.labels import NO_LABEL
from pocketclip.errors import UserError
from pocketclip.evaluate.classification import classify
from pocketclip.evaluate.groups import MOST_SHOWN, Groups, group_scores, groups_line, read_groups, worst_groups
from pocketclip.evaluate.task import TaskData, measure
from pocketclip.evaluate.tasks import make_tasks
from pocketclip.records import EvalResult, GroupScore, Interval, read_records, write_record

WriteTar = Callable[[str, Sequence[tuple[str, bytes]]], Path]


def groups_of(numbers: Sequence[int], num_groups: int, left_out: Sequence[int] = ()) -> Groups:
    names = tuple(f"g{number}" for number in range(num_groups))
    return Groups("region", np.array(numbers), names, np.array([n not in left_out for n in range(num_groups)]))


def slow_shares(ranks: Sequence[int], groups: Groups, k: int) -> dict[int, float]:
    """Accuracy of each group that an image is of, counted one image after the other."""
    hits: dict[int, list[bool]] = {}
    for rank, number in zip(ranks, groups.numbers.tolist(), strict=True):
        if number != NO_LABEL:
            hits.setdefault(number, []).append(rank < k)
    return {number: sum(own) / len(own) for number, own in hits.items()}


@pytest.mark.parametrize("seed", range(6))
def test_the_worst_of_groups_equals_a_slow_count(seed: int) -> None:
    random = np.random.default_rng(seed)
    images = np.sign(random.standard_normal((90, 3))).astype(np.float32) / np.float32(2)  # many ties
    classes = np.sign(random.standard_normal((8, 3))).astype(np.float32) / np.float32(2)
    ranks = classify(images, classes, random.integers(0, 8, 90)).ranks
    numbers = random.choice([NO_LABEL, 0, 1, 3, 4], 90)  # of group 2 there is none
    numbers[numbers == 4] = 3
    numbers[7] = 4  # a group of one
    groups = groups_of(numbers.tolist(), 5, left_out=[0] if seed % 2 else [])
    found = worst_groups(ranks, groups, 8)
    for name, k in {"worst_group_accuracy": 1, "worst_group_top5_accuracy": 5}.items():
        slow = slow_shares(ranks.tolist(), groups, k)
        assert found[name].value == pytest.approx(min(slow[n] for n in slow if groups.counted[n]))
        assert found[name].low <= found[name].value
        metric = name.removeprefix("worst_group_").replace("top5_", "").replace("accuracy", f"top{k}_accuracy")
        told = [own.model_dump()[metric] for own in group_scores(ranks, groups, 8)]
        assert told == [pytest.approx(slow[n]) if n in slow else None for n in range(5)]
    sizes = [own.num_images for own in group_scores(ranks, groups, 8)]
    assert sizes == [int((numbers == number).sum()) for number in range(5)]


@pytest.mark.parametrize("seed", [0, 3])
def test_in_every_draw_the_worst_group_is_looked_for_anew(seed: int) -> None:
    random = np.random.default_rng(seed)
    ranks, numbers = random.integers(0, 2, 40), random.integers(0, 4, 40)
    found = worst_groups(ranks, groups_of(numbers.tolist(), 4), 3)
    assert list(found) == ["worst_group_accuracy"]  # top-5 says nothing among three
    draws, worst = np.random.default_rng(0), []
    for _ in range(1000):
        drawn = draws.integers(0, 40, 40)
        shares = slow_shares(ranks[drawn].tolist(), groups_of(numbers[drawn].tolist(), 4), 1)
        worst.append(min(shares.values()))
    interval = found["worst_group_accuracy"]
    assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(worst, [2.5, 97.5])))


def test_a_group_that_no_image_of_a_draw_is_of_is_not_there() -> None:
    found = worst_groups(np.array([1, 0, 0, 0]), groups_of([0, 1, 1, 1], 3), 3)["worst_group_accuracy"]
    assert (found.value, found.low, found.high) == (0.0, 0.0, 1.0)


def test_no_image_of_a_group_that_counts_is_an_error() -> None:
    with pytest.raises(UserError, match="no image that could be measured is of a region that counts"):
        worst_groups(np.array([0, 1]), groups_of([NO_LABEL, 1], 2, left_out=[1]), 3)


# Groups as they are written

VALUES = ["Asia", "Africa", "", "Asia", "Africa", "Oceania"]


def table(folder: Path, values: Sequence[Any], kind: str = "csv") -> str:
    for number in range(len(values)):
        (folder / f"{number}.png").write_bytes(encode_picture(number, (8, 8), kind="PNG"))
    rows = [
        {"image": f"{n}.png", "class": "cat" if n % 2 else "dog", "region": value} for n, value in enumerate(values)
    ]
    if kind == "csv":
        lines = ["image,class,region", *(",".join("" if v is None else str(v) for v in row.values()) for row in rows)]
        (folder / "t.csv").write_text("\n".join(lines))
    elif kind == "jsonl":
        (folder / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        stored = {key: [row[key] for row in rows] for key in rows[0]}
        if kind == "bytes":
            stored["image"] = [(folder / f"{number}.png").read_bytes() for number in range(len(values))]
        pq.write_table(pa.table(stored), folder / "t.parquet")
    suffix = kind if kind in ("csv", "jsonl") else "parquet"
    return f"{suffix}:{folder / f't.{suffix}'},label=class,metadata=region"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "bytes"])
def test_a_column_of_a_table_tells_the_groups(tmp_path: Path, kind: str) -> None:
    source = open_source(table(tmp_path, VALUES, kind))
    groups = read_groups(source, "region")
    assert groups.names == ("Africa", "Asia", "Oceania")
    assert groups.numbers.tolist() == [1, 0, NO_LABEL, 1, 0, 2]
    assert groups.notes == ["1 images without a region are in no group"]
    other = open_source(table(tmp_path, ["Asia", *VALUES[1:5], "Asia"], kind))
    assert other.fingerprint() != source.fingerprint()


@pytest.mark.parametrize("kind", ["folder", "webdataset"])
def test_json_beside_a_picture_tells_the_groups(tmp_path: Path, write_tar: WriteTar, kind: str) -> None:
    told = [{"label": n % 2, **({"region": value} if value else {})} for n, value in enumerate(VALUES)]
    members = [
        (f"{n}.{ending}", data)
        for n, own in enumerate(told)
        for ending, data in (("jpg", encode_picture(n)), ("json", json.dumps(own).encode()))
    ]
    if kind == "webdataset":
        spec = f"webdataset:{write_tar('a.tar', members)}"
    else:
        for number, (name, data) in enumerate(members):
            path = tmp_path / "set" / ("cat" if number % 4 < 2 else "dog") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        spec = f"folder:{tmp_path / 'set'},classes=folders"
    source = open_source(spec)
    groups = read_groups(source, "region")
    names = {source.key(n)[-1]: groups.names[g] if g != NO_LABEL else "" for n, g in enumerate(groups.numbers.tolist())}
    assert names == {str(number): value for number, value in enumerate(VALUES)}


def array(values: Sequence[float], kind: str = "int64") -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values, kind))
    return buffer.getvalue()


def shards(write_tar: WriteTar, arrays: Sequence[bytes | None], name: str = "0.tar") -> Path:
    members = []
    for number, data in enumerate(arrays):
        members += [
            (f"s{number:07d}.webp", encode_picture(number, kind="WEBP")),
            (f"s{number:07d}.cls", b"%d" % (number % 2)),
        ]
        members += [] if data is None else [(f"s{number:07d}.npy", data)]
    return write_tar(name, members)


def test_the_numbers_beside_a_sample_tell_the_groups(write_tar: WriteTar) -> None:
    """As DataComp downloads the sets of WILDS; floats such as an income make all of an array floats."""
    rows = [array([0, 15, 3]), array([2, 14, 1], "float32"), None, array([5, 1, 1]), array([-1, 1, 1])]
    source = open_source(f"webdataset:{shards(write_tar, rows)},npy=region+year+y")
    assert source.metadata(0) == source[0].metadata == {"region": 0, "year": 15, "y": 3}
    names = ("Asia", "Europe", "Africa", "Americas", "Oceania", "Other")
    groups = read_groups(source, "region", names, ["Other"])
    assert groups.numbers.tolist() == [0, 2, NO_LABEL, 5, NO_LABEL]
    assert groups.counted.tolist() == [True] * 5 + [False]
    assert groups.notes == [
        "2 images without a region are in no group",
        "region Other (1 images) is left out of the worst region",
    ]
    assert read_groups(source, "region").names == ("0", "2", "5")


@pytest.mark.parametrize(
    ("values", "settings", "reason"),
    [
        (VALUES, ("country",), "no image says its country, which --set grouped_by=country asks for"),
        ([0, 1, 6, 1], ("region", ("a", "b")), r"2\.png: region 6 is none of the 2 groups .* \(a, b; .*from 0 to 1\)"),
        (VALUES, ("region", ("Asia", "Africa")), r"5\.png: region Oceania is none of the 2 groups"),
        (VALUES, ("region", (), ("Other",)), r"left_out_groups: Unknown region 'Other'\. Known: Africa, Asia, Oceania"),
        ([0, -2], ("region",), r"1\.png: region '?-2'? is no group; a group is a name, or 0, 1"),
        ([0.5, 1], ("region",), r"0\.png: region '?0\.5'? is no group"),
        ([True, "b"], ("region",), r"0\.png: region 'True' is no group"),
        (["", ""], ("region",), "no image says its region"),
    ],
)
def test_groups_that_cannot_be_told_are_one_clear_line(
    tmp_path: Path, values: Sequence[Any], settings: tuple[Any, ...], reason: str
) -> None:
    source = open_source(table(tmp_path, values, "jsonl"))
    with pytest.raises(UserError, match=reason) as error:
        read_groups(source, *settings)
    assert "\n" not in str(error.value)


def test_what_an_error_says_of_the_numbers_does_it(write_tar: WriteTar) -> None:
    shard = shards(write_tar, [array([1, 0]), array([0, 0])])
    with pytest.raises(UserError, match=r"webdataset:SHARDS,npy=region") as error:
        read_groups(open_source(f"webdataset:{shard}"), "region")
    assert "csv:FILE,metadata=region" in str(error.value)
    with pytest.raises(UserError, match=r"holds 2 values \(int64\), and npy=region names 1 numbers; name each"):
        read_groups(open_source(f"webdataset:{shard},npy=region"), "region")
    assert read_groups(open_source(f"webdataset:{shard},npy=region+country"), "region").numbers.tolist() == [1, 0]


@pytest.mark.parametrize("data", [b"", b"no array", array(["a"], "U1"), array([1, 2])[:-3]])
def test_a_damaged_array_is_no_group_or_one_clear_line(write_tar: WriteTar, data: bytes) -> None:
    source = open_source(f"webdataset:{shards(write_tar, [array([1, 2]), data])},npy=region+y")
    if data == array(["a"], "U1"):
        with pytest.raises(UserError, match=r"holds 1 values \(<U1\), and npy="):
            read_groups(source, "region")
    else:
        assert read_groups(source, "region").numbers.tolist() == [0, NO_LABEL]


def test_names_that_repeat_are_an_error(write_tar: WriteTar) -> None:
    shard = shards(write_tar, [array([1])])
    with pytest.raises(UserError, match=r"names differ and none is empty, such as region\+year \(got 'a\+a'\)"):
        open_source(f"webdataset:{shard},npy=a+a")


def test_one_picture_of_two_groups_is_an_error(tmp_path: Path) -> None:
    table(tmp_path, ["Asia", "Africa"])
    (tmp_path / "t.csv").write_text("image,class,region\n0.png,dog,Asia\n1.png,cat,Africa\n0.png,dog,Africa\n")
    with pytest.raises(UserError, match=r"line 4: 0\.png is region Africa here and region Asia above"):
        open_source(f"csv:{tmp_path / 't.csv'},label=class,metadata=region")


def test_a_cell_that_is_a_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 1: column 'region' holds no name or number but \"\['Asia'\]\""):
        open_source(table(tmp_path, [["Asia"], "b"], "jsonl"))


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    table(tmp_path, VALUES)
    with pytest.raises(UserError, match=r"no column 'land'\. Columns: image, class, region\. .*metadata=COLUMN"):
        open_source(f"csv:{tmp_path / 't.csv'},label=class,metadata=land")


def test_without_the_settings_fingerprints_are_those_of_before(tmp_path: Path, write_tar: WriteTar) -> None:
    table(tmp_path, VALUES)
    assert "metadata" not in open_source(f"csv:{tmp_path / 't.csv'},label=class").chosen_by
    assert open_source(f"webdataset:{shards(write_tar, [array([1])])}").chosen_by == {"kind": "webdataset"}


# The task


def asked(model: PretrainedModel, spec: str, **settings: Any) -> EvalResult:
    (task,) = make_tasks(["zero_shot"], settings)
    return measure(task, model, TaskData(open_source(spec)))


def test_zero_shot_gives_a_score_for_each_group_and_the_worst(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    spec = table(tmp_path, VALUES)
    result = asked(tiny_pretrained, spec, grouped_by="region", left_out_groups="Oceania")
    plain = asked(tiny_pretrained, spec)
    assert not plain.groups
    assert "groups" not in plain.to_json()
    assert list(result.metrics)[:3] == ["top1_accuracy", "mean_class_accuracy", "worst_group_accuracy"]
    assert {name: value for name, value in result.metrics.items() if name != "worst_group_accuracy"} == plain.metrics
    shares = {own.name: own.top1_accuracy for own in result.groups}
    assert [own.name for own in result.groups] == ["Africa", "Asia", "Oceania"]
    worst = result.metrics["worst_group_accuracy"]
    assert isinstance(worst, Interval)
    assert worst.value == min(shares["Africa"] or 0.0, shares["Asia"] or 0.0)
    write_record(result, tmp_path / "run", "zero_shot")
    (read,) = read_records(tmp_path / "run")
    assert isinstance(read, EvalResult)
    assert read.groups == result.groups
    (task,) = make_tasks(["zero_shot"], {})
    assert ["top-1 of the worst group", worst.percent()] in task.rows(result)
    assert task.remarks(result)[0].startswith("by region: ")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"metrics": "worst_group_accuracy"}, "of which groups. Add --set grouped_by=KEY, such as region"),
        ({"group_names": "a,b"}, "group_names: has no effect without --set grouped_by=KEY"),
        ({"left_out_groups": "a"}, "left_out_groups: has no effect without --set grouped_by=KEY"),
        ({"grouped_by": "country"}, "no image says its country"),
        ({"grouped_by": "region", "metrics": "worst_group_top5_accuracy"}, "says nothing among 2 classes"),
    ],
)
def test_settings_of_groups_that_do_not_fit_are_one_clear_line(
    tiny_pretrained: PretrainedModel, tmp_path: Path, settings: dict[str, str], reason: str
) -> None:
    with pytest.raises(UserError, match=reason) as error:
        asked(tiny_pretrained, table(tmp_path, VALUES), **settings)
    assert "\n" not in str(error.value)


def test_of_many_groups_the_worst_are_told() -> None:
    scores = [GroupScore(name=str(n), num_images=4, top1_accuracy=n / 40) for n in range(30)]
    line = groups_line("region", [*scores, GroupScore(name="none", num_images=0)])
    assert line.startswith("by region: 0 0.0 (of 4), 1 2.5 (of 4)")
    assert line.count("(of 4)") == MOST_SHOWN
    assert line.endswith(", ...")
