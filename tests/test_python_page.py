"""The page on Python: its blocks are run from the page itself, and give what stands behind them."""

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import build_tiny_pretrained, encode_picture
from pocketclip import Head
from pocketclip.asked import PretrainedModel
from pocketclip.records import EvalResult

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"^```(python)?\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
CLAIM = re.compile(r"^(\w+) = .*# float32 \((\d+), (D|\d+)\)", re.MULTILINE)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_folder: Callable[..., Path]) -> Path:
    """A folder with all that the page speaks of."""
    from pocketclip.asked.index import fingerprint_of
    from pocketclip.search import Index, Item

    model = build_tiny_pretrained()
    bundle = model.save_pretrained(tmp_path / "runs" / "mine" / "bundle", card="x")
    photos = sorted(make_folder(6).glob("*.jpg"))
    for number, name in enumerate(("dog", "cat")):
        (tmp_path / f"{name}.jpg").write_bytes(encode_picture(number))
    Index.write(
        tmp_path / "index",
        model=bundle,
        source="folder:photos",
        embeddings=model.encode_image(photos),
        items=[Item(photo.stem, str(photo), [photo.stem]) for photo in photos],
        model_fingerprint=fingerprint_of(bundle, model),
    )
    head(model).save(tmp_path / "pets.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def head(model: PretrainedModel) -> Head:
    """As the command beside it keeps it."""
    measured = EvalResult(
        task="linear_probe", dataset="folder:pets", split="all", num_images=2, num_captions=0, metrics={},
        settings={"sweep": "ours"},
    )  # fmt: skip
    weight = np.random.default_rng(0).normal(size=(2, model.embed_dim)).astype(np.float32)
    return Head(weight, np.zeros(2, np.float32), ("cat", "dog"), "runs/mine", model.image_identity(), measured)


def test_its_blocks_run_in_their_order_and_give_what_they_say(here: Path) -> None:
    names: dict[str, Any] = {}
    printed, claims = "", 0
    for kind, code in BLOCKS:
        if not kind:
            assert code == printed, "what the block before it prints"
            continue
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(code, "docs/python.md", "exec"), names)
        printed = output.getvalue()
        for name, rows, columns in CLAIM.findall(code):
            width = names["model"].embed_dim if columns == "D" else int(columns)
            assert (names[name].shape, names[name].dtype) == ((int(rows), width), np.float32), name
            claims += 1
    assert claims > 8
    assert np.ptp(names["same"], axis=0).max() == 0
    assert sum(names["shares"].values()) == pytest.approx(1)
    assert [sorted(own) for own in names["learned"]] == [["cat", "dog"], ["cat", "dog"]]
    assert [len(names[found]) for found in ("by_picture", "by_vector")] == [3, 3]
    assert all(Path(hit.place).is_absolute() and hit.exists for hit in names["by_picture"])
    assert repr(names["model"]).count("\n") == repr(names["index"]).count("\n") == 0
    vectors = names["shared"].search("a dog", 3)
    assert [hit.place for hit in vectors] == [hit.place for hit in names["by_vector"]]
