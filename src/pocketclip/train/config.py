"""The `train` section of a recipe, and the stages before it."""

import operator
import sys
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pocketclip.config import Config
from pocketclip.data.pictures.augment import SWAP_SIDES, AugmentConfig
from pocketclip.data.text_tokens import TextTokensConfig
from pocketclip.errors import UserError
from pocketclip.features.cache import CacheConfig
from pocketclip.image_size import ImageSize
from pocketclip.models.running.precision import Precision
from pocketclip.train.rates import (
    AdamWConfig,
    ConstantScheduleConfig,
    CosineScheduleConfig,
    LearningRates,
    OptimizerConfig,
    PlateauScheduleConfig,
    ScheduleConfig,
)


def _is_none(value: object) -> bool:
    """What a recipe leaves out keeps its hash as it was before there was such a setting."""
    return value is None


class EarlyStoppingConfig(Config):
    """Stop when a validation metric has not got better for some evaluations."""

    metric: str = "mean_recall"
    patience: PositiveInt = 2


class HardNegativesConfig(Config):
    """Images that are near each other come in one batch, so that their captions are harder to tell apart."""

    group: Annotated[int, Field(ge=2)] = 4
    """How many near neighbours meet; a batch is made of such groups, which are drawn anew each epoch. Near is what the
    image tower finds near as the stage begins; its features are cached."""


class IdentityBatchesConfig(Config):
    """Every batch shows some identities, each in several views; see `data/batches/identities.py`."""

    views: Annotated[int, Field(ge=2)] = 4
    """K; a batch of `batch_size` shows `batch_size / views` identities."""


class BranchConfig(Config):
    """Go on from a checkpoint of another run, the trunk, as if this run had come to its step itself.

    The two differ in nothing that a step sees until then: length, cooldown, evaluations and logs are free. A scaling
    curve so costs one long run at a constant rate and a cooldown for each of its points.
    """

    run: str
    """Folder of the trunk."""
    step: PositiveInt | None = None
    """One of its `keep_steps`, counted from its begin as all steps are; None is the step at which this run's cooldown
    begins."""


def _name_run(values: Any) -> Any:
    return {"run": values} if isinstance(values, str) else values


Amount = Annotated[PositiveFloat | None, Field(exclude_if=operator.not_)]
ENDLESS = sys.maxsize
"""Steps of a stage that its budget alone ends."""


class BudgetConfig(Config):
    """What may be spent, as exactly one amount: of `train` by the whole run, of a stage before it by that stage.

    Times count data, caches, evaluations and checkpoints, and no pause between two processes.
    """

    seconds: Amount = None
    minutes: Amount = None
    macs: Amount = None
    """Multiply-accumulates of all samples, forward and backward; see `cost/training.py`."""
    device_hours: Amount = None
    dollars: Amount = None
    joules: Amount = None
    dollars_per_hour: Amount = None
    """Of the machine, for `dollars`; `--price` goes first."""
    watts: Amount = None
    """That the machine draws, for `joules`; without it they are measured, which takes `--energy`."""

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        given = [kind for kind in AMOUNTS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"a budget has exactly one of {', '.join(AMOUNTS)} (got {' and '.join(given) or 'none'})")
        for price, kind in (("dollars_per_hour", "dollars"), ("watts", "joules")):
            if getattr(self, price) is not None and given != [kind]:
                raise ValueError(f"{price} has an effect with {kind} only")
        return self

    @property
    def kind(self) -> str:
        """Which of `AMOUNTS` is given."""
        return next(kind for kind in AMOUNTS if getattr(self, kind) is not None)

    @property
    def amount(self) -> float:
        """How much of it."""
        return float(getattr(self, self.kind))


AMOUNTS = ("seconds", "minutes", "macs", "device_hours", "dollars", "joules")


