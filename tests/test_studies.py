"""Every shipped study loads, says what it shows, and names its own command."""

import re

import pytest

from pocketclip.shipped_recipes import find_study, list_studies
from pocketclip.study.grid import load_study
from pocketclip.study.towers.config import load_tower_study, names_towers


@pytest.mark.parametrize("name", list_studies())
def test_shipped_studies(name: str) -> None:
    text = find_study(name).read_text(encoding="utf-8")
    assert len(text.splitlines()[0]) > 20
    assert text.startswith("# ")
    assert f"pocketclip study {name}" in re.findall(r"^#   (pocketclip study \S+)", text, flags=re.MULTILINE)
    rows = load_tower_study(name).config.towers if names_towers(name) else load_study(name).rows
    assert len(rows) > 1
