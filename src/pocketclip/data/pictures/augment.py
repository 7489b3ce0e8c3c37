"""Random views of a picture, the same ones whenever the same seed comes back.

A view is drawn first, as a few numbers, and rendered then: the numbers can be stored, and give the same view again at
any size. Views draw from a generator of their own, so threads may make them side by side and nothing else in the
process notices.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from PIL import Image
from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, TypeAdapter, ValidationError

from pocketclip.config import Config
from pocketclip.data.pictures.color_jitter import ColorJitterConfig, draw_jitter
from pocketclip.data.pictures.decode import Box, Picture, Pixels, centre_view, crop_view, mirrored
from pocketclip.data.pictures.rand_augment import Operation, RandAugmentConfig, apply_operation, draw_operations
from pocketclip.data.pictures.random_erasing import Shares, draw_erased, erased, shifted
from pocketclip.errors import BrokenItemError
from pocketclip.preprocess import PreprocessConfig, scaled_size


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("the lower limit comes first")
    return limits


Share = Annotated[float, Field(gt=0, le=1)]
CropScale = Annotated[tuple[Share, Share], AfterValidator(_ascending)]
CropRatio = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ascending)]
SWAP_SIDES, _BOOL = "swap_sides", TypeAdapter(bool)


def _true_false_or(value: Any) -> Any:
    """One line for what is none of them, in the place of one for each that it might have been."""
    if value == SWAP_SIDES:
        return value
    try:
        return _BOOL.validate_python(value)
    except ValidationError:
        raise ValueError(f"should be true, false or {SWAP_SIDES}") from None


Flip = Annotated[bool | Literal["swap_sides"], BeforeValidator(_true_false_or)]
View = Literal["centre", "flip", "crop", "crop_flip"]


class AugmentConfig(Config):
    """What happens to a picture in training; None or False switches a step off."""

    crop_scale: CropScale | None = None
    """Random resized crop that keeps between these shares of the area."""
    crop_ratio: CropRatio = (3 / 4, 4 / 3)
    """Width to height of the crop, divided by that of the tower's own pictures, which are squares unless said."""
    flip: Flip = False
    """Mirror half of the pictures; captions that say left or right become wrong, or with `swap_sides` are swapped."""
    rand_augment: RandAugmentConfig | None = None
    color_jitter: ColorJitterConfig | None = Field(default=None, exclude_if=lambda value: value is None)
    pad_crop: Annotated[float, Field(gt=0, le=0.5)] | None = Field(default=None, exclude_if=lambda value: value is None)
    """Move the picture by up to this share of its width, across and up or down, as padding with black and cropping
    does; 0.08 is 10 pixels of 128."""
    random_erasing: Share | None = Field(default=None, exclude_if=lambda value: value is None)
    """Share of the pictures of which a part is erased: 2 to 40 % of the area, in the tower's mean colour."""


SIMCLR_VIEWS = AugmentConfig(crop_scale=(0.08, 1.0), flip=True, color_jitter=ColorJitterConfig())
"""How SLIP draws the views that are compared with each other."""


_PARTS = {"shift": 2, "erased": 4}
"""Fields that stand behind the operations where they are set, and how many numbers each has."""


@dataclass(frozen=True, slots=True)
class ViewParameters:
    """One view of a picture as numbers; `render_view` makes its pixels at any size."""

    box: Box | None = None
    """Left, top, right, bottom of the crop in the pixels of the source picture; None is the centre view."""
    flip: bool = False
    """Mirrored after the crop."""
    ops: tuple[Operation, ...] = ()
    """Operations of RandAugment, then of colour jitter, in order, after the flip and the shift."""
    shift: tuple[float, float] | None = None
    """To the right and down, as shares of the width."""
    erased: Shares | None = None
    """The part that is erased in the end."""

    def to_json(self) -> list[Any]:
        """As plain values, which JSON gives back unchanged."""
        further = [[name, list(part)] for name in _PARTS if (part := getattr(self, name)) is not None]
        return [self.box, int(self.flip), *self.ops, *further]

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """The inverse of `to_json`; a ValueError says of anything else what it should be."""
        try:
            box, flip, *ops = values
            left, top, right, bottom = box or (0, 0, 1, 1)
            if not 0 <= left < right or not 0 <= top < bottom:
                raise ValueError
            parts: dict[str, Any] = {name: tuple(map(float, part)) for name, part in ops if name in _PARTS}
            if any(len(part) != _PARTS[name] or not all(map(math.isfinite, part)) for name, part in parts.items()):
                raise ValueError
            named = tuple((name, strength) for name, strength in ops if name not in _PARTS)
            return cls(None if box is None else (left, top, right, bottom), flip == 1, named, **parts)
        except (TypeError, ValueError):
            raise ValueError(f"should be [box, flip, [name, strength], ...] (got {str(values)[:80]})") from None


