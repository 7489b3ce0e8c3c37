"""A whole run as one typed YAML file."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, NonNegativeInt, model_validator

from pocketclip.config import Config
from pocketclip.data import SourceConfig
from pocketclip.data.augment import AugmentConfig
from pocketclip.distill import TeacherConfig, TimmTeacherConfig
from pocketclip.distill.reinforce import ReinforceConfig
from pocketclip.errors import UserError, unknown_choice
from pocketclip.models.config import DualEncoderConfig
from pocketclip.objectives import ObjectiveConfig
from pocketclip.train.config import TrainConfig

Share = Annotated[float, Field(ge=0, le=1)]
PAIR_SOURCES = ("nlvr2", "scene_pairs")
"""Kinds of sources with a sentence about each two images."""
STUDY_SUFFIX = ".study.yaml"
"""Of the files of `pocketclip study`, which lie among the recipes they compare."""


class DataConfig(Config):
    """The `data` section: where pairs come from."""

    train: SourceConfig
    val: SourceConfig | None = None
    """For choosing and stopping; None holds out `hold_out` of the training images."""
    test: SourceConfig | None = None
    """Measured once, at the end; None leaves it out."""
    hold_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training images kept for validation where `val` is not given."""
    max_broken_share: Share = 0.01
    """The run stops when a larger share of the items is broken."""


