import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from conftest import Told, build_tiny_pretrained
from pocketclip.data import open_source
from pocketclip.data.batches import BatchPlan
from pocketclip.data.keys import caption_id
from pocketclip.data.source import Source
from pocketclip.errors import UserError
from pocketclip.features.cache import ELSEWHERE, CacheConfig, cache_folder, cached, in_half_precision
from pocketclip.features.encode import NO_IMAGES, NO_TEXTS, image_blocks, text_blocks
from pocketclip.features.pairs import CachedPairs, cached_batches
from pocketclip.features.towers import FrozenTowers
from pocketclip.preprocess import PreprocessConfig
from pocketclip.stages.engine import compute_here
from pocketclip.stages.store import Block, BlockFolder, Columns, Stage
from pocketclip.stages.watch import SILENT, BrokenItems, Watch
from pocketclip.tokenizer import Tokenizer, train_tokenizer
from pocketclip.types import ImageTextBatch

Pixels = npt.NDArray[np.uint8]
VIEWS = CacheConfig(views=("centre", "flip", "crop"))


class Towers:
    """Stand-ins for two towers that count what they encode."""

    def __init__(self, source: Source, tokenizer: Tokenizer) -> None:
        self.source, self.tokenizer = source, tokenizer
        self.num_pictures = self.num_texts = 0

    def encode_images(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        self.num_pictures += len(pixels)
        return pixels[:, ::5, ::5].reshape(len(pixels), -1).astype(np.float32) / 7

    def encode_tokens(self, tokens: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        self.num_texts += len(tokens)
        powers = np.where(mask, tokens, 0)[:, :, None] ** np.array([0.5, 1.0, 1.5])
        return powers.sum(axis=1).astype(np.float32)

    def image_blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        return image_blocks(
            self.source,
            self.encode_images,
            PreprocessConfig(image_size=16),
            views=VIEWS.views,
            start=start,
            stop=stop,
            block_size=3,
        )

    def text_blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        return text_blocks(self.source, self.encode_tokens, self.tokenizer, start=start, stop=stop, block_size=3)

    def images(self, root: Path, watch: Watch = SILENT, *, factor: Callable[[int], float] = lambda start: 1) -> Block:
        """Through the cache; a block's features are multiplied by a factor that depends on its first sample."""

        def compute(start: int, stop: int) -> Block:
            (block,) = self.image_blocks(start, stop)
            scaled = (block["features"] * factor(start)).astype(np.float32)
            return in_half_precision(replace(block, arrays={**block.arrays, "features": scaled}))

        return self._cached(root, Stage("encoding images", {"image": 1}, 10, 3, compute), watch, NO_IMAGES)

    def texts(self, root: Path, watch: Watch = SILENT) -> Block:
        def compute(start: int, stop: int) -> Block:
            (block,) = self.text_blocks(start, stop)
            return in_half_precision(block)

        return self._cached(root, Stage("encoding captions", {"text": 1}, 10, 3, compute), watch, NO_TEXTS)

    def _cached(self, root: Path, stage: Stage, watch: Watch, columns: Columns) -> Block:
        assert len(self.source) == stage.num_samples
        stage = replace(stage, elsewhere=ELSEWHERE)
        return cached(root, stage, lambda: stage, compute_here, watch, columns)

    def pairs(self, root: Path) -> CachedPairs:
        return CachedPairs.join(self.images(root), self.texts(root), self.source.place)

    def pairs_in_memory(self) -> CachedPairs:
        images, texts = Block.join(self.image_blocks(), NO_IMAGES), Block.join(self.text_blocks(), NO_TEXTS)
        return CachedPairs.join(images, texts, self.source.place)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Of a cache."""
    return tmp_path / "features"


@pytest.fixture
def towers(make_folder: Callable[..., Path], tokenizer: Tokenizer) -> Towers:
    """Ten pictures with two captions; number 1 has none and number 4 is broken."""
    folder = make_folder(10, 2)
    (folder / "001.txt").write_text("\n")
    (folder / "004.jpg").write_bytes(b"no picture")
    return Towers(open_source(f"folder:{folder}"), tokenizer)


def assert_same(first: CachedPairs, second: CachedPairs) -> None:
    for name in ("images", "texts", "caption_ids", "first_caption", "num_captions", "rows", "indices"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    assert first.broken == second.broken


# What the cache gives


def test_cached_features_are_the_uncached_ones_in_half_precision(towers: Towers, root: Path) -> None:
    cached = towers.pairs(root)
    direct = towers.pairs_in_memory()
    assert np.array_equal(cached.images, direct.images.astype(np.float16))
    assert np.array_equal(cached.texts, direct.texts.astype(np.float16))
    for name in ("caption_ids", "first_caption", "num_captions", "rows", "indices"):
        assert np.array_equal(getattr(cached, name), getattr(direct, name)), name
    assert cached.broken == direct.broken


def test_each_pair_has_the_features_of_its_image_and_captions(towers: Towers, root: Path) -> None:
    pairs = towers.pairs(root)
    assert pairs.indices.tolist() == [0, 2, 3, 5, 6, 7, 8, 9]
    for place, index in enumerate(pairs.indices.tolist()):
        (block,) = image_blocks(
            towers.source, towers.encode_images, PreprocessConfig(image_size=16), start=index, block_size=99
        )
        assert np.array_equal(pairs.images[pairs.rows[place], 0], block["features"][0, 0].astype(np.float16))
        captions = towers.source.captions(index)
        rows = slice(pairs.first_caption[place], pairs.first_caption[place] + pairs.num_captions[place])
        assert pairs.caption_ids[rows].tolist() == [caption_id(caption) for caption in captions]
        assert np.array_equal(
            pairs.texts[rows], towers.encode_tokens(*towers.tokenizer.encode(captions)).astype(np.float16)
        )


def test_broken_images_and_those_without_a_caption_are_named_from_the_cache_too(towers: Towers, root: Path) -> None:
    first, second = towers.pairs(root).broken, towers.pairs(root).broken
    assert first == second
    assert len(first) == 2
    assert "004.jpg" in first[0]
    assert first[1] == f"{towers.source.place(1)}: has no caption."


def test_a_second_call_encodes_nothing(towers: Towers, root: Path) -> None:
    first = towers.pairs(root)
    encoded = (towers.num_pictures, towers.num_texts)
    assert encoded == (9 * len(VIEWS.views), 18)
    assert_same(towers.pairs(root), first)
    assert (towers.num_pictures, towers.num_texts) == encoded


def test_features_are_mapped_into_memory_as_half_precision(towers: Towers, root: Path) -> None:
    pairs = towers.pairs(root)
    for features in (pairs.images, pairs.texts):
        assert isinstance(features, np.memmap)
        assert features.dtype == np.float16
        assert not features.flags.writeable


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POCKETCLIP_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "features"
    monkeypatch.delenv("POCKETCLIP_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "pocketclip" / "features"


# What makes a new entry


def frozen(root: Path, *, weights: float = 0.0, image_size: int = 32, words: str = "") -> FrozenTowers:
    pretrained = build_tiny_pretrained()
    with torch.no_grad():
        next(pretrained.model.image_encoder.parameters()).add_(weights)
    tokenizer = pretrained.tokenizer
    if words:
        tokenizer = train_tokenizer([words], vocabulary_size=300, context_length=16)
    preprocess = pretrained.preprocess.model_copy(update={"image_size": image_size})
    return FrozenTowers(pretrained.model, tokenizer, preprocess, root=root, device=torch.device("cpu"))


def encode(towers: FrozenTowers, spec: str = "scenes:4,image_size=32", seed: int = 0, **views: Any) -> CachedPairs:
    source = open_source(spec)
    broken, config = BrokenItems(len(source), 0.0), CacheConfig(**views)
    return towers.features(source, config, broken, seed=seed)


CROP: dict[str, Any] = {"views": ("crop",)}


@pytest.mark.parametrize(
    ("first", "second", "new"),
    [
        ({}, {}, 0),
        ({}, {"spec": "scenes:4,image_size=32,seed=1"}, 2),
        ({}, {"spec": "scenes:5,image_size=32"}, 2),
        ({}, {"weights": 0.5}, 1),
        ({}, {"image_size": 64}, 1),
        ({}, {"words": "other words"}, 1),
        ({}, {"views": ("flip",)}, 1),
        ({}, {"views": ("centre", "flip")}, 1),
        ({}, {"crop_scale": (0.2, 0.4)}, 0),
        ({}, {"seed": 1}, 0),
        (CROP, CROP, 0),
        (CROP, {**CROP, "seed": 1}, 1),
        (CROP, {**CROP, "crop_scale": (0.2, 0.4)}, 1),
    ],
)
def test_a_new_entry_is_made_where_the_features_would_be_others(
    root: Path, first: dict[str, Any], second: dict[str, Any], new: int
) -> None:
    def run(settings: dict[str, Any]) -> CachedPairs:
        towers = {key: value for key, value in settings.items() if key in ("weights", "image_size", "words")}
        rest = {key: value for key, value in settings.items() if key not in towers}
        return encode(frozen(root, **towers), **rest)

    before = run(first)
    assert len(list(root.iterdir())) == 2
    after = run(second)
    assert len(list(root.iterdir())) == 2 + new
    same = np.array_equal(before.images, after.images) and np.array_equal(before.texts, after.texts)
    assert same == (new == 0)


# Stopped, killed and damaged


def stop_at(wanted: int) -> Watch:
    def on_progress(name: str, done: int, total: int, broken: Sequence[str]) -> None:
        if done == wanted:
            raise KeyboardInterrupt

    return Told(on_progress)


@pytest.mark.parametrize("stop_after", [0, 3, 6, 9])
def test_a_stopped_run_goes_on_where_it_was(towers: Towers, root: Path, stop_after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        towers.images(root / "cut", stop_at(stop_after))
    with pytest.raises(KeyboardInterrupt):
        towers.texts(root / "cut", stop_at(stop_after))
    towers.num_pictures = towers.num_texts = 0
    resumed = towers.pairs(root / "cut")
    rest = set(range(stop_after, 10))
    assert towers.num_pictures == len(rest - {4}) * len(VIEWS.views)
    assert towers.num_texts == 2 * len(rest - {1})
    assert_same(resumed, towers.pairs(root / "whole"))


def test_what_a_killed_process_left_half_written_does_not_count(towers: Towers, root: Path) -> None:
    def until_killed(name: str, done: int, total: int, broken: Sequence[str]) -> None:
        if done == 6:
            (last, *_) = sorted(root.glob("*/blocks/*.npz"))
            (last.parent / "000002.npz").write_bytes(last.read_bytes()[:-50])  # as if it was being written
            (last.parent / ".000002.npz.killed").write_bytes(b"half")
            (last.parents[1] / "features.npy").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=towers.images, args=(root, Told(until_killed)))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    towers.images(root)
    assert towers.num_pictures == 4 * len(VIEWS.views)
    towers.images(root / "whole")
    ((resumed,), (whole,)) = (list(place.glob("*/manifest.json")) for place in (root, root / "whole"))
    assert {path.name for path in whole.parent.iterdir()} == {
        "features.npy",
        "indices.npy",
        "pictures.npy",
        "manifest.json",
    }
    for file in whole.parent.iterdir():
        assert (resumed.parent / file.name).read_bytes() == file.read_bytes()
    assert len(list(resumed.parent.iterdir())) == 4


def test_what_was_killed_before_its_blocks_were_removed_is_whole(
    towers: Towers, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BlockFolder, "remove", lambda folder: None)
    first = towers.pairs(root)
    monkeypatch.undo()
    encoded = (towers.num_pictures, towers.num_texts)
    assert len(list(root.glob("*/blocks"))) == 2
    assert_same(towers.pairs(root), first)
    assert (towers.num_pictures, towers.num_texts) == encoded
    assert list(root.glob("*/blocks")) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"num_done": 10}', b'{"num_samples": "x"}'])
def test_an_entry_whose_state_is_damaged_is_made_again(towers: Towers, root: Path, content: bytes) -> None:
    towers.pairs(root)
    for state in root.glob("*/manifest.json"):
        state.write_bytes(content)
    assert_same(towers.pairs(root), towers.pairs(root / "whole"))


@pytest.mark.parametrize("name", ["features", "indices", "counts", "caption_ids"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_an_entry_whose_arrays_are_damaged_is_made_again(towers: Towers, root: Path, name: str, damage: str) -> None:
    towers.pairs(root)
    for file in root.glob(f"*/{name}.npy"):
        if damage == "missing":
            file.unlink()
        else:
            os.truncate(file, file.stat().st_size - 8)
    assert_same(towers.pairs(root), towers.pairs(root / "whole"))


def test_a_half_filled_entry_with_a_cut_array_does_not_go_on_with_zeros(towers: Towers, root: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        towers.images(root, stop_at(6))
    for file in root.glob("*/blocks/000001.npz"):
        os.truncate(file, file.stat().st_size // 2)
    assert_same(towers.pairs(root), towers.pairs(root / "whole"))


def test_a_half_filled_entry_whose_manifest_is_damaged_is_made_again(towers: Towers, root: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        towers.images(root, stop_at(6))
    for file in root.glob("*/blocks/manifest.json"):
        file.write_bytes(b"{")
    assert_same(towers.pairs(root), towers.pairs(root / "whole"))


def fill_slowly(towers: Towers, root: Path, seconds: float, start: Barrier) -> None:
    """Fill an entry, then look for half a second whether it stays whole."""

    def slow(name: str, done: int, total: int, broken: Sequence[str]) -> None:
        time.sleep(seconds)

    start.wait()
    entry = towers.images(root, Told(slow))
    whole = towers.pairs_in_memory().images.astype(np.float16)
    for _ in range(50):
        assert np.array_equal(entry["features"], whole)
        time.sleep(0.01)


def test_two_runs_may_fill_the_same_entry_at_once(towers: Towers, root: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    processes = [context.Process(target=fill_slowly, args=(towers, root, seconds, start)) for seconds in (0.1, 0.01)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


@pytest.mark.filterwarnings("ignore:overflow")
def test_features_beyond_half_precision_are_refused_and_do_not_count(towers: Towers, root: Path) -> None:
    with pytest.raises(UserError, match=r"features beyond float16 \(not finite or above 65,504\)"):
        towers.images(root, factor=lambda start: 1e6 if start >= 6 else 1)
    blocks = sorted(root.glob("*/blocks/*.npz"))
    assert [path.name for path in blocks] == ["000000.npz", "000001.npz"]
    assert sum(len(np.load(path)["indices"]) for path in blocks) == 5


def test_a_cache_that_cannot_be_written_is_named(towers: Towers, root: Path) -> None:
    root.write_text("a file")
    with pytest.raises(UserError, match="Cannot write") as caught:
        towers.pairs(root)
    assert str(root) in str(caught.value)


def test_a_cache_that_cannot_be_written_says_how_to_move_it(towers: Towers, root: Path) -> None:
    root.write_text("a file")
    with pytest.raises(UserError, match="POCKETCLIP_CACHE"):
        towers.pairs(root)


# Batches of features


def assert_same_batches(first: list[ImageTextBatch], second: list[ImageTextBatch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for name in ("images", "tokens", "image_ids", "caption_ids"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_a_batch_holds_a_view_of_each_image_and_captions_of_its_own(towers: Towers, root: Path) -> None:
    pairs, plan = towers.pairs(root), BatchPlan(8, 4, seed=0)
    seen: dict[int, set[int]] = {index: set() for index in pairs.indices.tolist()}
    for batch in cached_batches(pairs, plan, range(40), captions_per_image=2):
        assert batch.images.dtype == batch.tokens.dtype == torch.float32
        for place, index in enumerate(batch.indices.tolist()):
            pair = pairs.indices.tolist().index(index)
            views = pairs.images[pairs.rows[pair]].astype(np.float32)
            seen[index].update(np.flatnonzero((views == batch.images[place].numpy()).all(axis=1)).tolist())
            own = slice(2 * place, 2 * place + 2)
            identities = batch.caption_ids[own].tolist()
            assert set(identities) == {caption_id(caption) for caption in towers.source.captions(index)}
            rows = [pairs.caption_ids.tolist().index(identity) for identity in identities]
            assert np.array_equal(batch.tokens[own].numpy(), pairs.texts[rows].astype(np.float32))
    assert all(views == {0, 1, 2} for views in seen.values())


def test_an_epoch_of_features_brings_each_image_once(towers: Towers, root: Path) -> None:
    pairs, plan = towers.pairs(root), BatchPlan(8, 4, seed=0)
    batches = list(cached_batches(pairs, plan, range(6), captions_per_image=1))
    epochs = [[*batches[step].indices.tolist(), *batches[step + 1].indices.tolist()] for step in (0, 2, 4)]
    assert [sorted(epoch) for epoch in epochs] == [pairs.indices.tolist()] * 3


@pytest.mark.parametrize("start", [0, 1, 5, 7])
def test_features_go_on_from_any_step(towers: Towers, root: Path, start: int) -> None:
    pairs, plan = towers.pairs(root), BatchPlan(8, 3, seed=2)
    whole = list(cached_batches(pairs, plan, range(7), captions_per_image=1))
    rest = list(cached_batches(pairs, plan, range(start, 7), captions_per_image=1))
    assert_same_batches(rest, whole[start:])
