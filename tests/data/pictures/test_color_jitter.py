import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.v2 import functional

from conftest import encode_picture
from pocketclip.data.pictures.augment import SIMCLR_VIEWS, AugmentConfig, ViewParameters, draw_view, render_view
from pocketclip.data.pictures.color_jitter import BLUR, ColorJitterConfig, draw_jitter
from pocketclip.data.pictures.decode import decode_picture
from pocketclip.data.pictures.rand_augment import RandAugmentConfig, apply_operation, draw_operations
from pocketclip.preprocess import PreprocessConfig, decode_image

IMAGE = decode_image(encode_picture(3, (60, 60), "PNG"), place="")
ALWAYS = ColorJitterConfig(probability=1, grayscale=1, blur=1)


@pytest.mark.parametrize("turn", [-0.1, 0.0, 0.07, 0.5])
def test_hue_is_torchvisions(turn: float) -> None:
    ours = np.asarray(apply_operation(IMAGE, ("hue", turn))).astype(int)
    theirs = np.asarray(functional.adjust_hue(IMAGE, turn)).astype(int)
    assert np.abs(ours - theirs).max() <= (0 if turn >= 0 else 12)  # below zero they round to the other side


def test_grayscale_is_torchvisions() -> None:
    ours = np.asarray(apply_operation(IMAGE, ("grayscale", 0.0)))
    assert np.array_equal(ours, np.asarray(functional.rgb_to_grayscale(IMAGE, 3)))


def test_a_blur_is_the_same_part_of_a_picture_at_any_size() -> None:
    wide = Image.fromarray(np.zeros((256, 256, 3), np.uint8))
    wide.paste((255, 255, 255), (128, 0, 256, 256))
    narrow = wide.resize((64, 64))

    def shares_of_edge(image: Image.Image) -> float:
        row = np.asarray(apply_operation(image, ("blur", 0.05)))[image.width // 2, :, 0].astype(float)
        return float(((row > 20) & (row < 235)).mean())

    assert shares_of_edge(wide) == pytest.approx(shares_of_edge(narrow), abs=0.04)
    assert shares_of_edge(wide) > 0.05


def test_the_order_is_random_and_the_strengths_are_within_their_limits() -> None:
    random = np.random.default_rng(0)
    drawn = [draw_jitter(ALWAYS, random) for _ in range(400)]
    assert {len(operations) for operations in drawn} == {6}
    assert {operations[0][0] for operations in drawn} == {"brightness", "contrast", "color", "hue"}
    assert all([name for name, _ in operations[4:]] == ["grayscale", "blur"] for operations in drawn)
    for name, limit in (("brightness", 0.4), ("contrast", 0.4), ("color", 0.4), ("hue", 0.1)):
        values = [strength for operations in drawn for one, strength in operations if one == name]
        assert -limit <= min(values) < -0.9 * limit
        assert 0.9 * limit < max(values) <= limit
    blurs = [operations[5][1] for operations in drawn]
    assert BLUR[0] * 0.99 <= min(blurs) < max(blurs) <= BLUR[1] * 1.01


def test_the_shares_of_pictures_are_slips() -> None:
    random = np.random.default_rng(0)
    drawn = [[name for name, _ in draw_jitter(ColorJitterConfig(), random)] for _ in range(3000)]
    for name, share in (("hue", 0.8), ("grayscale", 0.2), ("blur", 0.5)):
        assert sum(name in names for names in drawn) / 3000 == pytest.approx(share, abs=0.03)


def test_a_view_can_be_stored_and_is_rendered_the_same_again() -> None:
    picture = decode_picture(encode_picture(1, (48, 36), "PNG"), place="", shortest=24)
    config = AugmentConfig(crop_scale=(0.3, 1.0), rand_augment=RandAugmentConfig(), color_jitter=ALWAYS)
    view = draw_view(config, picture.size, [1, 2])
    again = ViewParameters.from_json(view.to_json())
    preprocess = PreprocessConfig(image_size=24)
    assert np.array_equal(render_view(picture, view, preprocess), render_view(picture, again, preprocess))
    assert len(view.ops) == 8


def test_settings_without_it_are_written_as_before() -> None:
    assert "color_jitter" not in AugmentConfig().model_dump()
    assert SIMCLR_VIEWS.model_dump()["color_jitter"]["hue"] == 0.1


def test_rand_augment_twice_is_one_of_twice_the_operations() -> None:
    """Each operation is drawn on its own, so a stack of two is what four at once are."""
    twice, once = np.random.default_rng(5), np.random.default_rng(5)
    two, four = RandAugmentConfig(num_ops=2), RandAugmentConfig(num_ops=4)
    for _ in range(20):
        assert draw_operations(two, twice) + draw_operations(two, twice) == draw_operations(four, once)
