"""What flows through a run: batches, features, and the protocol a method fills in.

Shape letters, the same everywhere:
    B images (pairs) in a batch      M texts in a batch, M = B x K
    K captions drawn per image       L tokens
    D embedding width                F feature width of a tower
    H, W pixels                      N images, Q captions of a whole split
    C classes                        T teachers
    P examples of two images each, P = B / 2
    S synthetic captions of the K    W embedding width of a teacher
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

NOT_HIDDEN = -100
"""In the place of a word's id, where the word is not to be guessed."""


@dataclass(frozen=True)
class TeacherFeatures:
    """What one teacher makes of a batch; nothing flows back into it."""

    image: Float[Tensor, "B W"]
    """(B, W), unit length per row; as they are of a teacher that knows images only and was not trained by cosines."""
    text: Float[Tensor, "M W"] | None
    """(M, W), unit length per row; None of a teacher that knows images only."""
    scale: float
    """The teacher's inverse temperature, such as 50 or 100."""

    def to(self, device: torch.device) -> "TeacherFeatures":
        """The same on another device."""
        text = None if self.text is None else self.text.to(device, non_blocking=True)
        return TeacherFeatures(self.image.to(device, non_blocking=True), text, self.scale)

    def with_caption(self, number: int, captions_per_image: int) -> "TeacherFeatures":
        """Of each image's K texts only the one of this number."""
        return self if self.text is None else replace(self, text=self.text[number::captions_per_image])


@dataclass(frozen=True)
class TeacherInputs:
    """The views and captions of a batch as one live teacher reads them."""

    images: UInt8[Tensor, "B 3 H W"]
    """(B, 3, H, W) bytes, at the teacher's own size."""
    tokens: Int[Tensor, "M L"]
    """(M, L), the ids of the teacher's own tokenizer; (M, 0) of a teacher that knows images only."""
    token_mask: Bool[Tensor, "M L"]
    """(M, L), True where a token stands."""

    def to(self, device: torch.device) -> "TeacherInputs":
        """The same on another device."""
        parts = (self.images, self.tokens, self.token_mask)
        return TeacherInputs(*(part.to(device, non_blocking=True) for part in parts))


@dataclass(frozen=True)
class MaskedTexts:
    """The captions of a batch with some of their words hidden, which an objective lets the model guess."""

    tokens: Int[Tensor, "M L"]
    """(M, L), ids as the text tower gets to see them."""
    hidden: Int[Tensor, "M L"]
    """(M, L), the ids to guess, and `NOT_HIDDEN` where nothing is."""

    def to(self, device: torch.device) -> "MaskedTexts":
        """The same on another device."""
        return MaskedTexts(self.tokens.to(device, non_blocking=True), self.hidden.to(device, non_blocking=True))

    def rows(self, chosen: slice) -> "MaskedTexts":
        """Some of the texts."""
        return MaskedTexts(self.tokens[chosen], self.hidden[chosen])


