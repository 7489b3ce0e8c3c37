"""What `pocketclip list sizes` counts."""

from collections.abc import Callable
from typing import Any

import pytest


def test_sizes_are_listed_with_their_parameters(
    pocketclip: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketclip.models.sizes.list_sizes", lambda: ["pocket_xs", "tinyclip_vit_8m_16_text_3m"])
    ended = pocketclip("list", "sizes")
    assert ended.code == 0
    _, ours, theirs = ended.out.splitlines()
    assert ours.startswith("pocket_xs ")
    assert theirs.split() == [
        *("tinyclip_vit_8m_16_text_3m", "image", "8.3", "at", "224", "px"),
        *("text", "15.2,", "12.6", "of", "them", "word", "embeddings"),
    ]
