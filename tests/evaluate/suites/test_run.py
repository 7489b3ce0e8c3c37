"""A suite on a tiny model: what is read, what is kept, what is left out."""

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pocketclip.features.encode as encode
import teachers
from conftest import QuietWatch, encode_picture
from pocketclip.asked import open_model
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.data.shards import write_shards
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError
from pocketclip.evaluate.suites import Suite, read_suite
from pocketclip.evaluate.suites.run import Outcome, run_suite
from pocketclip.evaluate.task import TaskData
from pocketclip.evaluate.tasks.retrieval import Retrieval
from pocketclip.evaluate.tasks.zero_shot import ZeroShot
from pocketclip.features.encode import embed_source
from pocketclip.records import EvalResult, Interval, read_record

CLASSES = ("cat", "dog", "red_car")
PICTURES = 12


def entry(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "folders": "Pets", "task": "zero_shot", "score": "top1_accuracy", **changes}


BOTH_WAYS = ["text_to_image_recall@1", "image_to_text_recall@1"]
SETS = [
    entry("one"),
    entry("texts", data="folder:cat", folders="captions", task="retrieval", score=BOTH_WAYS),
    entry("seven", settings={"templates": "seven"}, groups="classes"),
    entry("gone", folders=["nowhere", "neither"]),
    entry("never", unmeasured="its score is not measured here"),
]


def suite(*sets: dict[str, Any]) -> Suite:
    return Suite.parse({"title": "mine", "average": "the mean", "sets": list(sets or SETS)}, place="x")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "sets"
    for number in range(PICTURES):
        path = folder / "pe-ts" / CLASSES[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_picture(number, (40, 30), kind="PNG"))
    (folder / "captions" / "cat").mkdir(parents=True)
    for number in range(5):
        (folder / "captions" / "cat" / f"{number}.png").write_bytes(encode_picture(50 + number, (30, 30), kind="PNG"))
        (folder / "captions" / "cat" / f"{number}.txt").write_text(f"picture {number} caption 1\n")
    return folder


class Counted:
    """How many pictures were decoded."""

    def __init__(self) -> None:
        self.count = 0


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted, decode = Counted(), encode.decode_picture

    def counting(*arguments: Any, **options: Any) -> Any:
        counted.count += 1
        return decode(*arguments, **options)

    monkeypatch.setattr(encode, "decode_picture", counting)
    return counted


def test_sets_are_measured_as_their_tasks_measure_them(
    tiny_pretrained: PretrainedModel, root: Path, decoded: Counted
) -> None:
    outcome = run_suite(suite(), tiny_pretrained, root)
    assert decoded.count == PICTURES + 5  # of two sets that share images they are read once
    assert list(outcome.results) == ["one", "texts", "seven"]
    assert outcome.missing == {"gone": "no folder nowhere or neither", "never": "its score is not measured here"}
    source = open_source(f"folder:{root / 'pe-ts'},classes=folders")
    for name, task in (("one", ZeroShot()), ("seven", ZeroShot(templates="seven"))):
        assert outcome.results[name].metrics == task.run(tiny_pretrained, TaskData(source)).metrics
    texts = TaskData(open_source(f"folder:{root / 'captions' / 'cat'}"))
    assert outcome.results["texts"].metrics == Retrieval().run(tiny_pretrained, texts).metrics


def test_means_are_over_what_is_there_and_say_so(tiny_pretrained: PretrainedModel, root: Path) -> None:
    outcome = run_suite(suite(), tiny_pretrained, root)
    values = outcome.to_json()

    def of(name: str, metric: str) -> float:
        value = outcome.results[name].metrics[metric]
        assert isinstance(value, Interval)
        return value.value

    both = np.mean([of("texts", f"{way}_recall@1") for way in ("text_to_image", "image_to_text")])
    expected = {"one": of("one", "top1_accuracy"), "texts": both, "seven": of("seven", "top1_accuracy")}
    assert values["scores"] == pytest.approx(expected)
    assert values["means"]["the mean"] == {
        "value": pytest.approx(np.mean(list(expected.values()))),
        "num_sets": 3,
        "of": 5,
    }
    assert values["means"]["classes"] == {"value": pytest.approx(expected["seven"]), "num_sets": 1, "of": 1}