def draw_view(config: AugmentConfig, size: tuple[int, int], seed: Sequence[int], aspect: float = 1.0) -> ViewParameters:
    """The numbers of one random view of a picture of some width and height, at whatever size it will be rendered.

    The seed's numbers name the view, such as (run seed, epoch, image number). Neither the process nor what was drawn
    before matters, so workers and resumed runs see the same views. `aspect` is width to height of what the tower sees.
    """
    random, scale = np.random.default_rng(seed), config.crop_scale
    ratio = config.crop_ratio[0] * aspect, config.crop_ratio[1] * aspect
    box = None if scale is None else random_crop_box(size, scale, ratio, random)
    flip = bool(config.flip) and random.random() < 0.5
    ops = () if config.rand_augment is None else draw_operations(config.rand_augment, random)
    if config.color_jitter is not None:
        ops += draw_jitter(config.color_jitter, random)
    shift, part, pad = None, None, config.pad_crop
    if pad is not None:
        shift = float(random.uniform(-pad, pad)), float(random.uniform(-pad, pad))
    if config.random_erasing is not None and random.random() < config.random_erasing:
        part = draw_erased(random, aspect)
    return ViewParameters(box, flip, ops, shift, part)


def render_view(picture: Picture, parameters: ViewParameters, preprocess: PreprocessConfig) -> Pixels:
    """The pixels of a view, (H, W, 3) bytes as `preprocess.shape` says: the same bits in every process.

    A box outside the picture is a BrokenItemError: the view was drawn for another one.
    """
    width, height = picture.size
    if parameters.box is None:
        pixels = centre_view(picture, preprocess)
    elif parameters.box[2] > width or parameters.box[3] > height:
        raise BrokenItemError(f"the view {list(parameters.box)} lies outside the picture of {width} x {height} pixels.")
    else:
        pixels = crop_view(picture, parameters.box, preprocess)
    if parameters.flip:
        pixels = mirrored(pixels)
    if parameters.shift is not None:
        pixels = shifted(pixels, parameters.shift)
    if parameters.ops:
        image = Image.fromarray(pixels)
        for operation in parameters.ops:
            image = apply_operation(image, operation)
        pixels = np.array(image)
    return pixels if parameters.erased is None else erased(pixels, parameters.erased, preprocess.mean)


def shortest_side(preprocess: PreprocessConfig, augment: AugmentConfig) -> int:
    """The shorter side of a picture that no view has to be enlarged from; see `decode_picture`."""
    size, ratio = min(scaled_size((1, 1), preprocess)), augment.crop_ratio
    if augment.crop_scale is None:
        return size
    return math.ceil(size / math.sqrt(augment.crop_scale[0] * min(ratio[0], 1 / ratio[1], 1)))


def random_crop_box(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], random: np.random.Generator
) -> Box:
    """A random part of a picture: left, top, right, bottom in its own pixels.

    The area is uniform in `scale`, the logarithm of width to height uniform in `ratio`; after ten boxes that do not
    fit, the largest centre box of an allowed ratio is taken. The same rule as torchvision's RandomResizedCrop.
    """
    width, height = size
    for _ in range(10):
        area = width * height * random.uniform(*scale)
        aspect = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(random.integers(width - w + 1)), int(random.integers(height - h + 1))
            return left, top, left + w, top + h
    w = max(1, min(width, round(height * ratio[1])))
    h = max(1, min(height, round(width / ratio[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def fixed_views(
    picture: Picture,
    views: Sequence[View],
    preprocess: PreprocessConfig,
    crop_scale: tuple[float, float],
    seed: Sequence[int],
) -> list[Pixels]:
    """The views of a picture that a feature cache stores: `crop` ones are random, the others what inference sees."""
    crop, rendered = AugmentConfig(crop_scale=crop_scale), []
    for number, view in enumerate(views):
        box = draw_view(crop, picture.size, [*seed, number], preprocess.aspect).box if view.startswith("crop") else None
        rendered.append(render_view(picture, ViewParameters(box, flip=view.endswith("flip")), preprocess))
    return rendered
