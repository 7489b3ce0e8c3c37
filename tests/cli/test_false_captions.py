"""Captions that are false on purpose are measured on, and taken for true by no command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import build_tiny_pretrained

Run = Callable[..., Any]
CHOICES = "scenes:8,image_size=32,texts=choices"


@pytest.mark.parametrize(
    "command",
    [
        ("data", "convert", CHOICES),
        ("data", "filter", CHOICES, "--min-image-side", "1"),
        ("data", "mix", "scenes:8,image_size=32", CHOICES),
        ("reinforce", "RECIPE"),
        ("train", "quickstart/openmoji", "--set", f"data.train={CHOICES}"),
        ("train", "quickstart/openmoji", "--set", f"data.val={CHOICES}"),
    ],
    ids=lambda command: "-".join(command[:2]),
)
def test_nothing_takes_false_captions_for_true_ones(pocketclip: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    recipe = tmp_path / "reinforce.yaml"
    teacher = {"kind": "huggingface", "name": str(tmp_path)}
    recipe.write_text(json.dumps({"source": CHOICES, "teachers": [teacher], "augment": {}, "num_views": 1}))
    ended = pocketclip(*(str(recipe) if word == "RECIPE" else word for word in command), "--out", tmp_path / "out")
    assert (ended.code, ended.out) == (1, "")
    assert "some of its captions are false" in ended.err
    assert "pocketclip evaluate MODEL --task sugarcrepe" in ended.err
    assert not list(tmp_path.glob("out/*.tar"))


def test_they_are_kept_out_of_a_mix_and_measured_on(pocketclip: Run, tmp_path: Path) -> None:
    mixing = ("data", "mix", "scenes:12,image_size=32", "--out", tmp_path / "out", "--json", "--without", CHOICES)
    assert json.loads(pocketclip(*mixing).out)["num_images"] == 3  # of the four others two are near each other
    build_tiny_pretrained().save_pretrained(tmp_path / "bundle")
    ended = pocketclip("evaluate", tmp_path / "bundle", "--task", "sugarcrepe", "--data", CHOICES, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["num_examples"] == 7  # one scene has two equal groups
