"""The map's examples: written into a copy of the package, they train, evaluate and are listed."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import encode_picture, tiny_model_settings, tiny_recipe_settings

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
MOST_FILES = {
    "A loss": 3, "A source": 3, "A task": 3, "A tower family": 3, "A strategy": 5, "A foreign library": 3,
    "An export target": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Example:
    """A code block of the page: a new file, or lines that change in one."""

    path: str
    lines: list[str]
    is_new: bool

    def apply(self, root: Path) -> None:
        path = root / self.path
        if self.is_new:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(self.lines) + "\n")
            return
        text = path.read_text()
        for old, new in self.hunks():
            assert text.count(old) == 1, f"{self.path} has {text.count(old)} times\n{old}"
            text = text.replace(old, new)
        path.write_text(text)

    def hunks(self) -> Iterator[tuple[str, str]]:
        """Lines that stand together before and after; a line `@@` parts one change from the next."""
        for hunk in "\n".join(self.lines).split("@@\n"):
            kept = {sign: [line[1:] for line in hunk.splitlines() if line[0] in f" {sign}"] for sign in "-+"}
            yield "\n".join(kept["-"]) + "\n", "\n".join(kept["+"]) + "\n"


def examples() -> dict[str, list[Example]]:
    """The page's blocks by the heading they stand below."""
    found: dict[str, list[Example]] = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0]
        for language, block in re.findall(r"```(python|diff)\n(.*?)```", section, flags=re.DOTALL):
            first, *lines = block.splitlines()
            path = first.strip().removeprefix("# ")
            found.setdefault(heading, []).append(Example(path, lines, language == "python"))
    return found


@pytest.mark.parametrize("heading", MOST_FILES)
def test_what_is_touched_is_few(heading: str) -> None:
    with_its_test = len({example.path for example in examples()[heading]}) + 1
    assert with_its_test <= MOST_FILES[heading]


def test_a_strategys_examples_are_few_each() -> None:
    """A setting of a tower is one file and its test; a method that sees further views is two and its test."""
    assert [example.path.rpartition("/")[2] for example in examples()["A strategy"]] == [
        "config.py",
        "simsiam.py",
        "config.py",
    ]


def run(code: str, folder: Path, *paths: Path) -> Any:
    """What a process prints as JSON in its last line, with packages from these paths."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


ASK = """
import io, json, sys
from contextlib import redirect_stdout
from pathlib import Path
from pocketclip.cli import main

def ask(*words):
    with redirect_stdout(io.StringIO()) as out:
        try:
            main.app(list(map(str, words)), standalone_mode=False)
        except SystemExit as end:
            assert not end.code, (words, out.getvalue())
    return out.getvalue()

def asked(*words):
    return [json.loads(line) for line in ask("evaluate", *words).splitlines()]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a recipe of everything that the page adds, and pictures in a zip file."""
    settings = tiny_recipe_settings(num_steps=2)
    settings["objective"] = {"kind": "contrastive", "loss": {"kind": "hardest", "margin": 0.3}}
    settings["data"] = {"train": "zipped:pictures.zip", "val": "zipped:pictures.zip", "allow_overlap": True}
    (tmp_path / "recipe.yaml").write_text(json.dumps(settings))
    tower = {"image_encoder": {"kind": "patch_mean", "width": 8}}
    (tmp_path / "tower.yaml").write_text(json.dumps({**settings, "model": tiny_model_settings() | tower}))
    dropped = {"kind": "timm", "name": "test_vit", "pretrained": "none", "image_size": 32, "proj_drop_rate": 0.5}
    tower = {"image_encoder": dropped}
    (tmp_path / "strategy.yaml").write_text(json.dumps({**settings, "model": tiny_model_settings() | tower}))
    (tmp_path / "simsiam.yaml").write_text(json.dumps({**settings, "objective": {"kind": "simsiam"}}))
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for number in range(8):
            archive.writestr(f"{'cats' if number % 2 else 'dogs'}/a_red_{number}.jpg", encode_picture(number))
    (tmp_path / "picture.jpg").write_bytes(encode_picture())
    return tmp_path


def test_lines_that_change_are_those_of_the_package(tmp_path: Path) -> None:
    """Quick beside the trainings below, so that a line of a union that moved is seen at once."""
    blocks = [example for each in examples().values() for example in each]
    for path in {example.path for example in blocks if (ROOT / example.path).is_file()}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    for example in blocks:
        example.apply(tmp_path)


@pytest.mark.slow
def test_every_example_works_in_a_copy_of_the_package(folder: Path) -> None:
    shutil.copytree(ROOT / "src" / "pocketclip", folder / "copy" / "src" / "pocketclip")
    for blocks in examples().values():
        for example in blocks:
            example.apply(folder / "copy")
    code = """
