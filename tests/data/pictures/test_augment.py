import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from conftest import encode_picture
from pocketclip.data.pictures.augment import (
    AugmentConfig,
    ViewParameters,
    draw_view,
    fixed_views,
    random_crop_box,
    render_view,
    shortest_side,
)
from pocketclip.data.pictures.decode import Picture, centre_view, decode_picture
from pocketclip.data.pictures.rand_augment import RandAugmentConfig
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.features.cache import CacheConfig
from pocketclip.preprocess import PreprocessConfig

PREPROCESS = PreprocessConfig(image_size=24)
RATIO = (3 / 4, 4 / 3)
EVERYTHING = AugmentConfig(crop_scale=(0.3, 1.0), flip=True, rand_augment=RandAugmentConfig())


def augmentation(config: AugmentConfig) -> Callable[[Picture, Sequence[int]], npt.NDArray[np.uint8]]:
    """Draws and renders a view."""
    return lambda picture, seed: render_view(picture, draw_view(config, picture.size, seed), PREPROCESS)


@pytest.fixture
def picture() -> Picture:
    return decode_picture(encode_picture(1, (48, 36), "PNG"), place="", shortest=24)


def boxes(size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]) -> npt.NDArray[np.int64]:
    """Left, top, width and height of 3,000 boxes of ours."""
    generator = np.random.default_rng(0)
    found = np.array([random_crop_box(size, scale, ratio, generator) for _ in range(3000)])
    return np.concatenate([found[:, :2], found[:, 2:] - found[:, :2]], axis=1)


