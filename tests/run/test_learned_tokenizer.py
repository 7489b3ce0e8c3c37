"""A learned tokenizer is learned once, and is what it would be without a cache."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketclip.files import cache_root
from pocketclip.run import learned_tokenizer as module
from pocketclip.run.learned_tokenizer import learned_tokenizer
from pocketclip.tokenizer import Tokenizer, TokenizerKind, train_tokenizer

CAPTIONS = [f"{size} {colour} {shape}s" for size in ("small", "large") for colour in ("red", "blue")
            for shape in ("circle", "square", "star")]  # fmt: skip


def learn(
    kind: TokenizerKind = "unigram", captions: list[str] = CAPTIONS, size: int = 330, length: int = 16
) -> Tokenizer:
    return learned_tokenizer(captions, vocabulary_size=size, context_length=length, kind=kind)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_the_second_time_it_is_read_and_the_same(kind: TokenizerKind, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train_tokenizer(CAPTIONS, vocabulary_size=330, context_length=16, kind=kind).to_json()
    assert learn(kind).to_json() == expected
    monkeypatch.setattr(module, "train_tokenizer", None)
    assert learn(kind).to_json() == expected
    shorter = learn(kind, length=4)
    assert shorter.encode(CAPTIONS)[0].shape[1] == 4


@pytest.mark.parametrize("change", [{"captions": [*CAPTIONS, "a moon"]}, {"captions": CAPTIONS[::-1]}, {"size": 300}])
def test_other_captions_and_sizes_are_others(change: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    learn()
    anew = []

    def told(*given: Any, **settings: Any) -> Tokenizer:
        anew.append(given)
        return train_tokenizer(*given, **settings)

    monkeypatch.setattr(module, "train_tokenizer", told)
    learn(**change)  # type: ignore[arg-type]
    assert anew


def test_a_damaged_file_is_learned_anew() -> None:
    first = learn()
    (file,) = (cache_root() / "tokenizers").iterdir()
    file.write_text("{")
    assert learn().to_json() == first.to_json() == file.read_text()


def test_a_cache_that_cannot_be_written_only_costs_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POCKETCLIP_CACHE", str(tmp_path / "file"))
    assert learn().vocabulary_size > 5


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("size", [300, 1000, 32_000])
def test_vocabularies_of_any_size_cut_captions_at_sixteen_tokens(kind: TokenizerKind, size: int) -> None:
    captions = [f"{caption} and {other} number {row}" for row, caption in enumerate(CAPTIONS) for other in CAPTIONS]
    one, other = (
        learn(kind, captions, size),
        train_tokenizer(captions, vocabulary_size=size, context_length=16, kind=kind),
    )
    assert one.to_json() == other.to_json()
    assert one.vocabulary_size <= size
    ids, mask = one.encode(captions)
    assert ids.shape[1] <= 16
    assert ids.max() < one.vocabulary_size
    ends = ids[np.arange(len(ids)), mask.sum(1) - 1]
    assert set(ends.tolist()) == {3}  # [SEP], in cut ones too
