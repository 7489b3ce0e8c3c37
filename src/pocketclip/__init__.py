"""Small image-text models on a small budget: train, distil, measure, ship.

>>> import pocketclip
>>> model = pocketclip.load("runs/flickr8k")
>>> model.encode_text(["two dogs in the snow"]).shape
"""

from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketclip.errors import UserError, install_line

if TYPE_CHECKING:
    from pocketclip.asked import PretrainedModel, open_model
    from pocketclip.asked.index import Index
    from pocketclip.asked.published import load_published
    from pocketclip.data import open_source
    from pocketclip.head import Head
    from pocketclip.recipe import Recipe, load_recipe

__all__ = [
    "Head",
    "Index",
    "PretrainedModel",
    "Recipe",
    "UserError",
    "load",
    "load_published",
    "load_recipe",
    "open_model",
    "open_source",
]

_HOMES = {
    "Head": "pocketclip.head",
    "Index": "pocketclip.asked.index",
    "PretrainedModel": "pocketclip.asked",
    "Recipe": "pocketclip.recipe",
    "load_published": "pocketclip.asked.published",
    "load_recipe": "pocketclip.recipe",
    "open_model": "pocketclip.asked",
    "open_source": "pocketclip.data",
}


def load(place: str | Path, *, device: str = "auto") -> "PretrainedModel":
    """Load a trained model of ours from a bundle, a run folder, or a name on the Hugging Face hub.

    `device` is `cpu`, `cuda`, or `auto` for the first GPU if there is one. `open_model` also opens models of other
    libraries.
    """
    from pocketclip.asked import library_model

    if library_model(place) is not None:
        raise UserError(f"{place}: a model of another library; open it with pocketclip.open_model({str(place)!r}).")
    loaded: PretrainedModel = _imported("PretrainedModel").from_pretrained(place)
    return loaded if device == "auto" else loaded.to(device)


def _imported(name: str) -> Any:
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if (line := install_line(error)) is None:
            raise
        raise UserError(line) from error


def __getattr__(name: str) -> Any:
    """Import the heavy names when they are first asked for."""
    if name == "__version__":
        return version("pocketclip")
    if name in _HOMES:
        return _imported(name)
    raise AttributeError(f"module 'pocketclip' has no attribute '{name}'")


def __dir__() -> list[str]:
    """With the names that are not imported yet, for completion."""
    return sorted({*globals(), *__all__, "__version__"})