def torchvision_boxes(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], count: int = 3000
) -> npt.NDArray[np.int64]:
    """Left, top, width and height of torchvision's boxes."""
    blank = torch.zeros(1, size[1], size[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = [RandomResizedCrop.get_params(blank, list(scale), list(ratio)) for _ in range(count)]
    return np.array([(left, top, width, height) for top, left, height, width in found])


def largest_distance(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Between two distributions: the Kolmogorov-Smirnov statistic."""
    points = np.sort(np.concatenate([first, second]))
    shares = [np.searchsorted(np.sort(values), points, side="right") / len(values) for values in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


# Crops


@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [
        ((640, 480), (0.08, 1.0), RATIO),
        ((640, 480), (0.5, 1.0), RATIO),
        ((300, 900), (0.2, 0.9), RATIO),
        ((500, 500), (0.3, 0.6), (0.5, 2.0)),
    ],
)
def test_boxes_are_distributed_like_torchvisions(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    ours, theirs = boxes(size, scale, ratio), torchvision_boxes(size, scale, ratio)
    limit = 1.95 * np.sqrt(2 / 3000)  # reached by chance once in a thousand
    for measure in (
        lambda box: box[:, 2] * box[:, 3] / (size[0] * size[1]),
        lambda box: np.log(box[:, 2] / box[:, 3]),
        lambda box: box[:, 0] / (size[0] - box[:, 2] + 1),
        lambda box: box[:, 1] / (size[1] - box[:, 3] + 1),
    ):
        assert largest_distance(measure(ours), measure(theirs)) < limit


def test_areas_are_uniform_and_ratios_uniform_in_their_logarithm() -> None:
    found = boxes((4000, 4000), (0.2, 0.5), RATIO)
    areas = found[:, 2] * found[:, 3] / 4000**2
    ratios = np.log(found[:, 2] / found[:, 3])
    for values, low, high in ((areas, 0.2, 0.5), (ratios, np.log(RATIO[0]), np.log(RATIO[1]))):
        assert largest_distance(values, np.linspace(low, high, 30_000)) < 1.95 * np.sqrt(1.1 / 3000)


@pytest.mark.parametrize("size", [(640, 480), (1, 1), (2, 1), (1, 3), (7, 5), (1000, 3), (3, 1000)])
def test_boxes_lie_inside_the_picture(size: tuple[int, int]) -> None:
    found = boxes(size, (0.01, 1.0), RATIO)
    assert found.min() >= 0
    assert found[:, 2:].min() >= 1
    assert (found[:, 0] + found[:, 2]).max() <= size[0]
    assert (found[:, 1] + found[:, 3]).max() <= size[1]


@pytest.mark.parametrize("size", [(1000, 100), (100, 1000), (101, 33), (33, 101), (640, 200), (17, 90), (90, 17)])
@pytest.mark.parametrize("ratio", [(1.0, 1.0), (0.9, 1.2), RATIO])
def test_where_no_box_fits_the_largest_centre_box_is_taken_like_torchvisions(
    size: tuple[int, int], ratio: tuple[float, float]
) -> None:
    (theirs,) = torchvision_boxes(size, (1.0, 1.0), ratio, count=1)
    left, top, right, bottom = random_crop_box(size, (1.0, 1.0), ratio, np.random.default_rng(0))
    assert [left, top, right - left, bottom - top] == theirs.tolist()


def test_boxes_reach_every_place_up_to_the_edges() -> None:
    found = boxes((4, 3), (1 / 3, 1 / 3), (1.0, 1.0))
    assert {tuple(box) for box in found.tolist()} == {(left, top, 2, 2) for left in range(3) for top in range(2)}


def test_the_whole_picture_is_a_box() -> None:
    assert random_crop_box((60, 60), (1.0, 1.0), (1.0, 1.0), np.random.default_rng(0)) == (0, 0, 60, 60)


# The side a picture needs


@pytest.mark.parametrize("scale", [(0.9, 1.0), (0.3, 1.0), (0.05, 0.1)])
@pytest.mark.parametrize("ratio", [RATIO, (0.5, 0.8), (1.5, 3.0)])
@pytest.mark.parametrize("size", [(640, 480), (480, 640), (500, 500)])
def test_no_crop_of_a_picture_with_the_shortest_side_has_to_be_enlarged(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    shortest = shortest_side(PREPROCESS, AugmentConfig(crop_scale=scale, crop_ratio=ratio))
    wanted = [side * shortest / min(size) for side in size]
    found = boxes((round(wanted[0]), round(wanted[1])), scale, ratio)
    assert found[:, 2:].min() >= 23  # boxes are rounded to whole pixels


def test_without_crops_the_shortest_side_is_that_of_the_resized_picture() -> None:
    assert shortest_side(PREPROCESS, AugmentConfig()) == 24
    assert shortest_side(PREPROCESS.model_copy(update={"crop_fraction": 0.75}), AugmentConfig()) == 32


# Views in training


@pytest.mark.parametrize(
    "config",
    [AugmentConfig(), AugmentConfig(crop_scale=(0.3, 0.9)), AugmentConfig(flip=True), EVERYTHING],
    ids=["none", "crop", "flip", "everything"],
)
def test_the_same_seed_gives_the_same_view_of_the_towers_size(picture: Picture, config: AugmentConfig) -> None:
    augment = augmentation(config)
    views = [augment(picture, [0, 3, number]) for number in range(5)]
    assert all(view.shape == (24, 24, 3) and view.dtype == np.uint8 for view in views)
    again = [augmentation(config)(picture, [0, 3, number]) for number in reversed(range(5))]
    assert all(np.array_equal(one, other) for one, other in zip(views, reversed(again), strict=True))


def test_any_part_of_the_seed_changes_the_view(picture: Picture) -> None:
    augment = augmentation(AugmentConfig(crop_scale=(0.1, 0.9)))
    seeds = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [2**40, 0, 0]]
    assert len({augment(picture, seed).tobytes() for seed in seeds}) == len(seeds)


def test_without_augmentation_the_view_is_what_inference_sees(picture: Picture) -> None:
    assert np.array_equal(augmentation(AugmentConfig())(picture, [0]), centre_view(picture, PREPROCESS))


def test_half_of_the_pictures_are_mirrored_and_the_others_untouched(picture: Picture) -> None:
    augment, upright = augmentation(AugmentConfig(flip=True)), centre_view(picture, PREPROCESS)
    num_mirrored = 0
    for seed in range(1000):
        view = augment(picture, [0, seed])
        mirrored = np.array_equal(view, upright[:, ::-1])
        assert mirrored or np.array_equal(view, upright)
        num_mirrored += mirrored
    assert 430 < num_mirrored < 570


def test_flip_and_crop_go_together(picture: Picture) -> None:
    crop = augmentation(AugmentConfig(crop_scale=(0.3, 0.9)))
    both = augmentation(AugmentConfig(crop_scale=(0.3, 0.9), flip=True))
    flips = [np.array_equal(both(picture, [seed]), crop(picture, [seed])[:, ::-1]) for seed in range(20)]
    kept = [np.array_equal(both(picture, [seed]), crop(picture, [seed])) for seed in range(20)]
    assert [flip + keep for flip, keep in zip(flips, kept, strict=True)] == [1] * 20
    assert 0 < sum(flips) < 20


def test_rand_augment_changes_pixels_and_differs_from_seed_to_seed(picture: Picture) -> None:
    augment = augmentation(AugmentConfig(rand_augment=RandAugmentConfig(num_ops=2, magnitude=9)))
    upright = centre_view(picture, PREPROCESS)
    views = [augment(picture, [seed]) for seed in range(30)]
    assert sum(not np.array_equal(view, upright) for view in views) > 20
    assert len({view.tobytes() for view in views}) > 20


def test_rand_augment_changes_more_with_its_magnitude(picture: Picture) -> None:
    upright = centre_view(picture, PREPROCESS).astype(float)

    def change(magnitude: int) -> float:
        config = AugmentConfig(rand_augment=RandAugmentConfig(num_ops=1, magnitude=magnitude))
        return float(np.mean([np.abs(augmentation(config)(picture, [seed]) - upright) for seed in range(60)]))

    assert change(2) < change(9) < change(20)


@pytest.mark.parametrize("config", [AugmentConfig(crop_scale=(0.3, 1.0), flip=True), EVERYTHING])
def test_the_generators_of_torch_numpy_and_python_are_left_alone(picture: Picture, config: AugmentConfig) -> None:
    torch_before, python_before = torch.get_rng_state(), random.getstate()
    numpy_before = np.random.get_state(legacy=False)
    for seed in range(5):
        augmentation(config)(picture, [seed])
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert random.getstate() == python_before
    np.testing.assert_equal(np.random.get_state(legacy=False), numpy_before)


def test_what_those_generators_hold_does_not_change_a_view(picture: Picture) -> None:
    augment, views = augmentation(EVERYTHING), set()
    for seed in range(3):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            views.add(augment(picture, [7]).tobytes())
    assert len(views) == 1


def test_threads_may_make_crops_side_by_side(picture: Picture) -> None:
    augment = augmentation(AugmentConfig(crop_scale=(0.3, 0.9), flip=True))
    seeds: list[Sequence[int]] = [[0, number] for number in range(64)]
    alone = [augment(picture, seed) for seed in seeds]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: augment(picture, seed), seeds))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


# Views as numbers


def test_json_gives_a_view_back_unchanged() -> None:
    for number in range(200):
        for config in (EVERYTHING, AugmentConfig(), AugmentConfig(flip=True)):
            drawn = draw_view(config, (640, 480), [number])
            assert ViewParameters.from_json(json.loads(json.dumps(drawn.to_json()))) == drawn


@pytest.mark.slow
def test_another_process_renders_the_same_bits(picture: Picture) -> None:
    """A new interpreter with other hash seeds, from the file and the numbers alone."""
    views = [draw_view(EVERYTHING, picture.size, [5, number]) for number in range(20)]
    here = hashlib.sha256(b"".join(render_view(picture, view, PREPROCESS).tobytes() for view in views)).hexdigest()
    code = """
import hashlib, json, sys
from pocketclip.data.pictures.augment import ViewParameters, render_view
from pocketclip.data.pictures.decode import decode_picture
from pocketclip.preprocess import PreprocessConfig
given = json.load(sys.stdin)
picture = decode_picture(bytes.fromhex(given["picture"]), place="", shortest=24)
views = [ViewParameters.from_json(view) for view in given["views"]]
pixels = [render_view(picture, view, PreprocessConfig(image_size=24)).tobytes() for view in views]
print(hashlib.sha256(b"".join(pixels)).hexdigest())
"""
    given = {"picture": encode_picture(1, (48, 36), "PNG").hex(), "views": [view.to_json() for view in views]}
    ended = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == here


def test_a_view_is_the_same_part_of_the_picture_at_another_size() -> None:
    picture = decode_picture(encode_picture(2, (300, 200), "PNG"), place="", shortest=96)
    for number in range(12):
        view = draw_view(AugmentConfig(crop_scale=(0.2, 1.0), flip=True), picture.size, [number])
        small, large = (render_view(picture, view, PreprocessConfig(image_size=size)) for size in (32, 96))
        assert large.shape == (96, 96, 3)
        means = large.reshape(32, 3, 32, 3, 3).mean(axis=(1, 3))
        assert np.abs(means - small).mean() < 3


def test_a_view_of_another_picture_is_named(picture: Picture) -> None:
    with pytest.raises(BrokenItemError, match=r"view \[0, 0, 49, 20\] lies outside the picture of 48 x 36 pixels"):
        render_view(picture, ViewParameters((0, 0, 49, 20)), PREPROCESS)


@pytest.mark.parametrize("values", [None, [], [[0, 0, 1], 0], [[4, 0, 4, 2], 0], [[-1, 0, 4, 2], 0], [None, 0, 3], "x"])
def test_numbers_that_are_no_view_are_named(values: object) -> None:
    with pytest.raises(ValueError, match=r"should be \[box, flip, \[name, strength\], \.\.\.\]"):
        ViewParameters.from_json(values)


# Views for the cache


def test_fixed_views_are_the_centre_its_mirror_image_and_crops(picture: Picture) -> None:
    views = fixed_views(picture, ("centre", "flip", "crop", "crop_flip", "crop"), PREPROCESS, (0.2, 0.5), [0, 4])
    centre = centre_view(picture, PREPROCESS)
    assert np.array_equal(views[0], centre)
    assert np.array_equal(views[1], centre[:, ::-1])
    assert len({view.tobytes() for view in views}) == 5
    assert all(view.shape == (24, 24, 3) for view in views)


def test_fixed_crops_are_the_same_again_and_follow_seed_and_scale(picture: Picture) -> None:
    def crop(seed: list[int], scale: tuple[float, float] = (0.2, 0.5)) -> bytes:
        return fixed_views(picture, ("crop",), PREPROCESS, scale, seed)[0].tobytes()

    assert crop([0, 4]) == crop([0, 4])
    assert len({crop([0, 4]), crop([0, 5]), crop([1, 4]), crop([0, 4], (0.6, 0.9))}) == 4


def test_a_mirrored_crop_is_a_mirrored_crop(picture: Picture) -> None:
    (plain,) = fixed_views(picture, ("crop",), PREPROCESS, (0.2, 0.5), [0, 4])
    (mirrored,) = fixed_views(picture, ("crop_flip",), PREPROCESS, (0.2, 0.5), [0, 4])
    assert np.array_equal(mirrored, plain[:, ::-1])


# Settings


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"crop_scale": (0.9, 0.5)}, r"crop_scale: the lower limit comes first \(got \(0\.9, 0\.5\)\)"),
        ({"crop_ratio": (2.0, 0.5)}, "crop_ratio: the lower limit comes first"),
        ({"crop_scale": (0.0, 1.0)}, r"crop_scale\.0: .*greater than 0"),
        ({"crop_scale": (0.5, 1.5)}, r"crop_scale\.1: .*less than or equal to 1"),
        ({"rand_augment": {"magnitude": 31}}, r"rand_augment\.magnitude: .*less than or equal to 30"),
        ({"colour": True}, r"colour: unknown key"),
    ],
)
def test_impossible_settings_are_named(values: dict[str, object], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        AugmentConfig.parse(values, place="recipe")


@pytest.mark.parametrize("values", [{"views": ()}, {"views": ("left",)}, {"crop_scale": (0.9, 0.5)}])
def test_impossible_settings_of_the_cache_are_named(values: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"recipe: {next(iter(values))}"):
        CacheConfig.parse(values, place="recipe")


@pytest.mark.parametrize("shape", [(96, 32), (32, 96), (64, 64)])
def test_crops_have_the_shape_of_what_the_tower_sees(shape: tuple[int, int]) -> None:
    preprocess, config = PreprocessConfig(image_size=shape), AugmentConfig(crop_scale=(0.1, 0.2))
    picture = decode_picture(encode_picture(1, (300, 300)), place="x", shortest=shortest_side(preprocess, config))
    for seed in range(20):
        view = draw_view(config, picture.size, [seed], preprocess.aspect)
        assert view.box is not None
        left, top, right, bottom = view.box
        assert 0.7 < (right - left) / (bottom - top) / (shape[1] / shape[0]) < 1.4
        assert render_view(picture, view, preprocess).shape == (*shape, 3)
    assert all(
        view.shape == (*shape, 3) for view in fixed_views(picture, ("centre", "crop_flip"), preprocess, (0.5, 1), [0])
    )


def test_a_picture_is_decoded_large_enough_for_both_sides() -> None:
    assert shortest_side(PreprocessConfig(image_size=(384, 128)), AugmentConfig()) == 384
    assert shortest_side(PreprocessConfig(image_size=160), AugmentConfig()) == 160
