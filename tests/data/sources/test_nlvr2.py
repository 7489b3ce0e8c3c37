"""NLVR2's official lines, and what goes wrong with them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.data.batches import BatchPlan, DrawnCaptions, TrainingBatches, views_of
from pocketclip.data.pictures.augment import AugmentConfig
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.preprocess import PreprocessConfig
from pocketclip.tokenizer import train_tokenizer

OFFICIAL = Path(os.environ.get("POCKETCLIP_DATA", "data"), "nlvr2", "nlvr2-dev-200.json")  # before a fixture hides it
SENTENCES = ("two dogs lie", "a cat sits")


def write_nlvr2(root: Path, *, folder: str = "", directory: int | None = None, split: str = "dev") -> Path:
    """Two sentences with two pairs each; the pairs' images lie in `folder`."""
    images = root / "images" / folder
    images.mkdir(parents=True)
    lines = []
    for number in range(4):
        sentence, pair = divmod(number, 2)
        identifier = f"{split}-{7}-{pair}-{sentence}"
        line = {"identifier": identifier, "sentence": SENTENCES[sentence], "label": str(pair == 0)}
        lines.append(json.dumps(line if directory is None else {**line, "directory": directory}))
        for side in range(2):
            (images / f"{split}-7-{pair}-img{side}.png").write_bytes(encode_picture(2 * pair + side))
    file = root / f"{split}.json"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize(
    ("folder", "directory", "split"), [("", None, "dev"), ("dev", None, "dev"), ("train/42", 42, "train")]
)
def test_official_layouts(tmp_path: Path, folder: str, directory: int | None, split: str) -> None:
    file = write_nlvr2(tmp_path, folder=folder, directory=directory, split=split)
    source = open_source(f"nlvr2:{file},{tmp_path / 'images'}")
    assert len(source) == 8
    assert source.pairs is not None
    assert source.pairs.labels.tolist() == [True, False, True, False]
    assert len(np.unique(source.pairs.sentences)) == 2
    sample = source[3]
    assert (sample.image, sample.captions, sample.label) == (encode_picture(3), (SENTENCES[0],), 0)
    assert sample.key == f"{split}-7-1-0-right"


def test_a_missing_image_is_one_clear_line(tmp_path: Path) -> None:
    file = write_nlvr2(tmp_path)
    (tmp_path / "images" / "dev-7-1-img0.png").unlink()
    source = open_source(f"nlvr2:{file},{tmp_path / 'images'}")
    with pytest.raises(BrokenItemError, match=r"dev.json: line 2: the left image dev-7-1-img0.png .* give the folder"):
        source[2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: should be a JSON object"),
        ("{}", "line 1: should be a JSON object"),
        ('{"identifier": "dev-1-0", "sentence": "x", "label": "True"}', "SPLIT-SET-PAIR-SENTENCE"),
        ('{"identifier": "dev-1-0-0", "sentence": "x", "label": "maybe"}', "True or False"),
        ('{"identifier": "dev-1-0-0", "sentence": " ", "label": "True"}', "the sentence is empty"),
        ('{"identifier": "t-1-0-0", "sentence": "x", "label": "True", "directory": "../x"}', "should be a number"),
        ("", "no examples here"),
    ],
)
def test_bad_lines(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "bad.json").write_text(line)
    with pytest.raises(UserError, match=message):
        open_source(f"nlvr2:{tmp_path / 'bad.json'},{tmp_path}")


def test_batches_keep_pairs_together_and_leave_out_broken_ones(tmp_path: Path) -> None:
    file = write_nlvr2(tmp_path)
    (tmp_path / "images" / "dev-7-1-img1.png").write_bytes(b"no picture")
    source = open_source(f"nlvr2:{file},{tmp_path / 'images'}")
    batches = TrainingBatches(
        source,
        BatchPlan(4, 4, 0),
        captions=DrawnCaptions(1),
        views=views_of(source, AugmentConfig(), PreprocessConfig(image_size=16)),
        tokenizer=train_tokenizer(SENTENCES, vocabulary_size=100, context_length=8),
    )
    batch = next(batches.steps(0, 1, num_workers=0))
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, 1]
    assert sorted(batch.indices.tolist()) == [0, 1, 4, 5]
    assert all(second == first + 1 for first, second in batch.indices.view(-1, 2).tolist())
    assert len(batch.broken) == 2


@pytest.mark.skipif(not OFFICIAL.is_file(), reason="needs the official nlvr2/nlvr2-dev-200.json in $POCKETCLIP_DATA")
def test_the_official_lines() -> None:
    source = open_source(f"nlvr2:{OFFICIAL},{OFFICIAL.parent}")
    assert len(source) == 400
    assert source.pairs is not None
    assert int(source.pairs.labels.sum()) == 101
    assert len(np.unique(source.pairs.sentences)) == 58
    with pytest.raises(BrokenItemError, match=r"line 1: the left image dev-850-0-img0\.png"):
        source[0]
