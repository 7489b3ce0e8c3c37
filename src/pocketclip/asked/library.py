"""What the models of other libraries have in common as settings and tokenizers, without torch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from pocketclip.config import Config
from pocketclip.embedder import Embedder, Ids, Mask
from pocketclip.errors import UserError, first_line
from pocketclip.models.running.precision import Precision

if TYPE_CHECKING:
    import torch

PACKAGES = ("pocketclip", "torch", "torchvision", "timm", "transformers", "tokenizers", "numpy", "pillow")
"""Whose versions embeddings depend on."""
Scale = Annotated[float, Field(gt=0)] | Literal["own"]
"""Inverse temperature of a model's similarities; `own` is the one it was trained to."""


class LibraryModelConfig(Config):
    """What the models of other libraries have in common as settings; an adapter adds `kind`, a name and weights."""

    prefix: ClassVar[str]
    """What stands before the colon where a user names such a model."""
    paths: ClassVar[tuple[str, ...]]
    """Fields that may hold a path."""
    library: ClassVar[str]
    """The pip package."""
    image_parts: ClassVar[tuple[str, ...]]
    """What the names of the parameters on the image's way begin with; the others are the text's."""
    normalize: ClassVar[bool] = True
    """Whether `embed_images` brings vectors to length 1."""

    crop_like: Literal["transformers", "torchvision"] = Field(
        default="transformers", exclude_if=lambda library: library == "transformers"
    )
    """As of `PreprocessConfig`: a teacher sees the student's pixels, and a model that is measured its library's own."""

    @property
    def knows(self) -> frozenset[str]:
        """What it can be asked about: images, captions, classes."""
        return frozenset({"images", "captions"})

    @classmethod
    @abstractmethod
    def from_text(cls, text: str) -> Self:
        """From what stands behind the colon."""

    @abstractmethod
    def text(self) -> str:
        """What a user writes for it: the prefix, a colon, and what `from_text` takes."""

    def lasting_text(self) -> str:
        """`text` as it can be read in any folder: with absolute paths."""
        there = {field: value for field in self.paths if (value := getattr(self, field)) and Path(value).exists()}
        return self.model_copy(update={field: str(Path(value).absolute()) for field, value in there.items()}).text()

    @abstractmethod
    def build(self, device: "torch.device", precision: Precision = "auto", *, role: str = "Model") -> Embedder:
        """Load it; `role` is what errors call it.

        Raises:
            UserError: its library is not installed, there is no such model, or its weights cannot be had.
        """


@contextmanager
def loading(place: str) -> Iterator[None]:
    """What a library raises where a model is not there, does not fit or runs code, as an error that names the model."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # offline, other keys in the file, no such repository: a dozen types
        raise UserError(f"{place}: cannot be loaded ({first_line(error)}).") from error


@dataclass(frozen=True)
class LibraryTokenizer(ABC):
    """Another library's tokenizer as a `TextReader`; it can be sent to another process."""

    tokenizer: Any
    context_length: int
    is_whole: bool
    """Whether texts are always padded to the context length, and the padding is read."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> tuple[Ids, Mask]:
        """(M, L) ids and (M, L) mask; see `TextReader`."""

    @abstractmethod
    def vocabulary(self) -> dict[str, int]:
        """Pieces and their ids."""
