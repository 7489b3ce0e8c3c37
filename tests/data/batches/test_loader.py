import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.data.batches import BatchPlan, EachCaption, TrainingBatches
from pocketclip.data.batches.loader import Pair
from pocketclip.data.keys import caption_id
from pocketclip.data.pictures.augment import AugmentConfig
from pocketclip.data.pictures.decode import centre_view, decode_picture
from pocketclip.data.source import Sample, Source
from pocketclip.errors import BrokenItemError
from pocketclip.losses.matches import positive_pairs
from pocketclip.preprocess import PreprocessConfig
from pocketclip.tokenizer import Tokenizer
from pocketclip.types import ImageTextBatch

PREPROCESS = PreprocessConfig(image_size=16)
RANDOM_VIEWS = AugmentConfig(crop_scale=(0.3, 1.0), flip=True)


@dataclass
class Captioned(Source):
    """Small pictures with the given captions; a number without captions cannot be read."""

    texts: list[tuple[str, ...]]
    one_picture: bool = False
    name: str = "captioned"

    def __len__(self) -> int:
        return len(self.texts)

    def sample(self, index: int) -> Sample:
        picture = encode_picture(0 if self.one_picture else index, (8, 8))
        return Sample(str(index), picture, self.captions(index), f"item {index}")

    def captions(self, index: int) -> tuple[str, ...]:
        if not self.texts[index]:
            raise BrokenItemError(f"item {index}: unreadable.")
        return self.texts[index]

    def place(self, index: int) -> str:
        return f"item {index}"

    def stamp(self) -> object:
        return "captioned"