class Recipe(Config):
    """One run: data, model, objective, training."""

    data: DataConfig
    model: DualEncoderConfig
    objective: ObjectiveConfig
    teachers: tuple[TeacherConfig, ...] = ()
    """Live ones, which see every batch; none where the data are reinforced, or the objective asks none."""
    heads_first: TrainConfig | None = None
    """An earlier stage that trains the heads on cached features of the untrained towers."""
    train: TrainConfig
    seed: NonNegativeInt = 0

    @property
    def caches_texts(self) -> bool:
        """Whether a stage finds captions in the feature cache, and not images alone."""
        return self.heads_first is not None or self.train.is_heads_only

    @model_validator(mode="after")
    def _stages_fit_together(self) -> Self:
        if self.heads_first is not None and self.heads_first.cache is None:
            raise ValueError("heads_first needs a cache section; without one, give its settings to train")
        if self.heads_first is not None and self.train.cache is not None:
            raise ValueError("heads_first and train both use the cache; join them into train")
        if self.model.shared_encoder is not None and (self.heads_first is not None or self.train.cache is not None):
            raise ValueError(
                "model.shared_encoder is trained on all tokens, and the cache keeps one vector an image or text: leave "
                f"{'train.cache' if self.heads_first is None else 'heads_first'} out"
            )
        return self

    @model_validator(mode="after")
    def _loss_fits_the_model(self) -> Self:
        objective, pairs = self.objective, self.objective.pair_loss
        stages = [stage for stage in (self.heads_first, self.train) if stage is not None]
        many = any(stage.captions_per_image + stage.synthetic_captions_per_image > 1 for stage in stages)
        if many and objective.kind == "contrastive" and objective.loss.kind in ("clip", "soft_target"):
            raise ValueError(
                f"objective.loss.kind {objective.loss.kind} takes one caption an image; "
                "use multi_positive or sigmoid with captions_per_image above 1"
            )
        kind = objective.kind if pairs is None else pairs.kind
        if kind == "sigmoid" and self.model.logit_bias is None:
            bias = f"-ln(batch_size - 1), for batches of {self.train.batch_size}"
            raise ValueError(f"a sigmoid loss needs model.logit_bias; start it at {bias}")
        if kind != "sigmoid" and self.model.logit_bias is not None:
            raise ValueError(f"model.logit_bias has no effect with a {kind} loss; leave it out")
        return self

    @model_validator(mode="after")
    def _teachers_know_what_is_asked(self) -> Self:
        for teacher in self.teachers:
            if self.objective.needs_teacher_captions and isinstance(teacher, TimmTeacherConfig):
                raise ValueError(
                    f"teachers: {teacher.kind} {teacher.name} knows images only, and objective.kind "
                    f"{self.objective.kind} asks about captions too; choose a bundle, open_clip or huggingface "
                    "teacher, or objective.kind s_smke"
                )
        if self.objective.kind == "s_smke" and self.objective.distill.kind == "logits":
            classifiers = [one for one in self.teachers if isinstance(one, TimmTeacherConfig)]
            if not any(one.feature == "logits" for one in classifiers):
                raise ValueError(
                    "objective.distill.kind logits compares classes, so it needs live teachers: [{kind: timm, "
                    "feature: logits, ...}]; embeddings are for mse and contrastive"
                )
        return self

    @model_validator(mode="after")
    def _s_smke_fits_the_model_and_the_batch(self) -> Self:
        objective, batch_size = self.objective, self.train.batch_size
        if objective.kind != "s_smke":
            return self
        if "hidden" in objective.contrastive and self.model.shared_encoder is None:
            raise ValueError(
                "objective.contrastive: hidden is a layer of model.shared_encoder, which this model has not; give it "
                "one, or leave hidden out"
            )
        if 0 < objective.queue_size < batch_size:
            raise ValueError(
                f"objective.distill.queue_size: {objective.queue_size} is less than train.batch_size, {batch_size}; a "
                "queue takes in a whole batch at once, so make it larger, or 0 for none"
            )
        return self

    @model_validator(mode="after")
    def _pairs_of_images_are_judged(self) -> Self:
        sources = {name: getattr(self.data, name) for name in ("train", "val", "test")}
        if self.objective.kind != "pairs":
            judged = [name for name, source in sources.items() if source is not None and source.kind in PAIR_SOURCES]
            if judged:
                raise ValueError(f"data.{judged[0]}: a sentence about two images is for objective.kind pairs only")
            if self.model.pair_head is not None:
                raise ValueError(
                    f"model.pair_head has no effect with objective.kind {self.objective.kind}; leave it out"
                )
            return self
        if self.data.val is None:
            raise ValueError("objective.kind pairs needs data.val: held-out images would lose their partners")
        for name, source in sources.items():
            if source is not None and source.kind not in PAIR_SOURCES:
                raise ValueError(f"objective.kind pairs needs data.{name} of kind {' or '.join(PAIR_SOURCES)}")
        if self.model.pair_head is None or self.train.learning_rate.heads is None:
            raise ValueError("objective.kind pairs trains model.pair_head, so give one, and train.learning_rate.heads")
        if self.train.cache is not None or self.heads_first is not None:
            raise ValueError(
                "objective.kind pairs needs images by twos, which no cache keeps; leave out cache, heads_first"
            )
        if (self.train.captions_per_image, self.train.epoch) != (1, "images"):
            raise ValueError("objective.kind pairs has a sentence an example: captions_per_image 1, epoch images")
        return self

    @model_validator(mode="after")
    def _teachers_are_there_and_heard(self) -> Self:
        kind, stored = self.objective.kind, self.data.train.kind == "reinforced"
        if self.objective.uses_teachers and not stored and not self.teachers:
            raise ValueError(
                f"objective.kind {kind} learns from teachers: name some in a teachers section, or train on "
                "data.train: reinforced:DIR, which `pocketclip reinforce` writes"
            )
        if self.teachers and not self.objective.uses_teachers:
            silent = {"reinforced": " with distill_weight 0", "s_smke": " with distill.kind none"}.get(kind, "")
            raise ValueError(
                f"teachers have no effect with objective.kind {kind}{silent}; leave them out, or choose reinforced, "
                "distillation or s_smke"
            )
        if self.teachers and stored:
            raise ValueError(
                "data.train: reinforced:DIR brings its own teachers; leave the teachers section out, or read the same "
                "shards as webdataset: to ask live ones"
            )
        if self.heads_first is not None and self.objective.uses_teachers:
            raise ValueError(
                "heads_first.cache keeps the student's features of views that no teacher was asked about; "
                f"leave heads_first out with objective.kind {kind}"
            )
        if self.objective.uses_teachers and self.train.cache is not None:
            if self.train.cache.views != "stored":
                raise ValueError(
                    "train.cache keeps the student's features of views that no teacher was asked about; with "
                    f"objective.kind {kind} take reinforced data and cache: {{views: stored}}, or leave it out"
                )
            if self.train.is_heads_only:
                raise ValueError(
                    f"objective.kind {kind} with train.cache needs a trained text tower: give "
                    "train.learning_rate.text_encoder, or leave the cache out"
                )
        if self.train.cache is not None and self.train.cache.views == "stored" and not stored:
            raise ValueError(
                "train.cache.views: stored are those of data.train: reinforced:DIR, which `pocketclip reinforce` "
                f"writes (got data.train.kind {self.data.train.kind})"
            )
        if self.train.synthetic_captions_per_image and not stored:
            raise ValueError(
                "train.synthetic_captions_per_image needs data.train: reinforced:DIR, which holds synthetic captions "
                f"(got data.train.kind {self.data.train.kind})"
            )
        if stored and self.train.cache is None and self.train.augment != AugmentConfig():
            raise ValueError(
                "train.augment has no effect on reinforced data, which bring their views; leave it out, or read the "
                "same shards as webdataset:"
            )
        return self


