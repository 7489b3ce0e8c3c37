"""Embedding a source block by block into files."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import pocketclip.run.embedding as embedding_module
from conftest import Told, build_tiny_pretrained
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.curate.signals import Signals
from pocketclip.data import open_source
from pocketclip.errors import UserError
from pocketclip.features.encode import embed_source
from pocketclip.run.embedding import embedding_stage, item_lines, open_embedding, open_similarity, write_embeddings
from pocketclip.stages.engine import compute_here
from pocketclip.stages.store import Block, Stage

NAMES = ("images.npy", "texts.npy", "text_images.npy", "items.jsonl", "manifest.json")


@pytest.fixture(scope="module")
def model() -> PretrainedModel:
    return build_tiny_pretrained()


@pytest.fixture
def folder(make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten pictures, embedded three at a time: 4 is broken and 6 has no caption."""
    monkeypatch.setattr(embedding_module, "EMBED_BLOCK", 3)
    monkeypatch.setattr("pocketclip.features.encode.EMBED_BLOCK", 3)
    folder = make_folder(10, 2)
    (folder / "004.jpg").write_bytes(b"no picture")
    (folder / "006.txt").write_text("\n")
    return folder


@pytest.fixture
def stage(folder: Path, model: PretrainedModel) -> Stage:
    return embedding_stage(open_source(f"folder:{folder}"), model)


def write(stage: Stage, out: Path, *, resume: bool = False, stop_at: int | None = None) -> tuple[int, int]:
    def on_progress(work: str, done: int, total: int, broken: Sequence[str]) -> None:
        if done == stop_at:
            raise KeyboardInterrupt

    return write_embeddings(stage, lambda: stage, out, compute_here, Told(on_progress), resume=resume)


def test_files_hold_what_embedding_at_once_gives(
    stage: Stage, folder: Path, model: PretrainedModel, tmp_path: Path
) -> None:
    assert write(stage, tmp_path / "out") == (9, 16)
    source = open_source(f"folder:{folder}")
    whole = embed_source(model, source)
    for name in ("images", "texts", "text_images"):
        found = np.load(tmp_path / "out" / f"{name}.npy")
        assert np.array_equal(found, getattr(whole, name)), name
        assert found.dtype == getattr(whole, name).dtype
    lines = (tmp_path / "out" / "items.jsonl").read_text().splitlines()
    assert lines == item_lines(source, whole.indices)
    assert json.loads(lines[4])["key"] == "005"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("stop_at", [0, 6, 10])
@pytest.mark.parametrize("resume", [False, True])
def test_a_stopped_run_ends_with_the_same_files(stage: Stage, tmp_path: Path, stop_at: int, resume: bool) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(stage, tmp_path / "cut", stop_at=stop_at)
    assert write(stage, tmp_path / "cut", resume=resume) == write(stage, tmp_path / "whole")
    for name in NAMES:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_finished_run_is_done_again_only_when_asked(stage: Stage, tmp_path: Path) -> None:
    write(stage, tmp_path)
    before = (tmp_path / "images.npy").stat().st_mtime_ns
    assert write(stage, tmp_path, resume=True) == (9, 16)
    assert (tmp_path / "images.npy").stat().st_mtime_ns == before
    write(stage, tmp_path)
    assert (tmp_path / "images.npy").stat().st_mtime_ns > before


def test_files_of_another_source_or_model_are_not_gone_on_with(
    stage: Stage, folder: Path, model: PretrainedModel, tmp_path: Path
) -> None:
    write(stage, tmp_path)
    other = build_tiny_pretrained()
    next(other.model.parameters()).data.add_(1)
    with pytest.raises(UserError, match=r"made_from\.model is .* there and .* here"):
        write(embedding_stage(open_source(f"folder:{folder}"), other), tmp_path, resume=True)
    (folder / "000.txt").write_text("another caption\n")
    with pytest.raises(UserError, match=r"made_from\.source is"):
        write(embedding_stage(open_source(f"folder:{folder}"), model), tmp_path, resume=True)


def test_a_source_without_a_readable_picture_gives_empty_files(
    make_folder: Callable[..., Path], model: PretrainedModel, tmp_path: Path
) -> None:
    folder = make_folder(2)
    for picture in folder.glob("*.jpg"):
        picture.write_bytes(b"")
    assert write(embedding_stage(open_source(f"folder:{folder}"), model), tmp_path / "out") == (0, 0)
    assert np.load(tmp_path / "out" / "images.npy").shape == (0, 0)
    assert (tmp_path / "out" / "items.jsonl").read_text() == ""


def test_a_full_or_read_only_place_is_named(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write"):
        write(stage, tmp_path / "file")


def test_opening_twice_gives_the_same_stage(folder: Path, model: PretrainedModel, tmp_path: Path) -> None:
    bundle = model.save_pretrained(tmp_path / "bundle", card="")
    opened = [partial(open_embedding, f"folder:{folder}", str(bundle), "cpu")() for _ in range(2)]
    assert opened[0].made_from == opened[1].made_from
    first, second = (stage.compute(3, 6) for stage in opened)
    assert first.broken == second.broken != []
    for name, array in first.arrays.items():
        assert np.array_equal(array, second.arrays[name]), name


def test_similarities_are_the_dot_products_of_embeddings(folder: Path, model: PretrainedModel, tmp_path: Path) -> None:
    bundle = model.save_pretrained(tmp_path / "bundle", card="")
    stage = open_similarity(f"folder:{folder}", str(bundle), "cpu")
    loaded = PretrainedModel.from_pretrained(bundle).to("cpu")
    found = Signals(**Block.join(stage.compute(*stage.bounds(number)) for number in range(stage.num_blocks)).arrays)
    whole = embed_source(loaded, open_source(f"folder:{folder}"))
    assert found.indices.tolist() == whole.indices.tolist()
    wanted = [whole.images[owner] @ text for owner, text in zip(whole.text_images, whole.texts, strict=True)]
    np.testing.assert_allclose(found.similarities, wanted, atol=1e-6)
