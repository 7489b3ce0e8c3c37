"""CLIP's tokenizer from its published byte pairs, against open_clip's where that is installed."""

import gzip
import importlib.util
import json
import tarfile
from pathlib import Path

import pytest

from pocketclip.errors import UserError
from pocketclip.models.text.byte_pairs import NUM_MERGES, clip_tokenizer, read_byte_pairs
from pocketclip.models.text.config import ClipTextEncoderConfig

FLICKR = sorted((Path(__file__).parents[3] / "data" / "flickr8k").glob("*.tar"))
TRICKY = [
    "",
    "   a  dog\tand\n a cat ",
    "It's a DOG's life, isn't it? They'll've gone",
    "3 dogs, 14 cats & 159.26 birds!!! ... #1 @home <b>",
    "naïve café façade Ünïcödé ẞ İstanbul",
    "日本語のテキスト и немного по-русски مرحبا",
    "a 🐶 in the ❄️ snow 👨‍👩‍👧",
    "cafe\u0301 with a combining mark",
    "“quoted” and ‘single’ – dashes — …",
    "fish &amp; chips &quot;to go&quot; &lt;now&gt; it&#39;s &amp;amp; done&nbsp;today",
    "a" * 300,
    "word " * 200,
    "<start_of_text> in the middle <end_of_text> of a text",
    "under_score snake_case 'quoted' ''double''",
]


@pytest.fixture(scope="module")
def simple() -> object:
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip is not installed (uv sync --group bench)")
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def assert_same(simple: object, texts: list[str]) -> None:
    tokens, mask = clip_tokenizer("clip", context_length=77).encode(texts)
    expected = simple(texts).numpy()  # type: ignore[operator]
    for text, row, seen, wanted in zip(texts, tokens, mask, expected, strict=True):
        assert row[seen].tolist() == wanted[: seen.sum()].tolist(), text
        assert not wanted[seen.sum() :].any(), text


@pytest.mark.parametrize("text", TRICKY)
def test_ids_are_open_clips(simple: object, text: str) -> None:
    assert_same(simple, [text])


@pytest.mark.slow
def test_ids_of_real_captions_are_open_clips(simple: object) -> None:
    if not FLICKR:
        pytest.skip("data/flickr8k is not here")
    captions = []
    for path in FLICKR:
        with tarfile.open(path) as file:
            for member in file:
                if member.name.endswith(".json"):
                    captions += json.load(file.extractfile(member))["captions"]  # type: ignore[arg-type]
    assert len(captions) > 1000
    assert_same(simple, captions)


def test_the_vocabulary_is_clips(simple: object) -> None:
    tokenizer = clip_tokenizer("clip", context_length=77)
    assert tokenizer.vocabulary_size == 49408
    tokens, _ = tokenizer.encode(["a photo of a cat"])
    assert tokens.tolist() == [[49406, 320, 1125, 539, 320, 2368, 49407]]
    assert ClipTextEncoderConfig().build_tokenizer().to_json() == tokenizer.to_json()


def small_file(path: Path, count: int = NUM_MERGES) -> Path:
    """Byte pairs that stand for nothing but have the right number."""
    lines = ["#version", *(f"{'a' * (number // 5000 + 1)} {number}" for number in range(count))]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def test_files_that_are_not_byte_pairs_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.txt\.gz: no such file of byte pairs"):
        clip_tokenizer(str(tmp_path / "none.txt.gz"), context_length=77)
    (tmp_path / "plain.txt.gz").write_text("a b")
    with pytest.raises(UserError, match=r"plain\.txt\.gz: not a gzipped file of byte pairs"):
        read_byte_pairs(tmp_path / "plain.txt.gz")
    with pytest.raises(UserError, match=r"short\.gz: holds 10 byte pairs, and CLIP's vocabulary has 48894"):
        read_byte_pairs(small_file(tmp_path / "short.gz", 10))


def test_without_open_clip_and_hub_the_other_choices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install open_clip_torch.*the hub did not answer.*captions, or a file"):
        ClipTextEncoderConfig().build_tokenizer()
