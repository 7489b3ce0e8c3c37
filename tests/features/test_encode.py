import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from conftest import Told, encode_picture
from pocketclip.data import open_source
from pocketclip.data.keys import caption_id
from pocketclip.data.pictures.augment import View, fixed_views
from pocketclip.data.pictures.decode import centre_view, decode_picture
from pocketclip.data.source import Source
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError
from pocketclip.features.encode import (
    NO_IMAGES,
    NO_TEXTS,
    embed_source,
    encode_texts,
    image_blocks,
    in_threads,
    text_blocks,
)
from pocketclip.preprocess import PreprocessConfig
from pocketclip.stages.store import Block
from pocketclip.tokenizer import Tokenizer

Floats = npt.NDArray[np.float32]
PREPROCESS = PreprocessConfig(image_size=12)


class Recorder:
    """Stand-ins for two towers that remember the shapes they were given."""

    def __init__(self) -> None:
        self.pictures: list[tuple[int, ...]] = []
        self.texts: list[tuple[int, ...]] = []

    def encode_images(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        self.pictures.append(pixels.shape)
        return pixels[:, ::4, ::4].reshape(len(pixels), -1).astype(np.float32)

    def encode_tokens(self, tokens: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_]) -> Floats:
        assert tokens.shape == mask.shape
        assert (tokens[~mask] == 0).all()
        self.texts.append(tokens.shape)
        powers = np.where(mask, tokens, 0)[:, :, None] ** np.array([0.5, 1.0, 1.5])
        return powers.sum(axis=1).astype(np.float32)

    def asked(self, tokenizer: Tokenizer | None) -> Embedder:
        """The two as one model."""
        recorder = self

        class Asked(Embedder):
            name, preprocess = "recorder", PREPROCESS

            def encode_images(self, pixels: npt.NDArray[np.uint8]) -> Floats:
                return recorder.encode_images(pixels)

            def encode_texts(self, tokens: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_]) -> Floats:
                return recorder.encode_tokens(tokens, mask)

            def made_from(self) -> dict[str, Any]:
                return {}

        model = Asked()
        model.tokenizer = tokenizer
        return model


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def damaged(make_folder: Callable[..., Path]) -> Source:
    """Seven pictures of three captions; number 2 is no picture, number 5 has no captions, number 6 unreadable ones."""
    folder = make_folder(7, 3)
    (folder / "002.jpg").write_bytes(encode_picture(2)[:50])
    (folder / "005.txt").write_text("\n")
    (folder / "006.txt").write_bytes(b"\xff\xfb")
    return open_source(f"folder:{folder}")


# Images


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("block_size", [1, 3, 100])
def test_features_equal_a_loop_over_the_images_for_any_batch_and_block(
    make_folder: Callable[..., Path], recorder: Recorder, batch_size: int, block_size: int
) -> None:
    source = open_source(f"folder:{make_folder(7)}")
    done: list[int] = []
    told = Told(lambda name, so_far, total, broken: done.append(so_far))
    settings = {"batch_size": batch_size, "block_size": block_size}
    blocks = list(image_blocks(source, recorder.encode_images, PREPROCESS, **settings, watch=told))
    pictures = [decode_picture(source[index].image, place="", shortest=12) for index in range(7)]
    wanted = [recorder.encode_images(centre_view(picture, PREPROCESS)[None]) for picture in pictures]
    assert np.array_equal(np.concatenate([block["features"] for block in blocks]), np.stack(wanted))
    assert np.concatenate([block["indices"] for block in blocks]).tolist() == list(range(7))
    assert done == [*range(block_size, 7, block_size), 7]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 8])
def test_views_of_an_image_stand_side_by_side_and_count_towards_the_batch(
    make_folder: Callable[..., Path], recorder: Recorder, batch_size: int
) -> None:
    source = open_source(f"folder:{make_folder(3)}")
    views: tuple[View, ...] = ("centre", "crop", "flip")
    (block,) = image_blocks(
        source,
        recorder.encode_images,
        PREPROCESS,
        views=views,
        crop_scale=(0.2, 0.4),
        seed=9,
        batch_size=batch_size,
    )
    assert block["features"].shape[:2] == (3, 3)
    assert max(shape[0] for shape in recorder.pictures) <= max(3, batch_size)
    for index in range(3):
        picture = decode_picture(source[index].image, place="", shortest=12)
        pixels = np.stack(fixed_views(picture, views, PREPROCESS, (0.2, 0.4), [9, index]))
        assert np.array_equal(block["features"][index], recorder.encode_images(pixels))