def test_what_is_kept_is_not_measured_again_unless_something_changed(
    tiny_pretrained: PretrainedModel, root: Path, tmp_path: Path, decoded: Counted
) -> None:
    out = tmp_path / "out"
    first = run_suite(suite(), tiny_pretrained, root, out=out)
    record = read_record(out / "records" / "one.json")
    assert isinstance(record, EvalResult)
    assert record.metrics == first.results["one"].metrics
    decoded.count = 0
    notes = QuietWatch()
    again = run_suite(suite(), tiny_pretrained, root, out=out, watch=notes)
    assert (decoded.count, again.to_json()) == (0, first.to_json())
    assert [line for line in notes.notes if "as kept" in line] == [line for line in notes.notes if " sets" in line]
    (out / "records" / "one.json").write_text("{")
    assert run_suite(suite(), tiny_pretrained, root, out=out).to_json() == first.to_json()
    assert decoded.count == PICTURES  # a damaged record is made again
    decoded.count = 0
    (root / "pe-ts" / "dog" / "new.png").write_bytes(encode_picture(99, (20, 30), kind="PNG"))
    run_suite(suite(), tiny_pretrained, root, out=out)
    assert decoded.count == PICTURES + 1  # the other set stays
    decoded.count = 0
    run_suite(suite(*SETS[:2], entry("seven", settings={"templates": "eighty"})), tiny_pretrained, root, out=out)
    assert decoded.count == PICTURES + 1
    decoded.count = 0
    run_suite(suite(), other_model(), root, out=out)
    assert decoded.count == PICTURES + 1 + 5


def other_model() -> PretrainedModel:
    import torch

    from conftest import build_tiny_pretrained

    model = build_tiny_pretrained()
    with torch.no_grad():
        next(iter(model.model.parameters())).add_(0.1)
    return model


def test_a_suite_that_was_stopped_goes_on_where_it_was(
    tiny_pretrained: PretrainedModel, root: Path, tmp_path: Path, decoded: Counted
) -> None:
    class Stop(QuietWatch):
        def note(self, message: str) -> None:
            if "1 of 3 sets" in message:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_suite(suite(), tiny_pretrained, root, out=tmp_path / "out", watch=Stop())
    kept = json.loads((tmp_path / "out" / "suite.json").read_text())
    assert list(kept["made_of"]) == ["one"]
    decoded.count = 0
    outcome = run_suite(suite(SETS[0], SETS[1]), tiny_pretrained, root, out=tmp_path / "out")
    assert (decoded.count, list(outcome.results)) == (5, ["one", "texts"])


def test_a_set_that_cannot_be_measured_does_not_stop_the_others(
    tiny_pretrained: PretrainedModel, root: Path, tmp_path: Path
) -> None:
    sets = (entry("wrong", settings={"protocol": "pets"}), entry("none", score="top_accuracy"), entry("right"))
    outcome = run_suite(suite(*sets), tiny_pretrained, root, out=tmp_path / "out")
    assert list(outcome.results) == ["right"]
    assert "are none of the 37 of pets" in outcome.missing["wrong"]
    assert "Unknown score of zero_shot 'top_accuracy'. Did you mean 'top1_accuracy'" in outcome.missing["none"]
    assert json.loads((tmp_path / "out" / "suite.json").read_text())["missing"] == outcome.missing


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ((SETS[3],), "sets: holds none of the sets of mine; folders looked for: nowhere"),
        (
            (entry("wrong", settings={"protocol": "pets"}),),
            "none of its sets .* wrong: .*none of the 37",
        ),
    ],
)
def test_where_nothing_can_be_measured_it_says_why(
    sets: tuple[dict[str, Any], ...], message: str, tiny_pretrained: PretrainedModel, root: Path
) -> None:
    with pytest.raises(UserError, match=message):
        run_suite(suite(*sets), tiny_pretrained, root)
    with pytest.raises(UserError, match="no such folder; --root names"):
        run_suite(suite(*sets), tiny_pretrained, root / "nowhere")


def test_progress_says_which_set_and_what_is_left(tiny_pretrained: PretrainedModel, root: Path) -> None:
    notes = QuietWatch()
    run_suite(suite(), tiny_pretrained, root, watch=notes)
    done = [line for line in notes.notes if " sets" in line]
    assert done[0].startswith("1 of 3 sets, less than a minute left: one: ")
    assert done[-1].startswith("3 of 3 sets: ")


def test_shards_bring_their_own_class_names_and_templates(tiny_pretrained: PretrainedModel, root: Path) -> None:
    source = open_source(f"folder:{root / 'pe-ts'},classes=folders")
    folder = root / "wds_x_test"
    (folder / "test").mkdir(parents=True)
    write_shards(source, folder / "test")
    only = suite(entry("x", folders="wds_x_test"))
    with pytest.raises(UserError, match=r"wds_x_test: has shards and no classnames\.txt and no zeroshot_"):
        run_suite(only, tiny_pretrained, root)
    (folder / "classnames.txt").write_text("a cat\na dog\na car\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a picture of {c}\nscene {c}\n")
    result = run_suite(only, tiny_pretrained, root).results["x"]
    assert result.protocol is not None
    assert (result.num_images, result.protocol.num_templates, result.protocol.num_classes) == (PICTURES, 2, 3)


