"""From bytes to what a tower was trained on."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from pocketclip.models.tower import ImageTower
from pocketclip.preprocess import PreprocessConfig

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALIZATIONS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and standard deviation of pixels between 0 and 1; `half` makes them -1 to 1, and `none` leaves them as they are,
as MobileCLIP does."""


class PixelTower(ImageTower):
    """A tower that takes bytes, or floats normalised as `preprocess` says."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocess: PreprocessConfig) -> None:
        super().__init__()
        self.preprocess = preprocess
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(preprocess, name)).view(1, 3, 1, 1), persistent=False)

    def normalise(self, images: Shaped[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Bytes to normalised floats, channels last; floats are taken as normalised already."""
        if images.dtype == torch.uint8:
            images = images.to(self.mean.dtype).sub_(255 * self.mean).div_(255 * self.std)
        return images.to(memory_format=torch.channels_last)
