"""Every data set that is known by name."""

from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from pocketclip.errors import UserError
from pocketclip.evaluate.class_sets import class_set, read_templates, set_names, template_names
from pocketclip.evaluate.class_sets.flat import real_labels
from pocketclip.evaluate.class_sets.words import key
from pocketclip.evaluate.tasks.zero_shot import METRICS

SIZES = {
    **{"imagenet": 1000, "imagenet_v2": 1000, "imagenet_sketch": 1000, "imagenet_real": 1000},
    **{"imagenet_a": 200, "imagenet_r": 200, "imagenet_o": 200, "objectnet": 113, "objectnet_1k": 113},
    **{"cifar10": 10, "cifar100": 100, "food101": 101, "pets": 37, "flowers102": 102, "cars": 196, "aircraft": 100},
    **{"caltech101": 102, "dtd": 47, "eurosat": 10, "mnist": 10, "stl10": 10, "sun397": 397, "country211": 211},
}


def test_every_set_has_the_classes_that_are_published() -> None:
    assert {name: len(class_set(name).group_names) for name in set_names()} == SIZES


@pytest.mark.parametrize("name", set_names())
def test_every_set_says_where_it_is_from_and_is_whole(name: str) -> None:
    chosen = class_set(name)
    assert chosen.origin
    assert len(chosen.folders) in (0, len(chosen.group_names))
    assert len(chosen.right) in (0, len(chosen.group_names))
    assert set(chosen.metrics) <= set(METRICS)
    assert set(chosen.optional) <= set(chosen.folders)
    assert chosen.shift_of in ("", *set_names())
    templates = chosen.templates if isinstance(chosen.templates, tuple) else read_templates(chosen.templates)
    assert all("{}" in template for template in templates)
    called = [
        keys
        for number, group in enumerate(chosen.group_names)
        for keys in {key(group), *([key(chosen.folders[number])] if chosen.folders else [])}
    ]
    assert [own for own, count in Counter(called).items() if count > 1] in ([], ["missile", "sunglasses"])


def test_imagenets_names_and_templates_are_those_of_open_clip() -> None:
    from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

    assert class_set("imagenet").class_names == tuple(IMAGENET_CLASSNAMES)
    for name, theirs in (("eighty", OPENAI_IMAGENET_TEMPLATES), ("seven", SIMPLE_IMAGENET_TEMPLATES)):
        assert read_templates(name) == tuple(template("{}") for template in theirs)
    assert template_names() == ["eighty", "one", "seven"]


@pytest.mark.parametrize("name", ["imagenet_a", "imagenet_r"])
def test_the_index_maps_are_those_of_timm(name: str) -> None:
    import timm

    indices = (Path(timm.__file__).parent / "data" / "_info" / f"{name}_indices.txt").read_text().split()
    whole = class_set("imagenet").class_names
    assert class_set(name).class_names == tuple(whole[int(index)] for index in indices)


def test_objectnet_has_several_right_classes_of_imagenet() -> None:
    chosen = class_set("objectnet_1k")
    right = dict(zip(chosen.group_names, chosen.right, strict=True))
    assert [chosen.class_names[number] for number in right["alarm clock"]] == ["analog clock", "digital clock"]
    numbers = [number for own in chosen.right for number in own]
    assert len(numbers) == len(set(numbers))


def test_the_real_labels_are_of_the_whole_validation_set() -> None:
    labels = real_labels()
    assert len(labels) == 50_000
    assert (labels[1], labels[2]) == ((), (970, 795))


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a photo of a {}.\na photo\n", 2, "has no {} where the name of the class goes \\(got 'a photo'\\)"),
        ("\n\na photo of a { }\n", 3, "has no {}"),
    ],
)
def test_a_template_without_a_slot_is_an_error_with_its_line(tmp_path: Path, text: str, line: int, reason: str) -> None:
    file = tmp_path / "templates.txt"
    file.write_text(text)
    with pytest.raises(UserError, match=rf"templates\.txt: line {line}: {reason}"):
        read_templates(str(file))


def test_templates_of_a_file_may_be_written_as_clip_benchmark_writes_them(tmp_path: Path) -> None:
    file = tmp_path / "templates.txt"
    file.write_bytes("\ufeffa photo of a {c}.\r\n\r\nthe {} itself\r\n".encode())
    assert read_templates(str(file)) == ("a photo of a {}.", "the {} itself")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"\n \n", "has no templates; write one a line"), (b"a {}\n\xff\n", "is no UTF-8 text")],
)
def test_a_file_that_is_no_list_of_templates_is_an_error(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "t.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=reason):
        read_templates(str(file))


def test_unknown_names_are_errors_that_name_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"Unknown protocol 'imagenet_v3'\. Did you mean 'imagenet_v2'"):
        class_set("imagenet_v3")
    with pytest.raises(UserError, match=r"templates=nine: no such templates\. Known: eighty, one, seven"):
        read_templates("nine")


def test_the_variants_of_aircraft_are_those_published() -> None:
    names = class_set("aircraft").class_names
    assert list(names) == sorted(names)  # variants.txt is in the order of bytes
    # Compared with a public copy of variants.txt, name by name and in its order
    assert sha256("\n".join(names).encode()).hexdigest().startswith("e1c9e72060e63d52")