def assert_same(first: list[ImageTextBatch], second: list[ImageTextBatch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for name in ("images", "tokens", "token_mask", "image_ids", "caption_ids"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert one.broken == other.broken


# The same batches, however they are made


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_number_of_workers_changes_nothing(
    make_folder: Callable[..., Path], batches: Callable[..., Iterator[ImageTextBatch]], num_workers: int
) -> None:
    folder = make_folder(10, 3)
    (folder / "004.jpg").write_bytes(b"no picture")
    source, plan = open_source(f"folder:{folder}"), BatchPlan(10, 4, seed=3)
    settings = {"augment": RANDOM_VIEWS, "captions_per_image": 2, "num_steps": 5}
    alone = list(batches(source, plan, **settings))
    assert sum(len(batch.broken) for batch in alone) > 0
    assert_same(list(batches(source, plan, **settings, num_workers=num_workers)), alone)


@pytest.mark.slow
def test_further_views_leave_the_first_as_it_was(batches: Callable[..., Iterator[ImageTextBatch]]) -> None:
    source, plan = open_source("scenes:10,image_size=16"), BatchPlan(10, 4, seed=3)
    alone = list(batches(source, plan, augment=RANDOM_VIEWS, num_steps=3))
    several = list(batches(source, plan, augment=RANDOM_VIEWS, num_steps=3, num_views=3))
    assert_same(several, alone)
    for one, more in zip(alone, several, strict=True):
        assert one.views == ()
        shown = [more.images, *more.views]
        assert [view.shape for view in shown] == 3 * [one.images.shape]
        assert not any(torch.equal(first, second) for first, second in itertools.combinations(shown, 2))
    again = list(batches(source, plan, augment=RANDOM_VIEWS, num_steps=3, num_views=3, num_workers=2))
    assert all(map(torch.equal, again[2].views, several[2].views))


@pytest.mark.slow
@pytest.mark.parametrize(("start", "num_workers"), [(1, 0), (2, 0), (3, 0), (4, 0), (3, 2)])
def test_a_run_goes_on_from_any_step(
    batches: Callable[..., Iterator[ImageTextBatch]], start: int, num_workers: int
) -> None:
    source, plan = open_source("scenes:10,image_size=16"), BatchPlan(10, 4, seed=3)
    settings = {"augment": RANDOM_VIEWS, "num_steps": 5}
    rest = list(batches(source, plan, **settings, start_step=start, num_workers=num_workers))
    assert_same(rest, list(batches(source, plan, **settings))[start:])


@pytest.mark.parametrize("start", [5, 6])
def test_a_finished_run_has_no_batches_left(batches: Callable[..., Iterator[ImageTextBatch]], start: int) -> None:
    source, plan = open_source("scenes:10,image_size=16"), BatchPlan(10, 4, seed=3)
    assert list(batches(source, plan, num_steps=5, start_step=start)) == []


@pytest.mark.parametrize("num_workers", [0, 1])
def test_opening_and_reading_draws_nothing_from_the_generators_of_the_training(
    batches: Callable[..., Iterator[ImageTextBatch]], num_workers: int
) -> None:
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state(legacy=False)
    source, plan = open_source("scenes:6,image_size=16"), BatchPlan(6, 3, seed=0)
    assert len(list(batches(source, plan, augment=RANDOM_VIEWS, num_workers=num_workers))) == 2
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_equal(np.random.get_state(legacy=False), numpy_before)


@pytest.mark.slow
def test_the_view_of_an_image_depends_on_its_epoch_and_not_on_its_batch(
    batches: Callable[..., Iterator[ImageTextBatch]],
) -> None:
    source = open_source("scenes:12,image_size=32")

    def views(batch_size: int, epoch: int) -> dict[int, bytes]:
        plan = BatchPlan(12, batch_size, seed=0)
        steps = {"start_step": epoch * plan.steps_per_epoch, "num_steps": (epoch + 1) * plan.steps_per_epoch}
        return {
            int(index): pixels.numpy().tobytes()
            for batch in batches(source, plan, augment=RANDOM_VIEWS, **steps)
            for index, pixels in zip(batch.indices, batch.images, strict=True)
        }

    assert views(4, 1) == views(6, 1)
    assert not set(views(4, 0).values()) & set(views(4, 1).values())


# What a batch holds


def test_images_are_what_inference_sees_where_nothing_is_augmented(
    make_folder: Callable[..., Path], batches: Callable[..., Iterator[ImageTextBatch]]
) -> None:
    source = open_source(f"folder:{make_folder(6)}")
    (batch,) = batches(source, BatchPlan(6, 6, seed=0))
    assert batch.images.shape == (6, 3, 16, 16)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    for number, pixels in zip(batch.indices.tolist(), batch.images, strict=True):
        wanted = centre_view(decode_picture(source[number].image, place="", shortest=16), PREPROCESS)
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), wanted)


def test_texts_follow_their_images_and_their_tokens(
    make_folder: Callable[..., Path], batches: Callable[..., Iterator[ImageTextBatch]], tokenizer: Tokenizer
) -> None:
    source = open_source(f"folder:{make_folder(6, 4)}")
    (batch,) = batches(source, BatchPlan(6, 6, seed=0), captions_per_image=3)
    assert batch.captions_per_image == 3
    for place in range(18):
        captions = source.captions(int(batch.indices[place // 3]))
        (caption,) = [text for text in captions if caption_id(text) == int(batch.caption_ids[place])]
        tokens, _ = tokenizer.encode([caption])
        assert batch.tokens[place][batch.token_mask[place]].tolist() == tokens[0].tolist()
    assert len(set(batch.caption_ids.tolist())) == 18


def test_captions_are_drawn_anew_each_epoch(
    make_folder: Callable[..., Path], batches: Callable[..., Iterator[ImageTextBatch]]
) -> None:
    source = open_source(f"folder:{make_folder(4, 3)}")
    plan = BatchPlan(4, 4, seed=0)
    drawn = [set(batch.caption_ids.tolist()) for batch in batches(source, plan, num_steps=30)]
    assert len({frozenset(epoch) for epoch in drawn}) > 10
    assert len(set().union(*drawn)) == 12


@pytest.mark.slow
@pytest.mark.parametrize("num_captions", [2, 3, 5])
def test_every_caption_is_drawn_equally_often_with_a_mirrored_picture_and_without(
    batches: Callable[..., Iterator[ImageTextBatch]], num_captions: int
) -> None:
    words = tuple(f"caption {number}" for number in range(num_captions))
    source = Captioned([words] * 1500, one_picture=True)
    upright = centre_view(decode_picture(source[0].image, place="", shortest=16), PREPROCESS)
    counts: Counter[tuple[bool, int]] = Counter()
    for batch in batches(source, BatchPlan(1500, 100, seed=0), augment=AugmentConfig(flip=True)):
        for pixels, identity in zip(batch.images, batch.caption_ids.tolist(), strict=True):
            counts[np.array_equal(pixels.permute(1, 2, 0).numpy(), upright), identity] += 1
    expected = 1500 / (2 * num_captions)
    assert len(counts) == 2 * num_captions
    assert all(abs(count - expected) < 4.5 * expected**0.5 for count in counts.values())


@pytest.mark.slow
@pytest.mark.parametrize("each_caption", [False, True])
def test_captions_of_mirrored_pictures_have_left_and_right_swapped(
    batches: Callable[..., Iterator[ImageTextBatch]], each_caption: bool
) -> None:
    source = Captioned([("a bag on the left",)] * 200, one_picture=True)
    upright = centre_view(decode_picture(source[0].image, place="", shortest=16), PREPROCESS)
    own, swapped = caption_id("a bag on the left"), caption_id("a bag on the right")
    ends = np.arange(1, 201) if each_caption else None
    counts: Counter[tuple[bool, bool]] = Counter()
    augment = AugmentConfig(flip="swap_sides")
    for batch in batches(source, BatchPlan(200, 100, seed=0), augment=augment, last_captions=ends):
        for pixels, identity in zip(batch.images, batch.caption_ids.tolist(), strict=True):
            assert identity in (own, swapped)
            counts[np.array_equal(pixels.permute(1, 2, 0).numpy(), upright), identity == own] += 1
    assert set(counts) == {(True, True), (False, False)}
    assert min(counts.values()) > 60
    (plain,) = batches(source, BatchPlan(200, 200, seed=0), augment=AugmentConfig(flip=True))
    assert set(plain.caption_ids.tolist()) == {own}


def test_torch_pins_every_tensor_of_a_batch(
    monkeypatch: pytest.MonkeyPatch, put_together: Callable[..., TrainingBatches]
) -> None:
    pinned: list[int] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:  # pinning itself needs a GPU
        pinned.append(tensor.data_ptr())
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    put = put_together(open_source("scenes:8,image_size=16"), BatchPlan(8, 4, seed=0))
    fields = put.join([Pair([np.zeros((16, 16, 3), np.uint8)], ["picture 1"], 0), "item 7: unreadable."])
    batch = ImageTextBatch(**pin_memory(fields))
    assert pinned == [batch_field.data_ptr() for batch_field in vars(batch).values() if torch.is_tensor(batch_field)]
    assert batch.broken == ["item 7: unreadable."]


@pytest.mark.gpu
def test_batches_for_a_gpu_lie_in_pinned_memory(batches: Callable[..., Iterator[ImageTextBatch]]) -> None:
    source = open_source("scenes:8,image_size=32")
    for batch in batches(source, BatchPlan(8, 4, seed=0), augment=RANDOM_VIEWS, num_workers=1, pin_memory=True):
        assert batch.images.is_pinned()
        assert batch.tokens.is_pinned()
        assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_twins_stay_together_and_a_batch_knows_what_is_true_of_each_image(
    batches: Callable[..., Iterator[ImageTextBatch]],
) -> None:
    source = open_source("scenes:40,image_size=16,texts=facts,twinned=true")
    batch = next(iter(batches(source, BatchPlan(20, 10, seed=0), captions_per_image=6)))
    assert batch.labels is None
    numbers = batch.indices.view(10, 2)
    assert (numbers == numbers[:, :1] + torch.arange(2)).all()
    matches = positive_pairs(batch.image_ids, batch.image_ids.repeat_interleave(6), batch.caption_ids)
    texts = [text for number in batch.indices.tolist() for text in source.captions(number)]
    drawn_as = {caption_id(text): text for text in texts}
    for row, number in enumerate(batch.indices.tolist()):
        for column, identifier in enumerate(batch.caption_ids.tolist()):
            assert matches[row, column] == (drawn_as[identifier] in source.captions(number))


# Broken items


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_picture_is_left_out_and_named(
    make_folder: Callable[..., Path], batches: Callable[..., Iterator[ImageTextBatch]], num_workers: int
) -> None:
    folder = make_folder(6, 2)
    (folder / "002.jpg").write_bytes(encode_picture(2)[:100])
    source = open_source(f"folder:{folder}")
    (batch,) = batches(source, BatchPlan(6, 6, seed=0), captions_per_image=2, num_workers=num_workers)
    assert sorted(batch.indices.tolist()) == [0, 1, 3, 4, 5]
    assert (len(batch.images), len(batch.tokens)) == (5, 10)
    assert len(batch.broken) == 1
    assert str(folder / "002.jpg") in batch.broken[0]


def test_an_image_without_a_caption_is_left_out_and_named(
    make_folder: Callable[..., Path], batches: Callable[..., Iterator[ImageTextBatch]]
) -> None:
    folder = make_folder(4)
    (folder / "001.txt").write_text("\n  \n")
    (batch,) = batches(open_source(f"folder:{folder}"), BatchPlan(4, 4, seed=0))
    assert sorted(batch.indices.tolist()) == [0, 2, 3]
    assert batch.broken == [f"{folder / '001.jpg'}: has no caption."]


def test_a_batch_of_broken_pictures_only_is_empty_and_names_them(
    make_folder: Callable[..., Path], batches: Callable[..., Iterator[ImageTextBatch]]
) -> None:
    folder = make_folder(3)
    for picture in folder.glob("*.jpg"):
        picture.write_bytes(b"")
    (batch,) = batches(open_source(f"folder:{folder}"), BatchPlan(3, 3, seed=0))
    assert len(batch) == len(batch.tokens) == len(batch.caption_ids) == 0
    assert sorted(message.split(":")[0] for message in batch.broken) == [str(folder / f"00{n}.jpg") for n in range(3)]


# An epoch over captions


@pytest.mark.slow
@pytest.mark.parametrize("texts", [[3, 1, 2], [0, 2, 0, 0, 3, 0], [1, 1, 1, 1]])
def test_an_epoch_over_captions_brings_each_caption_once_with_its_own_image(
    batches: Callable[..., Iterator[ImageTextBatch]], texts: list[int]
) -> None:
    words = [tuple(f"picture {image} caption {line}" for line in range(count)) for image, count in enumerate(texts)]
    source = Captioned(words)
    captions = EachCaption.of(source)
    plan = BatchPlan(captions.num_items(source), 1, seed=0)
    epochs = [
        [
            (int(batch.indices[0]), int(batch.caption_ids[0]))
            for batch in batches(
                source,
                plan,
                last_captions=captions.ends,
                start_step=epoch * plan.steps_per_epoch,
                num_steps=(epoch + 1) * plan.steps_per_epoch,
            )
        ]
        for epoch in range(2)
    ]
    wanted = sorted((image, caption_id(text)) for image, captions in enumerate(words) for text in captions)
    assert [sorted(epoch) for epoch in epochs] == [wanted, wanted]


def test_captions_of_one_image_bring_views_of_their_own(batches: Callable[..., Iterator[ImageTextBatch]]) -> None:
    source = Captioned([("one", "two", "three")])
    (batch,) = batches(source, BatchPlan(3, 3, seed=0), augment=RANDOM_VIEWS, last_captions=np.array([3]))
    assert batch.indices.tolist() == [0, 0, 0]
    assert len({pixels.numpy().tobytes() for pixels in batch.images}) == 3


def test_an_epoch_over_captions_names_a_broken_picture(
    make_folder: Callable[..., Path], batches: Callable[..., Iterator[ImageTextBatch]]
) -> None:
    folder = make_folder(3, 2)
    (folder / "001.jpg").write_bytes(b"")
    source = open_source(f"folder:{folder}")
    (batch,) = batches(source, BatchPlan(6, 6, seed=0), last_captions=np.array([2, 4, 6]))
    assert sorted(batch.indices.tolist()) == [0, 0, 2, 2]
    assert {message.split(":")[0] for message in batch.broken} == {str(folder / "001.jpg")}


def test_a_copy_of_an_image_is_no_negative_of_it(batches: Callable[..., Iterator[ImageTextBatch]]) -> None:
    source = Captioned([(f"caption {number}",) for number in range(4)], one_picture=True)
    (batch,) = batches(source, BatchPlan(4, 4, seed=0), num_steps=1)
    assert len(set(batch.image_ids.tolist())) == 1
    assert batch.indices is not None
    assert sorted(batch.indices.tolist()) == [0, 1, 2, 3]
    assert bool(positive_pairs(batch.image_ids, batch.image_ids, batch.caption_ids).all())
