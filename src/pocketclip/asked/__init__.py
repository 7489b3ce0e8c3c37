"""Every model that is asked, by the name that a user writes: ours and those of other libraries, an adapter for each.

A new library is one file with a `LibraryModelConfig` and a `LibraryModel`, and its config in `Models`: then recipes
take it as a teacher and every command as a model.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import Field

from pocketclip.asked.config import BundleModelConfig
from pocketclip.asked.library import LibraryModelConfig
from pocketclip.asked.open_clip import OpenClipModelConfig
from pocketclip.asked.sentence_transformers import SentenceTransformersModelConfig
from pocketclip.asked.timm import TimmModelConfig
from pocketclip.asked.transformers import HuggingFaceModelConfig
from pocketclip.bundle import find_bundle
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError, unknown_choice
from pocketclip.models.running.precision import Precision, resolve_device

if TYPE_CHECKING:
    from pocketclip.asked.bundle import PretrainedModel
    from pocketclip.asked.model import AskedModel, LibraryModel

Models = (
    BundleModelConfig | OpenClipModelConfig | HuggingFaceModelConfig | SentenceTransformersModelConfig | TimmModelConfig
)
AskedModelConfig = Annotated[Models, Field(discriminator="kind")]
PREFIXES: dict[str, type[LibraryModelConfig]] = {
    config.prefix: config for config in get_args(Models) if issubclass(config, LibraryModelConfig)
}


def open_model(
    place: str | Path, *, device: str = "auto", precision: Precision = "auto", text_only: bool = False
) -> Embedder:
    """Open a model by what a user writes for it.

    >>> model = open_model("open_clip:ViT-B-32/openai")
    >>> model.encode_text(["two dogs in the snow"])  # float32 (1, D), unit length

    Args:
        place: a bundle, a run folder or a bundle's hub name; or `open_clip:NAME/PRETRAINED`, `hf:NAME`,
            `st:NAME` or `timm:NAME`.
        device: `cpu`, `cuda` or `auto`.
        precision: of all but reported numbers; see `Embedder.for_scores`.
        text_only: leave out a bundle's image tower: half the time to load, for encoding queries.

    Raises:
        UserError: nothing of this name can be had.
    """
    library = library_model(place)
    if library is None:
        from pocketclip.asked.bundle import PretrainedModel

        return PretrainedModel.from_pretrained(place, text_only=text_only).to(device, precision=precision)
    return library.build(resolve_device(device), precision)


def library_model(place: str | Path) -> LibraryModelConfig | None:
    """The model of another library that a name stands for; None for a bundle.

    Raises:
        UserError: what stands before the colon is no library that we know.
    """
    text = str(place)
    prefixed = re.fullmatch(r"([\w-]{2,}):(.*)", text)  # one letter is a drive
    if prefixed is None or Path(text).exists():
        return None
    prefix, name = prefixed.groups()
    if prefix not in PREFIXES:
        known = unknown_choice("library of models", prefix, PREFIXES)
        raise UserError(f"{text}: {known} Or name a bundle, a run folder, or a bundle's name on the hub.")
    return PREFIXES[prefix].from_text(name)


def lasting_name(place: str) -> Path | str:
    """What an index keeps of a model's name, to open it again from any folder: paths are absolute.

    Raises:
        UserError: see `library_model`; or there is no bundle.
    """
    library = library_model(place)
    return find_bundle(place).absolute() if library is None else library.lasting_text()


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for."""
    homes = {"AskedModel": "model", "LibraryModel": "model", "PretrainedModel": "bundle"}
    if name in homes:
        return getattr(import_module(f"pocketclip.asked.{homes[name]}"), name)
    raise AttributeError(f"module 'pocketclip.asked' has no attribute '{name}'")


__all__ = [
    "AskedModel",
    "AskedModelConfig",
    "LibraryModel",
    "LibraryModelConfig",
    "PretrainedModel",
    "TimmModelConfig",
    "lasting_name",
    "library_model",
    "open_model",
]
