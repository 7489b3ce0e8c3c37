"""The whole story, as a new user gets it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocketclip.records import EvalResult, read_records


@pytest.mark.slow
def test_quickstart_tells_the_whole_story(pocketclip: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "quick"
    ended = pocketclip("quickstart", "--out", out)
    assert ended.code == 0, ended.err
    results = {r.split: r for r in read_records(out) if isinstance(r, EvalResult)}
    assert results["test"].num_images > 350
    assert results["test"].metrics["text_to_image_recall@1"].low > 0.05  # type: ignore[union-attr] # chance is 0.0025
    page = (out / "report.html").read_text()
    for part in ("A sentence finds images", "An image finds sentences", "Loss", "Cost", "OpenMoji"):
        assert part in page
    search = next(line for line in ended.out.splitlines() if line.startswith("Search the emoji:"))
    assert f"--index {out}/index" in search
    hits = pocketclip("search", "a piece of fruit", "--index", out / "index", "-n", "3", "--json")
    assert len(hits.out.splitlines()) == 3
    assert "folder:PHOTOS" in ended.out


def test_quickstart_deletes_nobody_elses_run(pocketclip: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("seed: 1\n")
    (tmp_path / "weights").write_text("precious")
    ended = pocketclip("quickstart", "--out", tmp_path)
    assert ended.code == 1
    assert "another --out" in ended.err
    assert (tmp_path / "weights").read_text() == "precious"


def test_the_printed_training_command_is_a_real_one(pocketclip: Callable[..., Any]) -> None:
    command = ("train", "quickstart/your_photos", "--set", "data.train=folder:PHOTOS", "--dry-run")
    ended = pocketclip(*command)
    assert ended.code == 0
    assert "dir: PHOTOS" in ended.out


def test_importing_the_package_is_light() -> None:
    code = "import sys, pocketclip; sys.exit(bool({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
