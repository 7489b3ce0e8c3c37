"""A bundle of ours as a teacher in a recipe, without torch; the models of other libraries have a file each."""

from typing import TYPE_CHECKING, Literal

from pocketclip.asked.library import Scale
from pocketclip.config import Config
from pocketclip.models.running.precision import Precision

if TYPE_CHECKING:
    import torch

    from pocketclip.asked.model import AskedModel


class BundleModelConfig(Config):
    """A bundle, a run folder, or a bundle's name on the Hugging Face hub."""

    kind: Literal["bundle"] = "bundle"
    path: str
    scale: Scale = "own"

    @property
    def knows(self) -> frozenset[str]:
        """As of `LibraryModelConfig`."""
        return frozenset({"images", "captions"})

    def build(self, device: "torch.device", precision: Precision = "auto", *, role: str = "Model") -> "AskedModel":
        """Load it.

        Raises:
            UserError: it is not there or not complete.
        """
        from pocketclip.asked.bundle import PretrainedModel
        from pocketclip.models.running.runner import MODALITIES

        del role  # errors name the file
        model = PretrainedModel.from_pretrained(self.path).to(str(device), precision=precision)
        for modality in MODALITIES:
            model.runner.encoder(modality)  # made outside of inference mode, as losses keep its vectors
        if self.scale != "own":
            model.inverse_temperature = self.scale
        return model
