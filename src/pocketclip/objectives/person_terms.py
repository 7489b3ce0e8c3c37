"""The terms of person search that know who is on a picture, without torch: settings, and what each learns itself."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pocketclip.config import Config
from pocketclip.objectives.terms import ContrastiveTermConfig, TaughtTermConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pocketclip.losses.contrastive import ContrastiveInputs
    from pocketclip.types import Features, ImageTextBatch


@dataclass(frozen=True)
class PersonSizes:
    """What the learned parts of the terms are as large as."""

    num_identities: int = 2
    """That are trained on."""
    vocabulary_size: int = 2
    """Ids of the tokenizer."""
    word_width: int = 1
    """Of the text tower's state of a word."""
    place_width: int = 1
    """Of the image tower's place."""


class PersonTerm(Config):
    """Base of the terms that know identities; each is a weighted part of the objective."""

    kind: str
    weight: PositiveFloat = 1.0
    asks_words: ClassVar[bool] = False
    """Whether it reads the states of single words."""

    def learned(self, embed_dim: int, sizes: PersonSizes) -> "nn.Module | None":
        """What it trains itself, and no bundle keeps; of most terms nothing."""
        del embed_dim, sizes
        return None

    @abstractmethod
    def value(self, features: "Features", batch: "ImageTextBatch", learned: "nn.Module | None") -> "Tensor":
        """The unweighted term of a batch of any size; of a rank's share, such that the mean over ranks is the batch's.

        There is one text an image.
        """


class MultiPositiveTermConfig(PersonTerm):
    """Softmax in which images and texts of one identity, and equal texts, are not each other's negatives."""

    kind: Literal["multi_positive"] = "multi_positive"

    def value(self, features: "Features", batch: "ImageTextBatch", learned: "nn.Module | None") -> "Tensor":
        from dataclasses import replace

        from pocketclip.losses.config import MultiPositiveLossConfig

        inputs = _inputs(features, batch)
        return MultiPositiveLossConfig().value(replace(inputs, image_ids=inputs.identities[0]))


class SdmTermConfig(PersonTerm):
    """IRRA's similarity distribution matching, with a fixed temperature."""

    kind: Literal["sdm"] = "sdm"
    temperature: PositiveFloat = 0.02

    def value(self, features: "Features", batch: "ImageTextBatch", learned: "nn.Module | None") -> "Tensor":
        from pocketclip.losses.sdm import large_sdm_loss, sdm_loss

        inputs, scale = _inputs(features, batch), 1 / self.temperature
        return large_sdm_loss(inputs, scale) if inputs.are_large else sdm_loss(*inputs.unit, scale, *inputs.identities)


class IdentityTermConfig(PersonTerm):
    """One linear classifier of identities for images and texts."""

    kind: Literal["identity"] = "identity"

    def learned(self, embed_dim: int, sizes: PersonSizes) -> "nn.Module":
        from torch import nn

        classifier = nn.Linear(embed_dim, sizes.num_identities)
        nn.init.normal_(classifier.weight, std=0.001)  # as published: a start near log(C)
        nn.init.zeros_(classifier.bias)
        return classifier

    def value(self, features: "Features", batch: "ImageTextBatch", learned: "nn.Module | None") -> "Tensor":
        """A mean over rows, so a rank needs its own only."""
        from pocketclip import distributed
        from pocketclip.losses.identity import identity_loss

        assert learned is not None
        loss = identity_loss(learned(features.image), learned(features.text), *_inputs(features, batch).identities)
        return loss * distributed.weight_of_share(len(batch), batch.shares)


class MaskedLanguageTermConfig(PersonTerm):
    """Hidden words are guessed from the other words, which attend to the places of the picture.

    Words pass a second time through the text tower, with some hidden, then through a small head: cross attention,
    transformer layers, and a classifier of words. The head is trained and is in no bundle. Reference: IRRA,
    https://arxiv.org/abs/2303.12501, in which the words themselves do not pass by the cross attention; here they do,
    since a tower with one place for the whole image would say the same to every word.
    """

    kind: Literal["masked_language"] = "masked_language"
    asks_words: ClassVar[bool] = True
    mask_rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the words that are to be guessed: of them 80 % are masked and 10 % are other words."""
    num_layers: PositiveInt = 4
    """Of the transformer behind the cross attention."""
    width: PositiveInt = 512
    num_heads: PositiveInt = 8

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "MaskedLanguageTermConfig":
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is no multiple of num_heads {self.num_heads}")
        return self

    def learned(self, embed_dim: int, sizes: PersonSizes) -> "nn.Module":
        from pocketclip.objectives.cross_modal import CrossModalHead

        widths = sizes.word_width, sizes.place_width, self.width
        return CrossModalHead(*widths, sizes.vocabulary_size, num_layers=self.num_layers, num_heads=self.num_heads)

    def value(self, features: "Features", batch: "ImageTextBatch", learned: "nn.Module | None") -> "Tensor":
        from pocketclip.losses.masked_language import masked_language_loss

        assert learned is not None
        assert features.words is not None, "the recipe asks for hidden words"
        assert batch.masked is not None, "the recipe asks for hidden words"
        logits, words = learned(features.words, batch.token_mask, batch.masked.hidden)
        return masked_language_loss(logits, words, batch.shares)


def _inputs(features: "Features", batch: "ImageTextBatch") -> "ContrastiveInputs":
    from pocketclip.losses.contrastive import ContrastiveInputs

    return ContrastiveInputs.of(features, batch)


PersonTermConfig = Annotated[
    ContrastiveTermConfig
    | MultiPositiveTermConfig
    | SdmTermConfig
    | IdentityTermConfig
    | MaskedLanguageTermConfig
    | TaughtTermConfig,
    Field(discriminator="kind"),
]
"""The union of every term that person search may sum: its own, and those of distillation."""