ask("train", "recipe.yaml", "--out", "run")
ask("train", "tower.yaml", "--out", "tower")
ask("train", "strategy.yaml", "--out", "strategy")
ask("train", "simsiam.yaml", "--out", "simsiam", "--set", "train.chunk_size=2")
from pocketclip.export.program import export_program
from pocketclip.asked import open_model
export_program(Path("run/bundle"), Path("exported"))
pixels = Path("picture.jpg").read_bytes()
models = [open_model(place, precision="float32") for place in ("run", "program:exported")]
data = ("--data", "zipped:pictures.zip")
print(json.dumps({
    "lists": [ask("list", what) for what in ("losses", "sources", "tasks", "towers")],
    "own": asked("run", *data, "--task", "two_way", "--task", "retrieval", "--set", "step=3"),
    "classes": asked("run", *data, "--task", "linear_probe", "--train-data", "zipped:pictures.zip"),
    "foreign": asked("colours:mean", *data, "--task", "two_way"),
    "metrics": Path("run/metrics.jsonl").read_text().splitlines()[0],
    "views": Path("simsiam/metrics.jsonl").read_text().splitlines()[0],
    "vectors": [model.encode_image(pixels).tolist() for model in models],
}))
"""
    said = run(ASK + code, folder, folder / "copy" / "src")
    for listed, name in zip(said["lists"], ("hardest", "zipped:FILE", "two_way", "patch_mean"), strict=True):
        assert name in listed
    assert [values["task"] for values in said["own"]] == ["two_way", "retrieval"]
    assert said["own"][0]["num_images"] == 8
    assert said["classes"][0]["num_classes"] == 2
    assert 0 <= said["foreign"][0]["top1_accuracy"]["value"] <= 1
    assert "hardest" in said["metrics"]
    assert '"self"' in said["views"]
    assert said["vectors"][0][0] == pytest.approx(said["vectors"][1][0], abs=1e-5)


@pytest.mark.slow
def test_another_package_registers_the_same_classes(folder: Path) -> None:
    (points,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    package = folder / "package"
    (package / "toys-1.dist-info").mkdir(parents=True)
    (package / "toys-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1\n")
    as_ini = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", points).replace('"', "")
    (package / "toys-1.dist-info" / "entry_points.txt").write_text(as_ini)
    for heading in ("A loss", "A source", "A task"):
        example = examples()[heading][0]
        (package / Path(example.path).name).write_text("\n".join(example.lines) + "\n")
    code = """
ask("train", "recipe.yaml", "--out", "run")
print(json.dumps({
    "lists": [ask("list", what) for what in ("losses", "sources", "tasks")],
    "own": asked("run", "--data", "zipped:pictures.zip", "--task", "two_way", "--set", "step=3"),
}))
"""
    said = run(ASK + code, folder, ROOT / "src", package)
    for listed, name in zip(said["lists"], ("hardest", "zipped:FILE", "two_way"), strict=True):
        assert name in listed
    assert said["own"][0]["num_images"] == 8

    entry = package / "toys-1.dist-info" / "entry_points.txt"
    entry.write_text("[pocketclip.sources]\nzipped = missing:Config\n")
    broken = "try:\n    ask('list', 'sources')\nexcept Exception as error:\n    print(json.dumps(str(error)))\n"
    message = "package toys: its entry point 'zipped' of pocketclip.sources cannot be loaded"
    assert message in run(ASK + broken, folder, ROOT / "src", package)
