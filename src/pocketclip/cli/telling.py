"""How much is told on stderr: notes and bars, errors alone with --quiet, more with --verbose."""

import importlib.metadata
import os
import platform
import warnings
from dataclasses import dataclass
from typing import Literal

import typer

from pocketclip.errors import printable

PACKAGES = ("torch", "torchvision", "timm", "transformers", "numpy", "pillow")
"""Whose versions --verbose names: numbers may differ from one to the next."""


@dataclass
class Asked:
    """What was typed of the options that all commands have; of one call of `main`."""

    quiet: bool = False
    verbose: bool = False
    format: Literal["table", "json", "csv"] | None = None
    """None leaves it to where stdout goes."""


asked = Asked()


def forget() -> None:
    """Before a command."""
    asked.quiet, asked.verbose, asked.format = False, False, None


def tell(message: str) -> None:
    """A note to stderr: lines worth reading that are no result."""
    if not asked.quiet:
        typer.echo(printable(message, keep="\n\t"), err=True)


def be_quiet() -> None:
    """From now on results and errors only; of libraries, too."""
    asked.quiet = True
    warnings.simplefilter("ignore")


def be_verbose() -> None:
    """From now on more; first of all what runs here, and where it keeps its things."""
    if asked.verbose:
        return
    asked.verbose = True
    from pocketclip.files import cache_root

    installed = [f"{name} {version}" for name in PACKAGES if (version := _version(name))]
    tell(f"pocketclip {_version('pocketclip')}, Python {platform.python_version()}, {platform.platform()}")
    tell(", ".join(installed) or "without torch")
    tell(f"cache: {cache_root()}   data: {os.environ.get('POCKETCLIP_DATA', 'data')}   here: {os.getcwd()}")  # noqa: PTH109


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
