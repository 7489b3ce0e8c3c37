"""Settings of where a tower's weights come from: `pretrained: hub | package | none | PATH` everywhere, or `inherit`."""

from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import NonNegativeInt, model_validator

from pocketclip.config import Config

if TYPE_CHECKING:
    from torch import nn

Layers = Literal["interval", "leading"] | tuple[NonNegativeInt, ...]
TowerConfig = TypeVar("TowerConfig", bound=Config)
Part = Literal["image_encoder", "text_encoder"]


class InheritConfig(Config, Generic[TowerConfig]):
    """What a smaller tower starts from: another tower with its weights, or that of a model trained here."""

    tower: TowerConfig | None = None
    """A larger tower of the same kind, as it stands in a recipe."""
    bundle: str | None = None
    """A bundle, a run folder or a hub name, whose tower of the same kind it is."""
    layers: Layers = "interval"
    """Of each stack of layers that is deeper in the larger tower: `interval` takes every (larger // smaller)-th
    from the first on, `leading` the first ones; a list names them, for towers with one stack."""

    @model_validator(mode="after")
    def _one_origin(self) -> "InheritConfig[TowerConfig]":
        if (self.tower is None) == (self.bundle is None):
            raise ValueError("should name a tower or a bundle to take the weights from")
        return self

    def fill(self, encoder: "nn.Module", kind: type[TowerConfig], part: Part) -> None:
        """Fill a smaller encoder, just built, whose config is of this kind; a bundle has two, and gives this part.

        Raises:
            UserError: the larger tower cannot be had, or does not fit.
        """
        from pocketclip.models.origin.inherit import inherit, tower_of_bundle

        config: Any = self.tower  # configs of towers have no class in common, but `build`
        large = config.build() if self.bundle is None else tower_of_bundle(self.bundle, kind, part)
        one, other = (getattr(module, "tower", module) for module in (encoder, large))  # another library's, bare
        inherit(one, other, self.layers)