@pytest.mark.parametrize("start", [0, 2, 3, 7])
def test_blocks_go_on_from_any_image(make_folder: Callable[..., Path], recorder: Recorder, start: int) -> None:
    source = open_source(f"folder:{make_folder(7)}")

    def blocks(start: int) -> Iterator[Block]:
        return image_blocks(source, recorder.encode_images, PREPROCESS, views=("crop",), start=start, block_size=2)

    whole, rest = np.concatenate([block["features"] for block in blocks(0)]), list(blocks(start))
    assert sum(len(block["indices"]) for block in rest) == 7 - start
    assert all(np.array_equal(block["features"], whole[block["indices"]]) for block in rest)


def test_a_broken_picture_is_left_out_and_named(damaged: Source, recorder: Recorder) -> None:
    told: list[tuple[int, int, int]] = []
    watch = Told(lambda name, done, total, broken: told.append((done, total, len(broken))))
    (block,) = image_blocks(damaged, recorder.encode_images, PREPROCESS, watch=watch)
    assert block["indices"].tolist() == [0, 1, 3, 4, 5]
    assert len(block["features"]) == 5
    assert told == [(7, 7, 2)]
    assert [Path(message.split(": ")[0]).name for message in block.broken] == ["002.jpg", "006.txt"]


def test_a_block_of_broken_pictures_only_is_empty_and_encodes_nothing(
    make_folder: Callable[..., Path], recorder: Recorder
) -> None:
    folder = make_folder(4)
    for number in (0, 1):
        (folder / f"00{number}.jpg").write_bytes(b"")
    first, second = image_blocks(open_source(f"folder:{folder}"), recorder.encode_images, PREPROCESS, block_size=2)
    assert (len(first["features"]), len(first["indices"]), len(first.broken)) == (0, 0, 2)
    assert second["indices"].tolist() == [2, 3]
    both = Block.join([first, second], NO_IMAGES)
    assert np.array_equal(both["features"], second["features"])
    assert (both["indices"].tolist(), both.broken) == ([2, 3], first.broken)
    assert len(recorder.pictures) == 1


def test_an_error_that_is_not_of_one_item_stops_everything(make_folder: Callable[..., Path]) -> None:
    def fail(pixels: npt.NDArray[np.uint8]) -> Floats:
        raise MemoryError("too large")

    with pytest.raises(MemoryError):
        list(image_blocks(open_source(f"folder:{make_folder(2)}"), fail, PREPROCESS))


def test_no_thread_outlives_a_stopped_run(make_folder: Callable[..., Path], recorder: Recorder) -> None:
    before = threading.active_count()
    blocks = image_blocks(open_source(f"folder:{make_folder(6)}"), recorder.encode_images, PREPROCESS, block_size=2)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


# Texts


TEXTS = ["picture 3", "picture 3 caption 1 caption 2", "caption", "picture 3", "", "caption 7 picture 12", "caption"]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_texts_come_back_in_their_order_as_a_loop_over_them_gives(
    tokenizer: Tokenizer, recorder: Recorder, batch_size: int
) -> None:
    features = encode_texts(TEXTS, recorder.encode_tokens, tokenizer, batch_size=batch_size)
    wanted = [recorder.encode_tokens(*tokenizer.encode([text]))[0] for text in TEXTS]
    assert np.array_equal(features, np.stack(wanted))
    assert features.dtype == np.float32


def test_equal_texts_are_encoded_once(tokenizer: Tokenizer, recorder: Recorder) -> None:
    encode_texts(TEXTS, recorder.encode_tokens, tokenizer, batch_size=2)
    assert sum(count for count, _ in recorder.texts) == 5
    assert max(count for count, _ in recorder.texts) == 2


