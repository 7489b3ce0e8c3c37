"""A model that is asked, whoever made it: pictures and sentences to vectors of one space. Numpy in and out, no torch.

Evaluation, cost, embedding, indexing, filtering and pages take an `Embedder` and nothing else. A library comes in by
one adapter in `asked/`, which fills in what is abstract here; what users call is written once, below.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pocketclip.errors import UserError
from pocketclip.preprocess import ImageLike, PreprocessConfig, open_image, resize_image
from pocketclip.sketch import Sketch

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
JudgePairs = Callable[[Floats, Floats], Floats]
"""(2 P, D) embeddings of the left and right images of P examples in turn, and (2 P, D) of their sentences, to the (P,)
logits that the sentence is true."""


@runtime_checkable
class TextReader(Protocol):
    """Sentences to the ids that a model reads."""

    @property
    def context_length(self) -> int:
        """Longest text in tokens; longer ones are cut."""
        ...

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Mask]:
        """(M, L) ids and (M, L) mask, True where the model reads; columns that are False in all rows may be cut off."""
        ...


class Embedder(ABC):
    """Images and sentences to vectors of unit length; their dot product is their similarity.

    >>> images = model.encode_image(["a.jpg", "b.jpg"])      # float32 (2, D), unit length
    >>> texts = model.encode_text(["two dogs in the snow"])  # float32 (1, D), unit length
    >>> images @ texts.T

    An adapter sets the attributes and fills in the abstract methods.
    """

    name: str
    """For records and messages, as a user would write it."""
    embed_dim: int
    """D."""
    num_parameters: int
    """Learned values, each shared one once."""
    preprocess: PreprocessConfig
    """How a picture becomes the pixels that `encode_images` takes."""
    tokenizer: TextReader | None = None
    """None of a model that knows images only."""
    inverse_temperature: float | None = None
    """What similarities are multiplied with before a softmax, such as 100; None of a model trained without."""
    judge_pairs: JudgePairs | None = None
    """Whether sentences are true of pairs of images; None of a model that judges none."""
    is_on_gpu: bool = False
    trained_on: Sketch | None = None
    """Which pictures it learned from; None where that is not known."""

    @abstractmethod
    def encode_images(self, pixels: Pixels) -> Floats:
        """(B, H, W, 3) bytes, sized as `preprocess` says, to (B, D) of unit length. Safe from several threads."""

    @abstractmethod
    def encode_texts(self, tokens: Ids, mask: Mask) -> Floats:
        """(M, L) ids and mask, as `tokenizer` gives them, to (M, D) of unit length. Safe from several threads."""

    @abstractmethod
    def made_from(self) -> dict[str, Any]:
        """Everything that the embeddings depend on, as plain JSON values; stored embeddings hang on it."""

    def for_scores(self) -> "Embedder":
        """The same model as exact as reported numbers ask for; itself where there is nothing to choose."""
        return self

    def encode_image(self, images: ImageLike | Sequence[ImageLike], *, batch_size: int = 32) -> Floats:
        """Paths, encoded bytes or Pillow images, one or several, to (B, D) float32 of unit length.

        Raises:
            UserError: a file is missing or is not a picture.
        """
        wanted = list(images) if isinstance(images, Sequence) and not isinstance(images, (str, bytes)) else [images]
        rows = []
        for first in range(0, len(wanted), batch_size):
            opened = [open_image(image) for image in wanted[first : first + batch_size]]
            rows.append(self.encode_images(np.stack([resize_image(image, self.preprocess) for image in opened])))
        return np.concatenate(rows) if rows else np.zeros((0, self.embed_dim), np.float32)

    def encode_text(self, texts: str | Sequence[str], *, batch_size: int = 128) -> Floats:
        """Sentences, cut at the context length, to (B, D) float32 of unit length.

        Raises:
            UserError: the model knows images only.
        """
        reader = self.text_reader()
        wanted = [texts] if isinstance(texts, str) else list(texts)
        order = sorted(range(len(wanted)), key=lambda number: len(wanted[number]))
        rows = np.zeros((len(wanted), self.embed_dim), np.float32)
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            rows[chosen] = self.encode_texts(*reader.encode([wanted[number] for number in chosen]))
        return rows

    def text_reader(self) -> TextReader:
        """The tokenizer; a UserError of a model that knows images only."""
        if self.tokenizer is None:
            raise UserError(f"{self.name}: knows images only, and this asks it about texts; choose a model of both.")
        return self.tokenizer

    def classify(
        self, images: ImageLike | Sequence[ImageLike], class_names: Sequence[str], *, template: str = "{}"
    ) -> list[dict[str, float]]:
        """Zero-shot classification: the probability of each class for each picture.

        Args:
            images: as in `encode_image`.
            class_names: at least one, none twice.
            template: a sentence with `{}` where the class name goes.

        Returns:
            One mapping an image, most probable class first; values sum to 1.
        """
        if not class_names:
            raise UserError("classify: class_names is empty.")
        if len(set(class_names)) < len(class_names):
            raise UserError(f"classify: class_names should differ (got {list(class_names)}).")
        if "{}" not in template:
            raise UserError(f"classify: template should hold {{}} for the class name (got {template!r}).")
        texts = self.encode_text([template.replace("{}", name) for name in class_names])
        logits = (self.inverse_temperature or 1.0) * self.encode_image(images) @ texts.T
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = shifted / shifted.sum(axis=1, keepdims=True)
        return [
            {class_names[number]: float(row[number]) for number in np.argsort(-row, kind="stable")} for row in shares
        ]