class TrainConfig(Config):
    """How a model is trained; the run ends at `num_epochs` or `num_steps`, whichever comes first, or at its budget."""

    num_epochs: PositiveFloat | None = None
    num_steps: PositiveInt | None = None
    budget: Annotated[BudgetConfig | None, Field(exclude_if=operator.not_)] = None
    """Ends the stage in the place of epochs and steps, which then are left out of account."""
    batch_size: Annotated[int, Field(ge=2)]  # a contrastive batch of one has no negatives
    learning_rate: LearningRates
    cache: CacheConfig | None = None
    """Run the frozen towers once and train the rest on their stored features. Where the text tower is trained, that is
    the image tower alone: its heads and the text tower then cost what they would cost without it."""
    captions_per_image: PositiveInt = 1
    synthetic_captions_per_image: NonNegativeInt = 0
    """Drawn beside them from a reinforced source, which stores some."""
    epoch: Literal["images", "captions"] = "images"
    """What an epoch passes over: every image with newly drawn captions, or every caption with its image."""
    augment: AugmentConfig = AugmentConfig()
    augment_further: AugmentConfig | None = Field(default=None, exclude_if=_is_none)
    """How the further views of `objective.simclr` are drawn; None draws them as SLIP does: crops of 8 to 100 %,
    flipped, with colour jitter."""
    image_size: ImageSize | None = Field(default=None, exclude_if=_is_none)
    """Pixels a side of the pictures trained on, or height and width, where the image tower takes several sizes; None is
    the model's own. Crops show things larger than whole pictures do, so smaller ones in training fit (FixRes,
    https://arxiv.org/abs/1906.06423); in an early stage they save time (RECLIP, https://arxiv.org/abs/2304.06028)."""
    keep_patches: Annotated[float, Field(gt=0, lt=1)] | None = Field(default=None, exclude_if=_is_none)
    """Share of the patches that a ViT sees of each image, drawn at random (FLIP: 0.5 or 0.25); None is all."""
    text_tokens: TextTokensConfig | None = Field(default=None, exclude_if=_is_none)
    """Fewer tokens of a text (CLIPA), such as `{kind: random, keep: 8}`; None is all."""
    hard_negatives: HardNegativesConfig | None = Field(default=None, exclude_if=_is_none)
    """Draw batches in which near neighbours meet; None draws them at random."""
    identity_batches: IdentityBatchesConfig | None = Field(default=None, exclude_if=_is_none)
    """Draw batches in which each person is seen several times; None draws them at random."""
    optimizer: OptimizerConfig = AdamWConfig()
    schedule: ScheduleConfig = CosineScheduleConfig()
    max_grad_norm: PositiveFloat | None = 1.0
    chunk_size: PositiveInt | None = None
    """Images a pass through the towers; the batch's gradient stays exact (see `train/gradient_cache.py`)."""
    checkpoint_activations: bool = False
    """Compute the towers' activations again in the backward pass instead of keeping them; with `batch_norm: train`
    the running averages count each batch twice."""
    compile: bool = False
    """Run the towers through torch.compile: minutes at the start, faster steps. Worth it on GPUs and in long runs."""
    batch_norm: Literal["train", "frozen"] = "train"
    """`frozen` keeps the pretrained statistics of a trained tower, and is faster (`train/still_norms.py`)."""
    precision: Precision = "auto"
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Evaluate and keep a running average of the weights."""
    evaluate_every: PositiveFloat | None = 1.0
    """Epochs between evaluations on the validation split; None evaluates at the end only."""
    early_stopping: EarlyStoppingConfig | None = None
    keep: Literal["last", "best"] = "last"
    """Which weights the run ends with: those of the last step, or of the best evaluation."""
    keep_metric: str = "mean_recall"
    checkpoint_every: PositiveInt = 200
    """Steps between checkpoints."""
    num_checkpoints: PositiveInt = 2
    keep_steps: tuple[PositiveInt, ...] = Field(default=(), exclude_if=operator.not_)
    """Steps whose checkpoints stay when the run is over, for others to branch from."""
    branch: Annotated[BranchConfig | None, BeforeValidator(_name_run)] = Field(default=None, exclude_if=_is_none)
    """The run to go on from, by its folder; None begins at step 0."""
    log_every: PositiveInt = 10
    """Steps between lines of `metrics.jsonl`."""
    tensorboard: bool = False
    """Whether to write TensorBoard events beside `metrics.jsonl`."""
    num_workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that read data; None chooses by the machine. The batches do not depend on it."""

    @model_validator(mode="before")
    @classmethod
    def _budget_takes_the_place_of_steps(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("budget"):
            return {**values, "num_epochs": None, "num_steps": None}
        return values

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> Self:
        if self.num_epochs is None and self.num_steps is None and self.budget is None:
            raise ValueError("give num_epochs or num_steps, or a budget")
        rates = self.learning_rate
        if rates.heads is None and rates.image_encoder is None and rates.text_encoder is None:
            raise ValueError("learning_rate: every part is frozen, so nothing would be trained")
        if self.cache is not None:
            if rates.image_encoder is not None:
                raise ValueError("cache needs a frozen image tower: leave learning_rate.image_encoder off")
            if self.image_size is not None:
                raise ValueError("image_size has no effect with cache, which keeps features of whole pictures")
            if self.augment != AugmentConfig():
                raise ValueError("augment has no effect with cache: name the views in cache.views")
            if self.batch_norm != "train":
                raise ValueError("batch_norm has no effect with cache: no image tower is run")
        if self.is_heads_only:
            if self.synthetic_captions_per_image:
                raise ValueError("synthetic_captions_per_image has no effect with cache, which keeps real captions")
            if self.epoch != "images":
                raise ValueError("epoch has no effect with cache, which passes over images")
            if self.chunk_size is not None:
                raise ValueError("chunk_size has no effect with cache: no tower is run")
            if self.checkpoint_activations or self.compile:
                raise ValueError("checkpoint_activations and compile have no effect with cache: no tower is run")
        if self.epoch == "captions" and self.captions_per_image != 1:
            raise ValueError("captions_per_image must be 1 where an epoch passes over captions")
        needs_evaluation = isinstance(self.schedule, PlateauScheduleConfig) or self.early_stopping is not None
        if needs_evaluation and self.evaluate_every is None:
            raise ValueError("evaluate_every is off, but the schedule or early_stopping needs evaluations")
        if self.num_steps is not None and max(self.keep_steps, default=0) > self.num_steps:
            raise ValueError(f"keep_steps: the run ends at step {self.num_steps} (got {max(self.keep_steps)})")
        return self

    @model_validator(mode="after")
    def _captions_follow(self) -> Self:
        if self.augment_further is not None and self.augment_further.flip == SWAP_SIDES:
            raise ValueError("augment_further.flip: the captions go with the first view, so give true or false")
        return self

    @model_validator(mode="after")
    def _branch_has_a_step(self) -> Self:
        if self.branch is None:
            return self
        if not isinstance(self.schedule, ConstantScheduleConfig):
            raise ValueError(
                f"branch needs schedule.kind constant, of which all lengths begin alike (got {self.schedule.kind})"
            )
        if self.budget is not None:
            raise ValueError("branch does not go with a budget: give num_steps or num_epochs, and budget: null")
        if self.num_steps is None and self.num_epochs is None:
            raise ValueError("branch needs num_steps or num_epochs, which say where the run ends")
        if self.branch.step is None and not self.schedule.cooldown:
            raise ValueError("branch.step is needed, since schedule has no cooldown that says where to branch")
        return self

    @property
    def is_heads_only(self) -> bool:
        """Whether both towers are frozen and run once, so that a batch has features of images and texts."""
        return self.cache is not None and self.learning_rate.text_encoder is None

    @property
    def chosen_by(self) -> str:
        """The validation metric that says which evaluation was the best."""
        return self.keep_metric if self.early_stopping is None else self.early_stopping.metric

    def total_steps(self, steps_per_epoch: int) -> int:
        """Where the run ends, if its budget does not end it before."""
        by_epochs = None if self.num_epochs is None else max(1, round(self.num_epochs * steps_per_epoch))
        return min((steps for steps in (by_epochs, self.num_steps) if steps is not None), default=ENDLESS)

    def branches_at(self, num_steps: int) -> int:
        """The step of the trunk that a run of so many steps goes on from; 0 without one.

        Raises:
            UserError: the run would be over by then.
        """
        if self.branch is None:
            return 0
        assert isinstance(self.schedule, ConstantScheduleConfig)
        step = self.schedule.cooldown_begins(num_steps) if self.branch.step is None else self.branch.step
        if step >= num_steps:
            raise UserError(f"train.branch.step: the run is over at step {num_steps} (got {step}); make it longer.")
        return step


class EarlyStageConfig(TrainConfig):
    """A stage of training before the last one, which goes on from its weights."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    """Of its checkpoints, its lines in `metrics.jsonl` and its seconds."""