def test_texts_are_padded_to_the_longest_of_their_batch_only(tokenizer: Tokenizer, recorder: Recorder) -> None:
    texts = ["caption " * 12, *(f"caption {number}" for number in range(7))]
    encode_texts(texts, recorder.encode_tokens, tokenizer, batch_size=4)
    short, long = sorted(length for _, length in recorder.texts)
    assert short == tokenizer.encode(["caption 1"])[0].shape[1]
    assert long == tokenizer.encode(texts)[0].shape[1]


def test_no_texts_are_no_rows(tokenizer: Tokenizer, recorder: Recorder) -> None:
    assert len(encode_texts([], recorder.encode_tokens, tokenizer)) == 0
    assert recorder.texts == []


@pytest.mark.parametrize(("start", "block_size"), [(0, 100), (0, 2), (3, 2), (7, 2)])
def test_captions_are_counted_for_every_image(
    damaged: Source, tokenizer: Tokenizer, recorder: Recorder, start: int, block_size: int
) -> None:
    blocks = list(text_blocks(damaged, recorder.encode_tokens, tokenizer, start=start, block_size=block_size))
    ends = start + np.cumsum([len(block["counts"]) for block in blocks])
    assert ends.tolist() == [*range(start + block_size, 7, block_size), *[7] * (start < 7)]
    assert Block.join(blocks, NO_TEXTS)["counts"].tolist() == [3, 3, 3, 3, 3, 0, 0][start:]
    counts = [count for block in blocks for count in block["counts"].tolist()]
    assert counts == [3, 3, 3, 3, 3, 0, 0][start:]
    texts = [text for index in range(start, 5) for text in damaged.captions(index)]
    identities = [identity for block in blocks for identity in block["caption_ids"].tolist()]
    assert identities == [caption_id(text) for text in texts]
    features = [row for block in blocks for row in block["features"]]
    wanted = [recorder.encode_tokens(*tokenizer.encode([text]))[0] for text in texts]
    assert np.array_equal(np.array(features), np.array(wanted))


# Both


def test_embeddings_leave_out_the_captions_of_broken_pictures(
    damaged: Source, tokenizer: Tokenizer, recorder: Recorder
) -> None:
    found = embed_source(recorder.asked(tokenizer), damaged)
    assert found.indices.tolist() == [0, 1, 3, 4, 5]
    assert len(found.images) == 5
    assert found.text_images.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len(found.broken) == 2
    for row, owner in enumerate(found.text_images):
        caption = damaged.captions(int(found.indices[owner]))[row % 3]
        assert np.array_equal(found.texts[row], recorder.encode_tokens(*tokenizer.encode([caption]))[0])


def test_a_part_without_samples_has_no_embeddings(damaged: Source, tokenizer: Tokenizer, recorder: Recorder) -> None:
    found = embed_source(recorder.asked(tokenizer), damaged, start=3, stop=3)
    assert (len(found.images), len(found.texts), len(found.text_images), len(found.indices)) == (0, 0, 0, 0)


def test_a_model_that_knows_images_only_is_refused(damaged: Source, recorder: Recorder) -> None:
    with pytest.raises(UserError, match="recorder: knows images only"):
        embed_source(recorder.asked(None), damaged)
    assert recorder.pictures == []


def test_a_source_of_broken_pictures_only_has_no_embeddings(
    make_folder: Callable[..., Path], tokenizer: Tokenizer, recorder: Recorder
) -> None:
    folder = make_folder(2)
    for picture in folder.glob("*.jpg"):
        picture.write_bytes(b"")
    source = open_source(f"folder:{folder}")
    found = embed_source(recorder.asked(tokenizer), source)
    assert (len(found.images), len(found.texts), len(found.text_images), len(found.indices)) == (0, 0, 0, 0)
    assert len(found.broken) == 2


def test_pictures_without_captions_are_embedded_too(
    make_folder: Callable[..., Path], tokenizer: Tokenizer, recorder: Recorder
) -> None:
    source = open_source(f"folder:{make_folder(3, 0)}")
    found = embed_source(recorder.asked(tokenizer), source)
    assert found.indices.tolist() == [0, 1, 2]
    assert len(found.texts) == len(found.text_images) == 0


