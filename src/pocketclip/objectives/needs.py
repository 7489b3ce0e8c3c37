"""What a method asks of data, model, teachers and stages, said as data, which `objectives/fit.py` compares."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pocketclip.config import Config, kinds_of
from pocketclip.losses import LossConfig

if TYPE_CHECKING:
    from pocketclip.types import Objective

Teachers = Literal["none", "images", "captions", "classes"]
"""What teachers have to know: nothing, since none is asked; pictures; captions too; or the classes of pictures."""


@dataclass(frozen=True)
class Needs:
    """What an objective requires; the defaults are a loss over pairs that any source, model and cache serve."""

    loss: str
    """What messages call its loss over pairs, such as `clip`."""
    captions: Literal["one", "any"] = "any"
    """How many captions of an image it takes at once."""
    bias: bool = False
    """Whether the model has to have a `logit_bias`, which has no effect otherwise."""
    teachers: Teachers = "none"
    setting: str = ""
    """The setting beside `kind` that decides about teachers, such as `distill.kind none`; empty where none does."""
    hidden_layer: str = ""
    """The setting that asks for a hidden layer of a shared encoder, such as `contrastive`; empty where none does."""
    queue: tuple[str, int] | None = None
    """The setting of a queue that takes in a whole batch at once, and its size; None without one."""
    pairs: bool = False
    """Whether it judges pairs of images with `model.pair_head`, which has no effect otherwise."""
    labels: bool = False
    """Whether it asks for a class of every image."""
    identities: bool = False
    """Whether it asks who is on every image, in training and where it is measured."""
    mask_rate: float = 0.0
    """Share of the words that it wants to be hidden, and sees the states of all; 0 without."""
    views: int = 1
    """How many views of an image it sees at once; those behind the first are in `ImageTextBatch.views`."""
    uncached: str = ""
    """What it asks for that no feature cache keeps, such as `images by twos`; empty where a cache can serve it."""
    task: str = "retrieval"
    """The evaluation task that measures a model on the validation split, by its name in `pocketclip list tasks`."""

    @property
    def asks_teachers(self) -> bool:
        """Whether it reads what teachers made of a batch."""
        return self.teachers != "none"


class MethodConfig(Config, ABC):
    """Base of the members of `ObjectiveConfig`: a member says what it needs and builds an objective."""

    kind: str
    may_ask: ClassVar[Teachers] = "none"
    """What its teachers have to know, where its settings ask some at all; messages name methods by it."""
    judges_pairs: ClassVar[bool] = False
    """Whether it is for pairs of images; messages name methods by it."""

    @property
    def needs(self) -> Needs:
        """What these settings require."""
        return Needs(self.kind)

    @property
    def validation(self) -> "MethodConfig":
        """What is measured on a validation split, of which no teacher was asked."""
        return self

    @abstractmethod
    def build(
        self, *, embed_dim: int | None = None, teacher_widths: Sequence[int] = (), feature_dim: int | None = None
    ) -> "Objective":
        """An objective for a student of a width and teachers of theirs; a module where it learns something itself.

        `feature_dim` is the width of what the image tower makes of a further view. A method that needs identities is
        given `sizes` too, see `objectives/person_terms.py`.

        Raises:
            UserError: the teachers are not as many as it takes.
        """


def losses_for_several_captions() -> str:
    """Kinds of losses, as a message names them."""
    return " or ".join(sorted(kind for kind, loss in kinds_of(LossConfig).items() if loss.takes_several_captions))
