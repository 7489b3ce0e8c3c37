"""What the rest of the toolkit asks of a tower; every family, and whatever stands in for a tower, is one of these.

They are classes and not protocols because a tower is a torch module too: it is asked for parameters, moved and copied.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pocketclip.errors import UserError
from pocketclip.image_size import ImageSize
from pocketclip.preprocess import PreprocessConfig


class Tower(nn.Module):
    """Inputs to one feature each."""

    feature_dim: int
    """F, the width of a feature; of a token after `give_tokens`."""
    settings: Mapping[str, Any] = {}
    """What shapes the output beside the weights: names of cached features hang on it."""
    frozen_modules: Sequence[nn.Module] = ()
    """Layers that stay as pretrained, and behave as in inference, when the tower is trained."""

    if TYPE_CHECKING:

        def __call__(self, *inputs: Tensor) -> Tensor: ...

    @property
    def frozen_parameters(self) -> list[nn.Parameter]:
        """Of the frozen layers; no optimizer may get them."""
        return [value for module in self.frozen_modules for value in module.parameters()]

    @property
    def layers_in_order(self) -> Sequence[nn.Module]:
        """From the input on; none where a tower's layers are no modules of their own."""
        return ()

    @property
    def parameters_by_layer(self) -> list[list[nn.Parameter]]:
        """From the input on; what belongs to no layer is with the last one."""
        return with_the_rest([list(layer.parameters()) for layer in self.layers_in_order], self)

    def train(self, mode: bool = True) -> "Tower":
        """Training mode, in which frozen layers still behave as in inference."""
        super().train(mode)
        for module in self.frozen_modules:
            module.eval()
        return self

    def checkpoint_activations(self) -> None:
        """Compute activations again in the backward pass instead of keeping them.

        Raises:
            UserError: this tower cannot.
        """
        raise UserError(f"train.checkpoint_activations: there is none for a {type(self).__name__}.")

    def compile_for_training(self) -> None:
        """Let torch.compile fuse the tower's operations from the next call on."""
        self.compile()

    def give_tokens(self) -> None:
        """From now on give (B, L, F) tokens instead of (B, F) features; asked before a shared encoder only.

        Raises:
            UserError: this tower has none to give; its config's `gives_tokens` says so.
        """
        raise UserError(f"a {type(self).__name__} gives no tokens.")


def with_the_rest(layers: list[list[nn.Parameter]], tower: nn.Module) -> list[list[nn.Parameter]]:
    """The layers, the last of them with every parameter of a tower that is in none; at least one."""
    known = {id(parameter) for layer in layers for parameter in layer}
    rest = [parameter for parameter in tower.parameters() if id(parameter) not in known]
    return [*layers[:-1], [*(layers[-1] if layers else []), *rest]]


class Checkpointed(nn.Module):
    """What can compute activations again in the backward pass, layer by layer."""

    is_checkpointed = False

    def checkpoint_activations(self) -> None:
        """See `Tower.checkpoint_activations`."""
        self.is_checkpointed = True

    def run_layer(self, layer: nn.Module, *inputs: Any) -> Any:
        """What a layer makes of its inputs."""
        is_repeated = self.is_checkpointed and self.training
        return checkpoint(layer, *inputs, use_reentrant=False) if is_repeated else layer(*inputs)


class ImageTower(Tower):
    """(B, 3, H, W) bytes, or floats normalised with `preprocess`, to (B, F)."""

    preprocess: PreprocessConfig
    has_class_token = False
    """Whether the first token stands for the whole image."""
    looks_twice = False
    """Whether it sees each picture a second time in inference, once it is trained."""

    def with_places(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The (B, F) features, and (B, P, G) what was pooled to them; the feature itself where that is not known."""
        features = self(images)
        return features, features[:, None]

    def resampled(self, weights: Mapping[str, Tensor], size: ImageSize) -> dict[str, Tensor]:
        """Weights of this very tower, but learned at another image size, with their positions brought to its own."""
        return dict(weights)

    def on_patches(self, share: float) -> AbstractContextManager[None]:
        """Within, see only this share of the patches of each image in training, drawn at random.

        Raises:
            UserError: the tower has no patches.
        """
        raise UserError(f"keep_patches: a {type(self).__name__} has no patches to drop; take a ViT of timm.")

    def at_any_size(self) -> AbstractContextManager[None]:
        """Within, take pictures of other sizes, too; a tower that always does, or never can, stays as it is."""
        return nullcontext()

    def look_once(self, once: bool = True) -> None:
        """From now on see each picture once in inference, too, as in training, or not; most towers always do."""


class TextTower(Tower):
    """(M, L) ids and their mask, True where a token stands, to (M, F)."""

    architecture: Mapping[str, Any] = {}
    """What a bundle needs, beside the recipe, to build the tower again: `vocab_size` and the like."""

    def compile_for_training(self) -> None:
        self.compile(dynamic=True)  # for any length of text

    def word_states(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """(M, L, F) of (M, L) ids and their mask, of the last layer and before any pooling.

        Raises:
            UserError: this tower gives none.
        """
        raise UserError(
            f"objective.terms: masked_language needs a state for each word, and a {type(self).__name__} gives none; "
            "take a clip or huggingface text_encoder."
        )

    def needed_tokens(self) -> set[int]:
        """Ids that the tower itself refers to, which `keep_tokens` must keep."""
        return set()

    def keep_tokens(self, kept: Sequence[int]) -> None:
        """Drop all other word embeddings; texts of kept tokens, under their new ids, give the same bits as before.

        Kept are ids in the order of the new ones, with those of `needed_tokens`.
        """
        raise UserError(f"text_encoder.vocabulary: a {type(self).__name__} keeps all its words; leave it out.")


class CachedTower(ImageTower, TextTower):
    """Passes through what comes in: the features of a frozen tower that was run before."""

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """The features themselves."""
        return features


class NoTower(ImageTower, TextTower):
    """Where a model has no tower, such as one that only encodes queries; it refuses to be run."""

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Raises `UserError`."""
        raise UserError("This model has no tower for these inputs; load it whole, without text_only=True.")
