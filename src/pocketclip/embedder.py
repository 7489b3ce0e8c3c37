"""A model that is asked, whoever made it: pictures and sentences to vectors of one space. Numpy in and out, no torch.

Evaluation, cost, embedding, indexing, filtering and pages take an `Embedder` and nothing else. A library comes in by
one adapter in `asked/`, which fills in what is abstract here; what users call is written once, below.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

from pocketclip.config import digest
from pocketclip.errors import UserError
from pocketclip.head import Head, probabilities
from pocketclip.hubs import Hubs
from pocketclip.inputs import (
    TAKEN,
    ImageLike,
    called,
    is_array,
    is_picture,
    is_text,
    items_of,
    read_image,
    read_text,
    to_numpy,
)
from pocketclip.preprocess import PreprocessConfig, resize_image
from pocketclip.sketch import Sketch

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Images = ImageLike | Iterable[ImageLike]
Things = ImageLike | Iterable[ImageLike]
"""Sentences and pictures, one or several, mixed."""
Named = tuple[str, Any]
"""An item with the name that errors call it by."""
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
    knows_images: bool = True
    """Whether it can be asked about pictures; a model of sentences alone has no `preprocess`."""
    tokenizer: TextReader | None = None
    """None of a model that knows images only."""
    inverse_temperature: float | None = None
    """What similarities are multiplied with before a softmax, such as 100; None of a model trained without."""
    judge_pairs: JudgePairs | None = None
    """Whether sentences are true of pairs of images; None of a model that judges none."""
    is_on_gpu: bool = False
    _preprocess: PreprocessConfig | None = None
    trained_on: Sketch | None = None
    """Which pictures it learned from; None where that is not known."""
    hubs: Hubs | None = None
    """A bank by which scores are corrected; None of a model that came without."""

    @property
    def preprocess(self) -> PreprocessConfig:
        """How a picture becomes the pixels that `encode_images` takes; a UserError of a model that knows texts only."""
        if self._preprocess is None:
            raise UserError(f"{self.name}: knows texts only, and this asks it about images; choose a model of both.")
        return self._preprocess

    @preprocess.setter
    def preprocess(self, value: PreprocessConfig) -> None:
        """Set by an adapter."""
        self._preprocess = value

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

    def resize(self) -> Callable[[Image.Image], Pixels]:
        """What makes an upright RGB picture the pixels that `encode_images` takes; an adapter may use its library's."""
        return partial(resize_image, config=self.preprocess)

    def __repr__(self) -> str:
        reader, device = self.tokenizer, getattr(self, "device", "cuda" if self.is_on_gpu else "cpu")
        context_length = "no texts" if reader is None else f"context_length={reader.context_length}"
        image_size = f"image_size={self.preprocess.image_size}" if self.knows_images else "no images"
        return (
            f"{type(self).__name__}({self.name!r}, num_parameters={self.num_parameters:_}, embed_dim={self.embed_dim}, "
            f"{image_size}, {context_length}, device={str(device)!r})"
        )

    def encode_image(self, images: Images, *, batch_size: int = 32) -> Floats:
        """Pictures, one or several, to (B, D) float32 of unit length; see `read_image` for what they may be.

        Several come as a list, a tuple, anything that gives them in turn, or an array (B, H, W, 3); no more than a
        batch of them is held.

        Raises:
            UserError: one is missing, damaged or no picture; the message has its number.
        """
        return self._join(list(self._encode_images(items_of(images, "images"), batch_size)))

    def encode_text(self, texts: str | Iterable[str], *, batch_size: int = 128) -> Floats:
        """Sentences, one or several, cut at the context length, to (B, D) float32 of unit length.

        Raises:
            UserError: the model knows images only, or one is no sentence; the message has its number.
        """
        return self._encode_texts(items_of(texts, "texts", is_text), batch_size)

    def encode(self, things: Things, *, batch_size: int = 32) -> Floats:
        """Sentences and pictures, one or several, mixed, to (B, D) float32 of unit length, in their order.

        A text is a sentence unless it ends as files of pictures do (`a.jpg`): then that file is meant. All else is
        what `encode_image` takes. Where that is in the way, call `encode_text` or `encode_image`.

        Raises:
            UserError: as of those two.
        """
        items = list(items_of(things, "things", lambda given: is_text(given) or is_picture(given)))
        for place, item in items:
            if not (is_text(item) or is_picture(item)):
                raise UserError(f"{place}: is {called(item)}; give a sentence, or a picture: {TAKEN}.")
        pictured = np.array([is_picture(item) for _, item in items], bool)
        rows = np.zeros((len(items), self.embed_dim), np.float32)
        pictures = (item for item, own in zip(items, pictured, strict=True) if own)
        sentences = (item for item, own in zip(items, pictured, strict=True) if not own)
        rows[~pictured] = self._encode_texts(sentences, batch_size) if not pictured.all() else 0
        rows[pictured] = self._join(list(self._encode_images(pictures, batch_size)))
        return rows

    def similarity(self, left: Things, right: Things) -> Floats:
        """(A, B) cosines between two lists of what `encode` takes, or of embeddings: (A, D) or (D,) floats.

        Raises:
            UserError: as of `encode`, or embeddings are of another width.
        """
        return self._vectors(left, "left") @ self._vectors(right, "right").T

    def _vectors(self, things: Any, what: str) -> Floats:
        several = isinstance(things, (list, tuple)) and len(things) > 0
        if several and all(is_array(thing) and thing.ndim == 1 for thing in things):
            things = np.stack([to_numpy(thing) for thing in things])
        if not is_array(things) or things.ndim not in (1, 2) or "float" not in str(things.dtype):
            return self.encode(things)
        vectors = np.atleast_2d(to_numpy(things)).astype(np.float32)
        if vectors.shape[1] != self.embed_dim:
            raise UserError(
                f"similarity: {what} has vectors of {vectors.shape[1]} numbers, those of {self.name} have "
                f"{self.embed_dim}; another model made them. (A grey picture as floats goes to encode_image.)"
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(lengths > 0, lengths, 1)
        return vectors

    def _join(self, rows: list[Floats]) -> Floats:
        return np.concatenate(rows) if rows else np.zeros((0, self.embed_dim), np.float32)

    def _encode_images(self, items: Iterator[Named], batch_size: int) -> Iterator[Floats]:
        check_batch_size(batch_size)
        resize = self.resize()
        while batch := [read_image(item, place) for place, item in islice(items, batch_size)]:
            yield self.encode_images(np.stack([resize(image) for image in batch]))

    def _encode_texts(self, items: Iterator[Named], batch_size: int) -> Floats:
        reader = self.text_reader()
        check_batch_size(batch_size)
        wanted = [read_text(item, place) for place, item in items]
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

    def is_cut(self, text: str) -> bool:
        """Whether a sentence is longer than what is read of it: then its last letter changes nothing."""
        text = text.rstrip()
        ids, mask = self.text_reader().encode([text])
        shorter, _ = self.text_reader().encode([text[:-1]])
        return bool(mask.all()) and np.array_equal(ids, shorter)

    def image_identity(self) -> str:
        """Changes with the weights and pixels that embeddings of images hang on, and not with machine or precision."""
        values = self.made_from()
        return digest([values.get("model"), values.get("preprocess")])

    def classify(
        self,
        images: Images,
        class_names: Iterable[str] | None = None,
        *,
        template: str = "{}",
        head: Head | str | Path | None = None,
    ) -> list[dict[str, float]]:
        """The probability of each class for each picture: zero-shot from class names, or by a learned head.

        Args:
            images: as in `encode_image`.
            class_names: at least one, none twice.
            template: a sentence with `{}` where the class name goes.
            head: what `pocketclip evaluate --keep-head` kept of a probe of this model, in place of class names.

        Returns:
            One mapping an image, most probable class first; values sum to 1.
        """
        if head is not None:
            if class_names is not None or template != "{}":
                raise UserError("classify: a head has its own classes; give class_names and template, or head.")
            learned = self._own_head(head)
            return probabilities(learned.class_names, learned(self.encode_image(images)))
        if class_names is None:
            raise UserError("classify: give class_names, such as ['dog', 'cat'], or head.")
        if isinstance(class_names, str):
            raise UserError(f"classify: class_names should be a list, such as ['dog', 'cat'] (got {class_names!r}).")
        names = [read_text(name, place) for place, name in items_of(class_names, "class_names", is_text)]
        if not names:
            raise UserError("classify: class_names is empty.")
        if len(set(names)) < len(names):
            raise UserError(f"classify: class_names should differ (got {names}).")
        if not isinstance(template, str) or "{}" not in template:
            raise UserError(f"classify: template should hold {{}} for the class name (got {template!r}).")
        texts = self.encode_text([template.replace("{}", name) for name in names])
        logits = (self.inverse_temperature or 1.0) * self.encode_image(images) @ texts.T
        return probabilities(names, logits)

    def _own_head(self, head: Head | str | Path) -> Head:
        """A head that was learned on this model; a UserError of another's."""
        learned, place = (head, "head") if isinstance(head, Head) else (Head.load(head), str(head))
        width = learned.weight.shape[1]
        if width != self.embed_dim or learned.model_identity != self.image_identity():
            other = (
                f"whose embeddings have {width} numbers and not {self.embed_dim}, " if width != self.embed_dim else ""
            )
            raise UserError(
                f"{place}: was learned on {learned.model}, {other}and not on {self.name} as it is now; learn it again: "
                f"pocketclip evaluate {self.name} --task linear_probe --data SOURCE --keep-head FILE"
            )
        return learned


def check_batch_size(batch_size: int) -> None:
    """A UserError where it is none."""
    if batch_size < 1:
        raise UserError(f"batch_size should be at least 1 (got {batch_size}).")
