import math

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from torchvision.transforms.v2 import functional

from conftest import encode_picture
from pocketclip.data.pictures.rand_augment import OPERATIONS, RandAugmentConfig, apply_operation, draw_operations
from pocketclip.errors import UserError
from pocketclip.preprocess import decode_image

IMAGE = decode_image(encode_picture(3, (60, 60), "PNG"), place="")


def pixels(name: str, strength: float, image: Image.Image = IMAGE) -> npt.NDArray[np.uint8]:
    return np.asarray(apply_operation(image, (name, strength)))


THEIRS = {
    "identity": lambda _: IMAGE,
    "shear_x": lambda s: functional.affine(IMAGE, 0, [0, 0], 1, [math.degrees(math.atan(s)), 0], center=[0, 0]),
    "shear_y": lambda s: functional.affine(IMAGE, 0, [0, 0], 1, [0, math.degrees(math.atan(s))], center=[0, 0]),
    "translate_x": lambda s: functional.affine(IMAGE, 0, [round(s * 60), 0], 1, [0, 0]),
    "translate_y": lambda s: functional.affine(IMAGE, 0, [0, round(s * 60)], 1, [0, 0]),
    "rotate": lambda s: functional.rotate(IMAGE, s),
    "brightness": lambda s: functional.adjust_brightness(IMAGE, 1 + s),
    "color": lambda s: functional.adjust_saturation(IMAGE, 1 + s),
    "contrast": lambda s: functional.adjust_contrast(IMAGE, 1 + s),
    "sharpness": lambda s: functional.adjust_sharpness(IMAGE, 1 + s),
    "posterize": lambda s: functional.posterize(IMAGE, int(s)),
    "solarize": lambda s: functional.solarize(IMAGE, 255 * s),
    "autocontrast": lambda _: functional.autocontrast(IMAGE),
    "equalize": lambda _: functional.equalize(IMAGE),
}
STRENGTHS = {"rotate": 9.0, "posterize": 5.0, "solarize": 0.6}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("sign", [1, -1])
def test_operations_are_torchvisions(name: str, sign: int) -> None:
    if sign < 0 and name in ("posterize", "solarize"):
        pytest.skip("has no direction")
    strength = sign * STRENGTHS.get(name, 0.2)
    ours, theirs = pixels(name, strength).astype(int), np.asarray(THEIRS[name](strength)).astype(int)
    # A sheared edge may fall between two pixels; everything else is exact
    assert (ours != theirs).any(axis=2).mean() <= (0.01 if name.startswith("shear") else 0)


def test_there_are_fourteen_and_each_is_drawn_as_often_as_any_other() -> None:
    random, config = np.random.default_rng(0), RandAugmentConfig(num_ops=2, magnitude=9)
    drawn = [operation for _ in range(7000) for operation in draw_operations(config, random)]
    counts = {name: sum(one == name for one, _ in drawn) for name in OPERATIONS}
    assert len(OPERATIONS) == 14
    assert sum(counts.values()) == 14_000
    assert all(850 < count < 1150 for count in counts.values()), counts


def test_strengths_grow_with_the_magnitude_and_signs_are_even() -> None:
    def strengths(magnitude: int) -> dict[str, set[float]]:
        random, found = np.random.default_rng(1), {}
        config = RandAugmentConfig(num_ops=1, magnitude=magnitude)
        for _ in range(400):
            ((name, strength),) = draw_operations(config, random)
            found.setdefault(name, set()).add(strength)
        return found

    strongest = strengths(30)
    assert strongest["shear_x"] == {0.3, -0.3}
    assert strongest["rotate"] == {30.0, -30.0}
    assert strongest["brightness"] == {0.9, -0.9}
    assert strongest["translate_y"] == {0.453172, -0.453172}
    assert (strongest["posterize"], strongest["solarize"]) == ({4.0}, {0.0})
    published = strengths(9)
    assert published["color"] == {0.27, -0.27}
    assert (published["posterize"], published["solarize"]) == ({7.0}, {0.7})


@pytest.mark.parametrize("name", ["translate_x", "shear_y", "rotate"])
def test_a_strength_means_the_same_at_another_size(name: str) -> None:
    large = Image.fromarray(np.kron(np.asarray(IMAGE), np.ones((2, 2, 1), np.uint8)))
    strength = 10.0 if name == "rotate" else 0.25
    ours, twice = pixels(name, strength).astype(float), pixels(name, strength, large)[::2, ::2].astype(float)
    untouched = np.asarray(IMAGE).astype(float)
    assert np.abs(ours - twice).mean() < 0.1 * np.abs(ours - untouched).mean()  # all but the nearest pixels' edges


def test_an_operation_of_a_newer_version_is_named() -> None:
    with pytest.raises(UserError, match=r"Unknown operation of a stored view 'rotat'\. Did you mean 'rotate'\?"):
        apply_operation(IMAGE, ("rotat", 3.0))