@dataclass(frozen=True)
class ImageTextBatch:
    """B images and the M = B x K captions drawn for them; text j belongs to image j // K.

    On the cached path `images` and `tokens` hold the frozen towers' features instead of pixels and ids.
    """

    images: Shaped[Tensor, "B ..."]
    """(B, 3, H, W) bytes, or (B, F) features."""
    tokens: Shaped[Tensor, "M ..."]
    """(M, L) ids, or (M, F) features."""
    token_mask: Bool[Tensor, "M ..."]
    """(M, L), True where a token stands; (M, 0) on the cached path."""
    image_ids: Int[Tensor, " B"]
    """(B,), equal where the picture is the same, by its bytes."""
    caption_ids: Int[Tensor, " M"]
    """(M,), equal where the caption is the same text."""
    broken: list[str] = field(default_factory=list)
    """Items left out of this batch, one message each."""
    shares: tuple[int, ...] = ()
    """Images that every rank holds, where this is one rank's share of a batch; empty where it is all of it."""
    teachers: tuple[TeacherFeatures, ...] = ()
    """What each teacher makes of it, read from reinforced data or computed by live teachers; empty without any."""
    teacher_inputs: tuple[TeacherInputs, ...] = ()
    """What live teachers still have to encode; empty without any."""
    num_synthetic: int = 0
    """S; the last S of the K captions of each image are synthetic."""
    views: tuple[Shaped[Tensor, "B ..."], ...] = ()
    """Further views of the images, each (B, 3, H, W) bytes, for an objective that compares an image with itself."""
    labels: Int[Tensor, "..."] | None = None
    """What a classifier should answer, such as each image's class, or (P,) 1 where a sentence is true of two images;
    None where nothing is classified."""
    indices: Int[Tensor, " B"] | None = None
    """(B,), number of each image in its source; None where the batch comes from none."""
    identity_ids: Int[Tensor, " B"] | None = None
    """(B,), who is on each image: from 0, as the training data's identities are numbered; None where nobody asks."""
    masked: MaskedTexts | None = None
    """The captions with hidden words; None where no objective asks for them."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def captions_per_image(self) -> int:
        """K; equal for every image of a batch."""
        return len(self.tokens) // max(1, len(self.images))

    def to(self, device: torch.device) -> "ImageTextBatch":
        """The batch on another device."""
        names = ("images", "tokens", "token_mask", "image_ids", "caption_ids")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        teachers = tuple(teacher.to(device) for teacher in self.teachers)
        inputs = tuple(one.to(device) for one in self.teacher_inputs)
        views = tuple(view.to(device, non_blocking=True) for view in self.views)
        for name in ("labels", "identity_ids"):
            value = getattr(self, name)
            moved[name] = None if value is None else value.to(device, non_blocking=True)
        masked = None if self.masked is None else self.masked.to(device)
        return replace(self, **moved, teachers=teachers, teacher_inputs=inputs, views=views, masked=masked)

    def pairs(self, start: int, stop: int) -> "ImageTextBatch":
        """Images start to stop with their captions; used to run the towers chunk by chunk."""
        captions = slice(start * self.captions_per_image, stop * self.captions_per_image)
        return ImageTextBatch(
            images=self.images[start:stop],
            tokens=self.tokens[captions],
            token_mask=self.token_mask[captions],
            image_ids=self.image_ids[start:stop],
            caption_ids=self.caption_ids[captions],
            views=tuple(view[start:stop] for view in self.views),
            masked=None if self.masked is None else self.masked.rows(captions),
        )  # a part stands for itself: its features are joined before a loss sees them

    def with_caption(self, number: int) -> "ImageTextBatch":
        """A batch of B pairs: of each image's K captions only the one of this number, counted from 0."""
        chosen = slice(number, None, self.captions_per_image)
        return replace(
            self,
            tokens=self.tokens[chosen],
            token_mask=self.token_mask[chosen],
            caption_ids=self.caption_ids[chosen],
            teachers=tuple(teacher.with_caption(number, self.captions_per_image) for teacher in self.teachers),
            teacher_inputs=(),
            masked=None if self.masked is None else self.masked.rows(chosen),
            num_synthetic=int(number >= self.captions_per_image - self.num_synthetic),
        )


@dataclass(frozen=True)
class LayerFeatures:
    """What an inner layer of a shared encoder makes of a batch, before normalisation."""

    image: Float[Tensor, "B H"]
    text: Float[Tensor, "M H"]


@dataclass(frozen=True)
class WordFeatures:
    """What a model makes of a batch word by word and place by place, before any head."""

    texts: Float[Tensor, "M L F"]
    """The text tower's states of the captions with hidden words."""
    images: Float[Tensor, "B P G"]
    """Of each image its places or tokens; one, the whole image, of a tower that tells none apart."""


@dataclass(frozen=True)
class Features:
    """A dual encoder's output for a batch, before normalisation."""

    image: Float[Tensor, "B D"]
    text: Float[Tensor, "M D"]
    logit_scale: Float[Tensor, ""]
    """Inverse temperature, exponentiated."""
    logit_bias: Float[Tensor, ""]
    """Added to every logit; 0 unless the loss is sigmoid."""
    layers: tuple[LayerFeatures, ...] = ()
    """Inner layers of a shared encoder, first to last, that an objective may look at; empty of two plain towers."""
    views: tuple[Float[Tensor, "B F"], ...] = ()
    """The image tower's features of the batch's further views, which no head has seen."""
    pair_logits: Float[Tensor, " P"] | None = None
    """(P,), that the sentence is true of images 2 p and 2 p + 1; None without a pair head or labels."""
    words: WordFeatures | None = None
    """Of a batch with hidden words; None of any other."""

    def with_caption(self, number: int, captions_per_image: int) -> "Features":
        """Of each image's K texts only the one of this number; the twin of `ImageTextBatch.with_caption`."""
        chosen = slice(number, None, captions_per_image)
        layers = tuple(replace(layer, text=layer.text[chosen]) for layer in self.layers)
        words = None if self.words is None else replace(self.words, texts=self.words.texts[chosen])
        return replace(self, text=self.text[chosen], layers=layers, words=words)


@runtime_checkable
class Objective(Protocol):
    """Maps features to named, weighted losses; their sum is minimised."""

    def __call__(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        """Each loss a scalar with its weight already applied."""
        ...
