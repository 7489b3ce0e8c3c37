"""`plan` as a command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]


def test_reading_the_data_is_told(
    pocketclip: Run, make_folder: Callable[..., Path], tiny_recipe_file: Callable[..., Path]
) -> None:
    """Holding out decodes every picture, which is minutes of a large folder."""
    changes = ("--set", f"data.train=folder:{make_folder(40)}", "--set", "data.val=")
    told = pocketclip("plan", tiny_recipe_file(), *changes, "--throughput", "5", "--json")
    assert json.loads(told.out)["samples_per_epoch"] < 40
    assert ": 40 of 40\n" in told.err
    assert pocketclip("-q", "plan", tiny_recipe_file(), *changes, "--throughput", "5", "--json").err == ""
