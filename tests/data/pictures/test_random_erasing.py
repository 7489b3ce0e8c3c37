"""Parts that are erased, and pictures that are moved."""

import json

import numpy as np
import pytest

from pocketclip.config import digest
from pocketclip.data.pictures.augment import AugmentConfig, ViewParameters, draw_view, render_view
from pocketclip.data.pictures.decode import Picture
from pocketclip.data.pictures.random_erasing import draw_erased, shifted
from pocketclip.errors import UserError
from pocketclip.preprocess import PreprocessConfig

PREPROCESS = PreprocessConfig(image_size=40, mean=(0.2, 0.4, 0.6))
WHITE = Picture(np.full((40, 40, 3), 255, np.uint8), (40, 40))


def test_parts_are_2_to_40_percent_of_the_picture_and_inside_of_it() -> None:
    random = np.random.default_rng(0)
    parts = np.array([part for _ in range(2000) if (part := draw_erased(random)) is not None])
    assert len(parts) > 1990
    left, top, right, bottom = parts.T
    area = (right - left) * (bottom - top)
    assert 0.02 <= area.min() < 0.03
    assert 0.37 < area.max() <= 0.4
    assert area.mean() == pytest.approx(0.21, abs=0.02)
    assert min(left.min(), top.min(), 1 - right.max(), 1 - bottom.max()) >= 0
    ratio = (bottom - top) / (right - left)
    assert ratio.min() >= 0.3
    assert ratio.max() <= 3.3


def test_parts_of_tall_views_have_the_same_shapes_in_pixels() -> None:
    random, aspect = np.random.default_rng(0), 128 / 384
    parts = np.array([part for _ in range(2000) if (part := draw_erased(random, aspect)) is not None])
    left, top, right, bottom = parts.T
    ratio = (bottom - top) / (right - left) / aspect
    assert 0.3 <= ratio.min() < 0.5
    assert 2.9 < ratio.max() <= 3.3 + 1e-9
    assert ((right - left) * (bottom - top)).max() <= 0.4


def test_half_of_the_pictures_lose_a_part_in_the_towers_mean_colour() -> None:
    augment = AugmentConfig(random_erasing=0.5)
    views = [draw_view(augment, (40, 40), (1, number)) for number in range(400)]
    assert sum(view.erased is not None for view in views) == pytest.approx(200, abs=30)
    view = next(view for view in views if view.erased is not None)
    pixels = render_view(WHITE, view, PREPROCESS)
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    assert colours.tolist() == [[51, 102, 153], [255, 255, 255]]
    left, top, right, bottom = view.erased or (0, 0, 0, 0)
    assert counts[0] / 1600 == pytest.approx((right - left) * (bottom - top), abs=0.06)
    assert WHITE.pixels.min() == 255


@pytest.mark.parametrize("size", [40, 80])
def test_a_stored_view_is_the_same_at_any_size(size: int) -> None:
    augment = AugmentConfig(flip=True, pad_crop=0.2, random_erasing=1.0)
    view = draw_view(augment, (40, 40), (3,))
    again = ViewParameters.from_json(json.loads(json.dumps(view.to_json())))
    assert again == view
    preprocess = PREPROCESS.model_copy(update={"image_size": size})
    assert np.array_equal(render_view(WHITE, again, preprocess), render_view(WHITE, view, preprocess))


@pytest.mark.parametrize(
    "values",
    [[None, 0, ["erased", [0, 1]]], [None, 0, ["shift", ["a", 1]]], [None, 0, ["erased", [0, 0, 1, float("nan")]]]],
)
def test_a_damaged_part_is_refused(values: list[object]) -> None:
    with pytest.raises(ValueError, match=r"should be \[box, flip"):
        ViewParameters.from_json(values)


@pytest.mark.parametrize(
    ("shift", "place"), [((0.5, 0.0), (0, 2)), ((-0.25, 0.0), None), ((0.0, 0.5), (2, 0)), ((0.25, 0.25), (1, 1))]
)
def test_a_shift_moves_by_shares_of_the_width_and_black_comes_in(
    shift: tuple[float, float], place: tuple[int, int] | None
) -> None:
    pixels = np.zeros((6, 4, 3), np.uint8)
    pixels[0, 0] = 9
    moved = shifted(pixels, shift)
    assert moved.shape == pixels.shape
    assert [tuple(spot) for spot in np.argwhere(moved[..., 0]).tolist()] == ([] if place is None else [place])


def test_pictures_move_by_the_share_at_most() -> None:
    views = [draw_view(AugmentConfig(pad_crop=0.1), (40, 40), (number,)) for number in range(200)]
    shifts = np.array([view.shift for view in views])
    assert np.abs(shifts).max() <= 0.1
    assert np.abs(shifts.mean(axis=0)).max() < 0.02
    pixels = render_view(WHITE, ViewParameters(shift=(0.1, -0.1)), PREPROCESS)
    assert (pixels[:, :4] == 0).all()
    assert (pixels[-4:] == 0).all()
    assert (pixels[:-4, 4:] == 255).all()


def test_what_is_off_leaves_views_and_recipes_as_they_were() -> None:
    plain, erasing = AugmentConfig(flip=True, crop_scale=(0.5, 1.0)), {"random_erasing": 1.0, "pad_crop": 0.1}
    with_more = AugmentConfig.parse({**plain.model_dump(), **erasing}, place="augment")
    assert set(plain.model_dump()) == {"crop_scale", "crop_ratio", "flip", "rand_augment"}
    assert digest(plain.model_dump(mode="json")) != digest(with_more.model_dump(mode="json"))
    for seed in range(20):
        one, other = (draw_view(config, (64, 48), (seed,)) for config in (plain, with_more))
        assert (one.box, one.flip, one.ops) == (other.box, other.flip, other.ops)
        assert one.to_json() == [one.box, int(one.flip)]


@pytest.mark.parametrize("values", [{"random_erasing": 1.5}, {"pad_crop": 0.0}, {"flip": "swap"}])
def test_settings_that_are_none_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(UserError) as caught:
        AugmentConfig.parse(values, place="augment")
    assert "\n" not in str(caught.value)