def npy(values: list[float]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values))
    return buffer.getvalue()


def write_wilds(root: Path, name: str, num_classes: int, numbers: list[list[float]]) -> None:
    """A set as DataComp downloads those of WILDS: picture, class and numbers of a sample, names and templates."""
    folder = root / name
    (folder / "test").mkdir(parents=True)
    with tarfile.open(folder / "test" / "0.tar", "w") as archive:
        for number, values in enumerate(numbers):
            key, data = f"s{number:07d}", encode_picture(number, kind="WEBP")
            for ending, member in (("webp", data), ("cls", b"%d" % (number % num_classes)), ("npy", npy(values))):
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(member)
                archive.addfile(info, io.BytesIO(member))
    (folder / "classnames.txt").write_text("".join(f"thing {number}\n" for number in range(num_classes)))
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")


def test_datacomps_sets_of_groups_are_measured_as_they_come_unpacked(
    tiny_pretrained: PretrainedModel, tmp_path: Path
) -> None:
    write_wilds(tmp_path, "wds_wilds-iwildcam_test", 7, [[0] * 9] * 20)
    write_wilds(tmp_path, "wds_wilds-fmow_test", 7, [[5 if n == 3 else n % 3, 15, n % 7] for n in range(20)])
    write_wilds(tmp_path, "wds_dollar_street_test", 7, [[n % 4, 54.5 * n, n % 2] for n in range(20)])
    write_wilds(tmp_path, "wds_geode_test", 7, [[n % 6, n] for n in range(20)])
    (tmp_path / "winogavil" / "winogavil_images").mkdir(parents=True)
    names = [f"p{number}" for number in range(10)]
    for number, name in enumerate(names):
        (tmp_path / "winogavil" / "winogavil_images" / f"{name}.jpg").write_bytes(encode_picture(50 + number))
    cells = [json.dumps(own).replace('"', '""') for own in (names, names[:2])]
    row = f',candidates,cue,associations,ID\n0,"{cells[0]}",owl,"{cells[1]}",0\n'
    (tmp_path / "winogavil" / "winogavil_dataset.csv").write_text(row)
    outcome = run_suite(read_suite("datacomp"), tiny_pretrained, tmp_path)
    assert set(outcome.results) == {"iwildcam", "fmow", "dollar_street", "geode", "winogavil"}
    results = outcome.results
    regions = {own.name: own for own in results["fmow"].groups}
    assert [own.num_images for own in regions.values()] == [6, 7, 6, 0, 0, 1]
    assert [name for name, own in regions.items() if not own.counts] == ["Other"]
    assert "region Other (1 images) is left out of the worst region" in results["fmow"].notes
    for name, key in (("fmow", "top1_accuracy"), ("geode", "top1_accuracy"), ("dollar_street", "top5_accuracy")):
        shares = [own.model_dump()[key] for own in results[name].groups if own.counts and own.num_images]
        (one,) = [own for own in outcome.suite.sets if own.name == name]
        assert outcome.score(one) == min(shares)
    assert len(results["dollar_street"].groups) == 4
    assert next(iter(results["iwildcam"].metrics)) == "macro_f1"
    mean = outcome.means()["DataComp's average"]
    assert (mean.num_sets, mean.of) == (5, 38)
    scores = [outcome.score(own) for own in outcome.suite.sets if own.name in results]
    assert mean.value == pytest.approx(np.mean(scores))
    assert not any("unmeasured" in reason or "not measured here" in reason for reason in outcome.missing.values())


def test_a_set_without_the_groups_that_its_score_needs_is_left_out_with_the_reason(
    tiny_pretrained: PretrainedModel, tmp_path: Path
) -> None:
    write_wilds(tmp_path, "wds_wilds-iwildcam_test", 7, [[0] * 9] * 8)
    write_wilds(tmp_path, "wds_geode_test", 7, [[0, 1, 2]] * 8)
    write_wilds(tmp_path, "wds_wilds-fmow_test", 7, [[7, 1, 2]] * 8)
    missing = run_suite(read_suite("datacomp"), tiny_pretrained, tmp_path).missing
    assert "holds 3 values (int64), and npy=region+country names 2 numbers" in missing["geode"]
    assert "s0000000: region 7 is none of the 6 groups that --set group_names names (Asia, " in missing["fmow"]


