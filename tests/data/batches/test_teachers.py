"""Batches that bring what teachers made of them, or what live teachers want to read."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from conftest import encode_picture
from pocketclip.data import Source, hold_out, open_source
from pocketclip.data.batches import BatchPlan, TeacherReader, Teachers, TrainingBatches
from pocketclip.data.batches.loader import Pair
from pocketclip.data.batches.views import draw_view_number
from pocketclip.data.pictures.augment import AugmentConfig, draw_view, render_view
from pocketclip.data.pictures.decode import decode_picture
from pocketclip.data.source import Sample
from pocketclip.data.sources.reinforced import ReinforcedSample, write_shard
from pocketclip.data.sources.reinforcement import Manifest, StoredTeacher, write_manifest
from pocketclip.preprocess import PreprocessConfig
from pocketclip.tokenizer import Tokenizer
from pocketclip.types import ImageTextBatch

PREPROCESS = PreprocessConfig(image_size=16)
AUGMENT = AugmentConfig(crop_scale=(0.3, 1.0), flip=True)
TEACHERS = (
    StoredTeacher(name="one", kind="bundle", width=8, scale=100, image_size=24, mark="a" * 16),
    StoredTeacher(name="two", kind="bundle", width=4, scale=60, image_size=32, mark="b" * 16),
)
MANIFEST = Manifest(teachers=TEACHERS, num_views=3, num_synthetic=2, augment=AUGMENT, dtype="float16")
COLUMNS = tuple(zip(MANIFEST.teachers, MANIFEST.columns, strict=True))
COUNT = 6


def made(number: int) -> ReinforcedSample:
    """Three captions, two synthetic ones but for the first sample, and features drawn from the sample's number."""
    captions = tuple(f"real {line} of {number}" for line in range(3))
    synthetic = tuple(f"synthetic {line} of {number}" for line in range(2 * min(1, number)))
    sample = Sample(f"{number:04d}", encode_picture(number), captions, f"made: {number}")
    views = [draw_view(AUGMENT, (32, 24), [number, view]) for view in range(MANIFEST.num_views)]
    rows = np.random.default_rng(number).normal(size=(len(views) + len(captions) + len(synthetic), MANIFEST.width))
    return ReinforcedSample(sample, views, rows.astype(np.float32), synthetic)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    folder = tmp_path / "out"
    folder.mkdir()
    shard = write_shard(folder / "reinforced-000000.tar", map(made, range(COUNT)), MANIFEST)
    write_manifest(folder, MANIFEST, [shard])
    return open_source(f"reinforced:{folder}")


@pytest.fixture
def give(batches: Callable[..., Iterator[ImageTextBatch]]) -> Callable[..., Iterator[ImageTextBatch]]:
    """Three batches of three, unless told otherwise."""

    def give(source: Source, *, batch_size: int = 3, **settings: Any) -> Iterator[ImageTextBatch]:
        return batches(source, BatchPlan(len(source), batch_size, seed=5), **{"num_steps": 3, **settings})

    return give


def unit(rows: Any) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.as_tensor(rows, dtype=torch.float32), dim=-1)


