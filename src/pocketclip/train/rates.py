"""Rates, optimizer and schedule of a stage of training, as a recipe has them."""

import operator
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from pocketclip.config import Config

Share = Annotated[float, Field(ge=0, lt=1)]


class LearningRates(Config):
    """Peak rate of each part; None freezes it."""

    heads: PositiveFloat | None = None
    """Both heads, the temperature, and what the objective learns itself."""
    image_encoder: PositiveFloat | None = None
    text_encoder: PositiveFloat | None = None
    layer_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(default=None, exclude_if=lambda got: got is None)
    """Each layer of a tower goes at this share of the rate of the layer behind it, the last one at the tower's own, so
    that what is general changes less; None gives all of a tower one rate. Reference: ULMFiT's discriminative rates,
    https://arxiv.org/abs/1801.06146, section 3.2."""

    @property
    def trained(self) -> dict[str, float]:
        """The rate of each part that has one."""
        rates = {"heads": self.heads, "image_encoder": self.image_encoder, "text_encoder": self.text_encoder}
        return {part: rate for part, rate in rates.items() if rate is not None}

    @model_validator(mode="after")
    def _decay_has_an_effect(self) -> Self:
        if self.layer_decay is not None and self.image_encoder is None and self.text_encoder is None:
            raise ValueError("layer_decay has an effect on towers only; give image_encoder or text_encoder a rate")
        return self


class AdamWConfig(Config):
    """AdamW, https://arxiv.org/abs/1711.05101; what a recipe has that names no kind."""

    kind: Literal["adamw"] = Field(default="adamw", exclude=True)  # recipes of before kinds keep their hash
    weight_decay: NonNegativeFloat = 0.1
    decay_one_dimensional: bool = False
    """Whether biases, norms and the temperature decay too; the small-encoder study does so."""
    decay_embeddings: bool = True
    """Whether words, positions, class tokens and the like decay; S-SMKE leaves them out."""
    betas: tuple[float, float] = (0.9, 0.98)
    eps: PositiveFloat = 1e-6


class AdafactorConfig(Config):
    """Adafactor as Big Vision trains with it, https://arxiv.org/abs/2106.04560: about half of AdamW's memory.

    The second moments of a matrix are kept as means of its rows and of its columns, the mean of the gradient in
    bfloat16. torch's own Adafactor is another one: it has no mean of the gradient, clips each tensor's update, and
    multiplies the rate with the tensor's size, so that published rates mean nothing to it.
    """

    kind: Literal["adafactor"] = "adafactor"
    weight_decay: NonNegativeFloat = 1e-4
    """Share of a weight that a step takes off, times the schedule's factor but not the rate: what is 0.1 of AdamW at a
    rate of 0.001 is 1e-4 here."""
    decay_one_dimensional: bool = False
    """Whether biases, norms and the temperature decay too."""
    decay_embeddings: bool = False
    """Whether words, positions, class tokens and the like decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of the mean, and the largest of the second moments, whose own grows as 1 - step^-0.8 until then."""


def _name_kind(values: Any) -> Any:
    return {"kind": "adamw", **values} if isinstance(values, dict) else values


OptimizerConfig = Annotated[
    Annotated[AdamWConfig | AdafactorConfig, Field(discriminator="kind")], BeforeValidator(_name_kind)
]


class CosineScheduleConfig(Config):
    """Linear warm-up, then half a cosine down to `final` times the rate."""

    kind: Literal["cosine"] = "cosine"
    warmup: Share = 0.1
    """Share of all steps."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.0


class ConstantScheduleConfig(Config):
    """Linear warm-up, then a constant rate, and at the end a cooldown to nothing.

    Until the cooldown a run of any length is the same, so that shorter ones can branch from one long one.
    Reference: https://arxiv.org/abs/2405.18392
    """

    kind: Literal["constant"] = "constant"
    warmup: Share = 0.0
    """Share of all steps."""
    warmup_steps: PositiveInt | None = Field(default=None, exclude_if=lambda value: value is None)
    """In its place a number of steps, the same in runs of every length."""
    cooldown: Share = Field(default=0.0, exclude_if=operator.not_)
    """Share of all steps at the end, in which the rate falls."""
    shape: Literal["linear", "sqrt"] = Field(default="linear", exclude_if=lambda value: value == "linear")
    """Of the cooldown; `sqrt` is one less the root of the share that is over, and falls faster at first."""

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> Self:
        if self.warmup and self.warmup_steps is not None:
            raise ValueError("warmup and warmup_steps are the same in two units; leave one out")
        if self.shape != "linear" and not self.cooldown:
            raise ValueError(f"shape: {self.shape} has no effect without a cooldown")
        if self.warmup + self.cooldown > 1:
            raise ValueError(f"warmup {self.warmup:g} and cooldown {self.cooldown:g} are more than all steps")
        return self

    def cooldown_begins(self, num_steps: int) -> int:
        """The first step of the cooldown, which still has the full rate; `num_steps` without one."""
        return num_steps - round(self.cooldown * num_steps)


def is_loss(metric: str) -> bool:
    """Whether a smaller value of this metric is better: losses and ranks."""
    return metric.endswith(("loss", "_rank")) or metric.startswith("val_")


class PlateauScheduleConfig(Config):
    """Lower the rate when a validation metric stops getting better."""

    kind: Literal["plateau"] = "plateau"
    metric: str = "val_loss"
    patience: Annotated[int, Field(ge=0)] = 1
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.8
    min_delta: PositiveFloat = 1e-4
    """Smaller changes, as a share of the best value, are not better."""


ScheduleConfig = Annotated[
    CosineScheduleConfig | ConstantScheduleConfig | PlateauScheduleConfig, Field(discriminator="kind")
]
