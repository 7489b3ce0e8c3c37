"""What methods with teachers are made of, without torch: the terms that distillation sums, and S-SMKE's layers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from pocketclip.config import Config
from pocketclip.losses import LossConfig
from pocketclip.losses.config import ClipLossConfig

if TYPE_CHECKING:
    from torch import Tensor

    from pocketclip.losses.contrastive import ContrastiveInputs
    from pocketclip.objectives.teachers import Lesson


class Term(Config, ABC):
    """Base of the members of `TermConfig`: a weighted part of the objective."""

    kind: str
    weight: PositiveFloat = 1.0
    in_the_teachers_width: ClassVar[bool] = False
    """Whether it compares embeddings themselves, so that maps are learned where widths differ."""
    has_scale: ClassVar[bool] = False
    """Whether it learns an inverse temperature of its own for each teacher."""
    scales_teachers: ClassVar[bool] = False
    """Whether the teachers' inverse temperatures have an effect."""

    @abstractmethod
    def value(self, inputs: "ContrastiveInputs", lessons: "Sequence[Lesson]") -> "Tensor":
        """The unweighted term of a batch of any size; of a rank's share, such that the mean over ranks is the batch's.

        The student has one text an image, and there is a lesson a teacher.
        """


class TermOfEach(Term):
    """Base of the terms that are a mean over teachers."""

    def value(self, inputs: "ContrastiveInputs", lessons: "Sequence[Lesson]") -> "Tensor":
        from torch import stack

        return stack([self.of_teacher(inputs, lesson) for lesson in lessons]).mean()

    @abstractmethod
    def of_teacher(self, inputs: "ContrastiveInputs", lesson: "Lesson") -> "Tensor":
        """The term of one teacher."""


class ContrastiveTermConfig(Term):
    """The student's own contrastive loss."""

    kind: Literal["contrastive"] = "contrastive"
    loss: LossConfig = ClipLossConfig()

    def value(self, inputs: "ContrastiveInputs", lessons: "Sequence[Lesson]") -> "Tensor":
        return self.loss.value(inputs)


class AffinityTermConfig(Term):
    """TinyCLIP's affinity mimicking; several teachers are averaged after their softmax."""

    kind: Literal["affinity"] = "affinity"
    scales_teachers: ClassVar[bool] = True

    def value(self, inputs: "ContrastiveInputs", lessons: "Sequence[Lesson]") -> "Tensor":
        from pocketclip.objectives.teachers import teacher_affinity

        return teacher_affinity(inputs, [lesson.teacher for lesson in lessons])


class FeatureTermConfig(TermOfEach):
    """Mean squared difference of embeddings; CLIP-KD gives it 2,000."""

    kind: Literal["feature"] = "feature"
    in_the_teachers_width: ClassVar[bool] = True

    def of_teacher(self, inputs: "ContrastiveInputs", lesson: "Lesson") -> "Tensor":
        """A mean over rows, so a rank needs its own only."""
        from pocketclip import distributed
        from pocketclip.losses.feature import feature_loss
        from pocketclip.objectives.teachers import captions_of

        loss = feature_loss(*lesson.embeddings(), lesson.teacher.image, captions_of(lesson.teacher))
        return loss * distributed.weight_of_share(len(inputs.image), inputs.shares)


class RelationalTermConfig(TermOfEach):
    """Divergence of the contrastive distributions, one teacher at a time."""

    kind: Literal["relational"] = "relational"
    scales_teachers: ClassVar[bool] = True

    def of_teacher(self, inputs: "ContrastiveInputs", lesson: "Lesson") -> "Tensor":
        from pocketclip.objectives.teachers import teacher_affinity

        return teacher_affinity(inputs, [lesson.teacher])