def recipe_folder() -> Path:
    """The recipes that come with the package."""
    inside = Path(str(resources.files("pocketclip"))) / "recipes"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "recipes"


def list_recipes() -> list[str]:
    """Names as `pocketclip train` takes them, such as `flickr/flickr8k_heads_cpu`."""
    root = recipe_folder()
    files = [path for path in root.rglob("*.yaml") if not path.name.endswith(STUDY_SUFFIX)]
    return sorted(str(path.relative_to(root).with_suffix("")) for path in files)


def find_recipe(name: str) -> Path:
    """A recipe file from its path or its name.

    Raises:
        UserError: there is no such recipe.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir() and (path / "recipe.yaml").is_file():
        return path / "recipe.yaml"
    shipped = recipe_folder() / f"{name.removesuffix('.yaml').removeprefix('recipes/')}.yaml"
    if shipped.is_file():
        return shipped
    raise unknown_choice("recipe", name, list_recipes())


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key given twice is an error instead of silently the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"'{key.value}' is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe of `pocketclip train` and apply `key=value` changes.

    Args:
        name: a YAML file, a shipped recipe's name, or a run folder.
        changes: such as `train.num_steps=100`; values are YAML, keys are dotted.

    Raises:
        UserError: every problem as `file: key: reason (got value)`.
    """
    path = find_recipe(name)
    if path.name.endswith(STUDY_SUFFIX):
        raise UserError(f"{path}: compares several recipes; use `pocketclip study`.")
    values = read_settings(path, changes)
    if is_reinforcement(values):
        raise UserError(f"{path}: is a recipe of `pocketclip reinforce`, which stores what teachers say; use that.")
    return Recipe.parse(values, place=str(path))


def load_reinforcement(name: str, changes: Sequence[str] = ()) -> ReinforceConfig:
    """Read a recipe of `pocketclip reinforce`; see `load_recipe`."""
    path = find_recipe(name)
    values = read_settings(path, changes)
    if not is_reinforcement(values) and "train" in values:
        raise UserError(f"{path}: is a recipe of `pocketclip train`; reinforce takes one with source and teachers.")
    return ReinforceConfig.parse(values, place=str(path))


def is_reinforcement(values: dict[str, Any]) -> bool:
    """Whether a file's keys are those of a `ReinforceConfig`."""
    return "num_views" in values and "train" not in values


def read_settings(path: Path, changes: Sequence[str]) -> dict[str, Any]:
    """A YAML file's keys after `key=value` changes.

    Raises:
        UserError: it cannot be read, or a change does not fit.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that does not exist
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: should hold keys such as data, model and train (got {str(values)[:60]!r}).")
    for change in changes:
        _apply(values, change)
    return values


def _apply(values: dict[str, Any], change: str) -> None:
    """Set one dotted key; the keys above it are made where they are missing."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise UserError(f"--set {change}: should be KEY=VALUE, such as train.num_steps=100.")
    try:
        value = yaml.safe_load(text) if text else None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"--set {change}: the value is not valid YAML ({error}).") from error
    if isinstance(value, str) and not text.startswith(("'", '"')):
        value = text  # YAML would read `webdataset: x` as a mapping, and keeps other texts as they are
    *above, last = key.strip().split(".")
    for part in above:
        below = values.get(part)
        if below is None:
            below = values[part] = {}
        if part == "model" and isinstance(below, str):  # the name of a size
            below = values[part] = {"size": below}
        if not isinstance(below, dict):
            raise UserError(f"--set {change}: '{part}' is the value {below!r}, which has no keys below it.")
        values = below
    values[last] = value


def dump_recipe(recipe: Config) -> str:
    """The resolved recipe as YAML, every default written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