def test_a_probe_learns_from_another_folder(tiny_pretrained: PretrainedModel, root: Path) -> None:
    shutil.copytree(root / "pe-ts", root / "more")
    probe = entry("probe", task="linear_probe", score="top1_accuracy_embedding", train_folders="more")
    result = run_suite(suite(probe), tiny_pretrained, root).results["probe"]
    assert result.metrics["num_training_examples"] == PICTURES
    assert any("are in the training data, too" in note for note in result.notes)
    without = {**probe, "train_folders": "nowhere"}
    with pytest.raises(UserError, match="none of the sets"):
        run_suite(suite(without), tiny_pretrained, root)


def test_captions_are_added_to_images_that_are_embedded_already(
    tiny_pretrained: PretrainedModel, root: Path, decoded: Counted
) -> None:
    source = open_source(f"folder:{root / 'captions' / 'cat'}")
    whole = embed_source(tiny_pretrained.for_scores(), source)
    decoded.count = 0
    data = TaskData(source)
    data.image_embeddings(tiny_pretrained, QuietWatch())
    found = data.embeddings(tiny_pretrained, QuietWatch())
    assert decoded.count == 5
    for name in ("images", "texts", "text_images", "indices", "pictures", "caption_ids"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_an_empty_outcome_has_no_means() -> None:
    assert Outcome(suite(), "m").means() == {}


LEARNED = [
    entry("one"),
    entry("probe", task="linear_probe", score="top1_accuracy_embedding", train_folders="more"),
    entry("texts", data="folder:cat", folders="captions", task="retrieval", score=BOTH_WAYS),
    entry("shots", task="few_shot", settings={"shots": 2}, score="top1_accuracy_2_shot", train_folders="more"),
    entry("near", task="knn", settings={"k": 3}, score="top1_accuracy", train_folders="more"),
    entry("alone", task="knn", settings={"k": 3}, score="top1_accuracy"),
    entry("swept", task="linear_probe", settings={"sweep": "clip"}, score="top1_accuracy", train_folders="more"),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bundle", "another library's"])
def test_images_are_read_and_embedded_once_for_all_tasks_probes_and_shots_included(
    kind: str, tiny_pretrained: PretrainedModel, root: Path, tmp_path: Path, decoded: Counted
) -> None:
    model: Embedder = tiny_pretrained
    if kind != "bundle":
        model = open_model(f"hf:{teachers.write_huggingface_teacher(tmp_path / 'clip')}", device="cpu")
    own = [one for one in LEARNED if kind == "bundle" or one["name"] != "swept"]
    for number in range(18):
        path = root / "more" / CLASSES[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_picture(200 + number, (40, 30), kind="PNG"))
    outcome = run_suite(suite(*own), model, root)
    assert not outcome.missing
    assert decoded.count == PICTURES + 18 + 5
    for one in own:  # as each alone measures it
        alone = run_suite(suite(one), model, root).results[one["name"]]
        assert outcome.results[one["name"]].metrics == alone.metrics
    if kind == "bundle":
        decoded.count = 0
        run_suite(suite(*own[:2]), model, root, out=tmp_path / "out")
        assert decoded.count == PICTURES + 18
        decoded.count = 0
        run_suite(suite(*own[:2], own[3]), model, root, out=tmp_path / "out")
        assert decoded.count == PICTURES + 18  # what is kept is not expected


def test_images_that_no_task_asks_about_are_not_read_unless_another_one_does(
    tiny_pretrained: PretrainedModel, root: Path, decoded: Counted
) -> None:
    pictures = sorted((root / "pe-ts").rglob("*.png"))
    rows = [f"{path.relative_to(root / 'pe-ts')},x,{path.parent.name}" for path in pictures]
    rows[::4] = [row.rpartition(",")[0] + "," for row in rows[::4]]  # three without a class
    (root / "pe-ts" / "table.csv").write_text("\n".join(["image,caption,label", *rows]))
    table = {"data": "csv:table.csv,label=label"}
    zero_shot = [entry(name, settings={"templates": name}, **table) for name in ("one", "seven")]
    shots = entry("shots", task="few_shot", settings={"shots": 1}, score="top1_accuracy_1_shot", **table)
    outcome = run_suite(suite(*zero_shot), tiny_pretrained, root)
    assert (decoded.count, list(outcome.results)) == (PICTURES - 3, ["one", "seven"])
    decoded.count = 0
    outcome = run_suite(suite(*zero_shot, shots), tiny_pretrained, root)
    assert (decoded.count, list(outcome.results)) == (PICTURES, ["one", "seven", "shots"])
    assert outcome.results["one"].num_images == PICTURES - 3