def test_progress_tells_images_done_and_broken_ones_and_may_stop(
    damaged: Source, tokenizer: Tokenizer, recorder: Recorder
) -> None:
    calls: list[tuple[int, int]] = []

    def stop(name: str, done: int, total: int, broken: Sequence[str]) -> None:
        calls.append((done, len(broken)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_source(recorder.asked(tokenizer), damaged, Told(stop))
    assert calls == [(7, 2)]
    assert recorder.texts == []


# Parts and threads


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_embedding_part_by_part_gives_the_whole(
    damaged: Source, tokenizer: Tokenizer, recorder: Recorder, block: int
) -> None:
    model = recorder.asked(tokenizer)
    whole = embed_source(model, damaged)
    parts = [embed_source(model, damaged, start=start, stop=min(start + block, 7)) for start in range(0, 7, block)]
    for name in ("images", "texts"):
        joined = [getattr(part, name) for part in parts if len(getattr(part, name))]
        assert np.array_equal(np.concatenate(joined), getattr(whole, name)), name
    assert [index for part in parts for index in part.indices.tolist()] == whole.indices.tolist()
    assert [message for part in parts for message in part.broken] == whole.broken
    firsts = np.cumsum([0, *(len(part.images) for part in parts)])
    owners = [owner + first for part, first in zip(parts, firsts, strict=False) for owner in part.text_images.tolist()]
    assert owners == whole.text_images.tolist()


def test_blocks_stop_where_they_are_told(damaged: Source, tokenizer: Tokenizer, recorder: Recorder) -> None:
    done: list[int] = []
    told = Told(lambda name, so_far, total, broken: done.append(so_far))
    place = {"start": 1, "stop": 5, "block_size": 3}
    images = list(image_blocks(damaged, recorder.encode_images, PREPROCESS, watch=told, **place))
    assert done == [4, 5]
    assert [block["indices"].tolist() for block in images] == [[1, 3], [4]]
    texts = list(text_blocks(damaged, recorder.encode_tokens, tokenizer, start=1, stop=5, block_size=3))
    assert [block["counts"].tolist() for block in texts] == [[3, 3, 3], [3]]


@pytest.fixture
def torch_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_batches_share_the_threads_and_each_has_one_to_itself(
    torch_threads: Callable[[int], None], num_threads: int
) -> None:
    torch_threads(num_threads)
    together = threading.Barrier(num_threads)

    def look(number: int) -> tuple[int, int]:
        if number < num_threads:
            together.wait(10)  # only where so many run at once
        return number, torch.get_num_threads()

    assert list(in_threads(look, range(20))) == [(number, 1) for number in range(20)]
    assert torch.get_num_threads() == num_threads


def test_threads_are_given_back_by_a_run_that_is_stopped(torch_threads: Callable[[int], None]) -> None:
    torch_threads(3)
    before = threading.active_count()
    started: list[int] = []
    results = in_threads(started.append, itertools.count())
    next(results)
    results.close()
    assert (torch.get_num_threads(), threading.active_count()) == (3, before)
    assert len(started) <= 8  # two a thread wait in advance


def test_features_are_the_same_bits_on_any_number_of_threads(
    make_folder: Callable[..., Path], torch_threads: Callable[[int], None]
) -> None:
    torch.manual_seed(0)
    # The second layer's bits depend on the number of threads on the processors we know
    tower = torch.nn.Sequential(torch.nn.Conv2d(3, 192, 8, stride=8), torch.nn.Conv2d(192, 32, 1), torch.nn.Flatten())

    @torch.inference_mode()
    def encode(pixels: npt.NDArray[np.uint8]) -> Floats:
        return tower(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous() / 255).numpy()

    source = open_source(f"folder:{make_folder(11)}")

    def features(num_threads: int) -> Floats:
        torch_threads(num_threads)
        blocks = image_blocks(source, encode, PreprocessConfig(image_size=112), batch_size=3, block_size=6)
        return np.concatenate([block["features"] for block in blocks])

    wanted = features(1)
    assert all(np.array_equal(features(num_threads), wanted) for num_threads in (2, 3, 4))