def assert_same(first: list[ImageTextBatch], second: list[ImageTextBatch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        tensors = [
            [
                batch.images,
                batch.tokens,
                batch.caption_ids,
                *(rows for t in batch.teachers for rows in (t.image, t.text)),
            ]
            for batch in (one, other)
        ]
        assert all(torch.equal(a, b) for a, b in zip(*tensors, strict=True))


TAUGHT = {"captions_per_image": 2, "synthetic_captions_per_image": 1, "with_features": True}


def test_features_are_those_of_the_view_and_the_captions_shown(
    source: Source, give: Callable[..., Iterator[ImageTextBatch]], tokenizer: Tokenizer
) -> None:
    seen = set()
    for batch in give(source, **TAUGHT, num_steps=8):
        assert (batch.captions_per_image, batch.num_synthetic, len(batch.teachers)) == (3, 1, 2)
        assert [teacher.scale for teacher in batch.teachers] == [100, 60]
        for place, index in enumerate(batch.indices.tolist()):
            given = made(index)
            stored = given.features.astype(np.float16).astype(np.float32)
            picture = decode_picture(given.sample.image, place="", shortest=16)
            pixels = [render_view(picture, view, PREPROCESS) for view in given.views]
            shown = batch.images[place].permute(1, 2, 0).numpy()
            (view,) = [number for number, one in enumerate(pixels) if np.array_equal(one, shown)]
            seen.add((index, view))
            texts = [*given.sample.captions, *given.synthetic]
            own = slice(3 * place, 3 * place + 3)
            for columns, teacher in zip(MANIFEST.columns, batch.teachers, strict=True):
                torch.testing.assert_close(teacher.image[place], unit(stored[view, columns]))
                rows = unit(stored[MANIFEST.num_views :, columns])
                found = [int((rows @ text).argmax()) for text in teacher.text[own]]
                for number, text in zip(found, teacher.text[own], strict=True):
                    torch.testing.assert_close(text, rows[number])
                chosen = tokenizer.encode([texts[number] for number in found])[0]
                assert np.array_equal(batch.tokens[own, : chosen.shape[1]].numpy(), chosen)
                assert [number < 3 for number in found[:2]] == [True, True]
                assert (found[2] >= 3) == (index > 0), "an image without synthetic captions shows a real one"
    assert len(seen) > COUNT


def test_each_stored_view_comes_once_before_any_comes_twice() -> None:
    orders = [[draw_view_number(4, 0, epoch, item) for epoch in range(8)] for item in range(20)]
    assert all(sorted(order[:4]) == sorted(order[4:]) == [0, 1, 2, 3] for order in orders)
    assert len({tuple(order) for order in orders}) > 15
    assert any(order[:4] != order[4:] for order in orders)


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_goes_on_from_any_step_with_any_number_of_workers(
    source: Source, give: Callable[..., Iterator[ImageTextBatch]], num_workers: int
) -> None:
    whole = list(give(source, **TAUGHT, num_steps=5))
    assert_same(list(give(source, **TAUGHT, num_steps=5, start_step=2, num_workers=num_workers)), whole[2:])


@pytest.mark.slow
def test_ranks_share_a_batch_with_its_features(source: Source, give: Callable[..., Iterator[ImageTextBatch]]) -> None:
    whole = list(give(source, **TAUGHT))
    parts = [list(give(source, **TAUGHT, rank=rank, world_size=2)) for rank in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        for name in ("image", "text"):
            joined = torch.cat([getattr(part.teachers[1], name) for part in (first, second)])
            assert torch.equal(joined, getattr(batch.teachers[1], name))


def test_a_part_of_a_source_brings_its_own_features(
    source: Source, give: Callable[..., Iterator[ImageTextBatch]]
) -> None:
    rest, held = hold_out(source, 0.4)
    stored = held.stored
    assert stored is not None
    (batch,) = give(held, **TAUGHT, batch_size=2, num_steps=1)
    for place, number in enumerate(batch.indices.tolist()):
        features = unit(stored.read(number).features[:3, :8])
        assert float((features @ batch.teachers[0].image[place]).max()) == pytest.approx(1, abs=1e-5)
    assert source.gives == held.gives == {"captions", "stored_views", "identities"}
    assert hold_out(rest, 0.3)[0].stored is not None
    assert open_source("scenes:4").stored is None


def test_plain_training_sees_the_same_views_and_captions(
    source: Source, give: Callable[..., Iterator[ImageTextBatch]]
) -> None:
    taught = list(give(source, captions_per_image=2, with_features=True))
    plain = list(give(source, captions_per_image=2))
    assert all(batch.teachers == () for batch in plain)
    assert_same(plain, [replace(batch, teachers=()) for batch in taught])


def test_what_is_damaged_is_left_out_and_named(
    source: Source, give: Callable[..., Iterator[ImageTextBatch]], tmp_path: Path
) -> None:
    shard = tmp_path / "out" / "reinforced-000000.tar"
    data = shard.read_bytes()
    shard.write_bytes(data.replace(b'"real 0 of 2"', b'"real 0 of 2}'))
    (batch,) = give(source, **TAUGHT, batch_size=COUNT, num_steps=1)
    assert len(batch) == COUNT - 1 == len(batch.teachers[0].image)
    assert "damaged" in batch.broken[0] or "0002" in batch.broken[0]


def test_a_batch_of_broken_items_only_has_empty_features(
    source: Source, put_together: Callable[..., TrainingBatches]
) -> None:
    put = put_together(source, BatchPlan(COUNT, 3, seed=0), with_features=True)
    fields = put.join(["item 7: unreadable."])
    assert [one["image"].shape for one in fields["teachers"]] == [(0, 8), (0, 4)]
    assert [one["text"].shape for one in fields["teachers"]] == [(0, 8), (0, 4)]


# Live teachers


def letters(captions: Any) -> tuple[Any, Any]:
    """A tokenizer of another kind: the length of a caption."""
    ids = np.array([[len(caption)] for caption in captions], dtype=np.int64)
    return ids, np.ones_like(ids, dtype=bool)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_live_teacher_sees_the_same_view_at_its_own_size(
    give: Callable[..., Iterator[ImageTextBatch]], num_workers: int
) -> None:
    scenes = open_source("scenes:6,image_size=64")
    large = PreprocessConfig(image_size=24, resize="squash")
    colours = PREPROCESS.model_copy(update={"mean": (0.1, 0.1, 0.1)})
    readers = [TeacherReader(large, letters), TeacherReader(colours, letters)]
    for batch in give(scenes, augment=AUGMENT, captions_per_image=2, readers=readers, num_workers=num_workers):
        wide, same = batch.teacher_inputs
        assert wide.images.shape == (3, 3, 24, 24)
        assert same.images.data_ptr() == batch.images.data_ptr()  # what differs in colours only is rendered once
        for place, index in enumerate(batch.indices.tolist()):
            picture = decode_picture(scenes[index].image, place="", shortest=64)
            for epoch in range(2):
                view = draw_view(AUGMENT, picture.size, [5, epoch, index])
                if np.array_equal(render_view(picture, view, PREPROCESS), batch.images[place].permute(1, 2, 0).numpy()):
                    expected = render_view(picture, view, large)
                    assert np.array_equal(wide.images[place].permute(1, 2, 0).numpy(), expected)
                    break
            else:
                pytest.fail("not a view of this image")
        assert wide.tokens.shape == (6, 1)
        assert wide.token_mask.all()


@pytest.mark.parametrize(
    ("teachers", "scales"),
    [(Teachers(COLUMNS), [100, 60]), (Teachers(readers=(TeacherReader(PREPROCESS, letters),)), [])],
    ids=["stored", "live"],
)
def test_torch_pins_what_teachers_bring(
    monkeypatch: pytest.MonkeyPatch,
    source: Source,
    put_together: Callable[..., TrainingBatches],
    teachers: Teachers,
    scales: list[float],
) -> None:
    pinned: list[int] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:  # pinning itself needs a GPU
        pinned.append(tensor.data_ptr())
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    put = replace(put_together(source, BatchPlan(COUNT, 3, seed=0)), teachers=teachers)
    pair = Pair([np.zeros((16, 16, 3), np.uint8)], ["a caption"], 0, np.ones((2, MANIFEST.width), np.float32))
    fields = pin_memory(put.join([pair]))
    brought = [*fields.get("teachers", ()), *fields.get("teacher_inputs", ())]
    assert len(brought) == max(1, len(scales))
    for one in brought:
        assert {value.data_ptr() for value in one.values() if torch.is_tensor(value)} <= set(pinned)
    assert [one["scale"] for one in fields.get("teachers", ())] == scales