class InteractiveTermConfig(TermOfEach):
    """Student images find the teacher's texts, and student texts its images, with a temperature of their own."""

    kind: Literal["interactive"] = "interactive"
    in_the_teachers_width: ClassVar[bool] = True
    has_scale: ClassVar[bool] = True

    def of_teacher(self, inputs: "ContrastiveInputs", lesson: "Lesson") -> "Tensor":
        """A rank's students among the teacher's embeddings of all ranks."""
        from pocketclip.losses.interactive import interactive_loss
        from pocketclip.losses.large import large_interactive_loss
        from pocketclip.objectives.teachers import captions_of

        assert lesson.scale is not None
        parts = *lesson.embeddings(), lesson.teacher.image, captions_of(lesson.teacher), lesson.scale
        return large_interactive_loss(*parts, inputs.shares) if inputs.are_large else interactive_loss(*parts)


class GradientTermConfig(TermOfEach):
    """Squared distance of the contrastive loss's gradients with respect to the embeddings."""

    kind: Literal["gradient"] = "gradient"
    in_the_teachers_width: ClassVar[bool] = True
    scales_teachers: ClassVar[bool] = True

    def of_teacher(self, inputs: "ContrastiveInputs", lesson: "Lesson") -> "Tensor":
        """Every rank computes the loss of the whole batch: a pair's gradient needs all rows and all columns."""
        from pocketclip import distributed
        from pocketclip.losses.gradient import gradient_loss
        from pocketclip.objectives.teachers import captions_of

        teacher = lesson.teacher
        parts = *lesson.embeddings(), teacher.image, captions_of(teacher)
        image, text, their_image, their_text = (distributed.gather(part, inputs.shares) for part in parts)
        return gradient_loss(image, text, inputs.logit_scale, their_image, their_text, teacher.scale)


class SimclrConfig(Config):
    """SimCLR's loss over two further views of each image, which the image tower sees and no text belongs to.

    A step then passes three images through the image tower for each text. `train.augment_further` says how the views
    are drawn. Reference: SLIP, https://arxiv.org/abs/2112.12750.
    """

    weight: PositiveFloat = 1.0
    temperature: PositiveFloat = 0.1
    hidden_width: PositiveInt = 1024
    """Of the three-layer projector over the image tower's feature; SLIP takes 4,096 beside its ViT-S to L."""
    width: PositiveInt = 256
    """Of what is compared."""


TaughtTermConfig = (
    AffinityTermConfig | FeatureTermConfig | RelationalTermConfig | InteractiveTermConfig | GradientTermConfig
)
"""The union of the terms that learn from teachers."""
TermConfig = Annotated[ContrastiveTermConfig | TaughtTermConfig, Field(discriminator="kind")]
"""The union of every term of distillation."""

Layer = Literal["hidden", "output", "teacher_head"]
"""Of a student, where S-SMKE contrasts images and texts."""


class NoDistillConfig(Config):
    """No teacher: the contrastive losses alone."""

    kind: Literal["none"] = "none"
    queue_size: ClassVar[int] = 0


class MseDistillConfig(Config):
    """The student's vectors end where the teacher's are, lengths and all: the first form of S-SMKE."""

    kind: Literal["mse"] = "mse"
    weight: PositiveFloat = 1.0
    queue_size: ClassVar[int] = 0


class LogitsDistillConfig(Config):
    """The student gives the teacher's classes their probabilities, as SHRe does."""

    kind: Literal["logits"] = "logits"
    weight: PositiveFloat = 1.0
    queue_size: ClassVar[int] = 0


class ContrastiveDistillConfig(Config):
    """The student finds its image's vector among those of the batch and of a queue: the final form of S-SMKE."""

    kind: Literal["contrastive"] = "contrastive"
    weight: PositiveFloat = 1.0
    queue_size: NonNegativeInt = 0
    """The teacher's vectors of how many earlier images are further negatives; 0 has none, S-SMKE takes 65,536. A queue
    of the student's own collapses: its vectors of earlier steps are those of another model, and telling them from new
    ones is all that it learns (published: 0.001 % on ImageNet)."""
    same_image: Literal["negative", "left_out"] = "negative"
    """What another vector of the same image is, in the batch or in the queue: `negative` as published, which does no
    harm where a queue is a small part of the images; `left_out` where it holds most of them."""


DistillConfig = Annotated[
    NoDistillConfig | MseDistillConfig | LogitsDistillConfig | ContrastiveDistillConfig, Field(discriminator="kind")
]
