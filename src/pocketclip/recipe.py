"""A whole run as one typed YAML file."""

import operator
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pocketclip.asked import AskedModelConfig
from pocketclip.config import Config, apply_change
from pocketclip.data import SourceConfig
from pocketclip.data.pictures.augment import AugmentConfig
from pocketclip.data.subset import SubsetSettings
from pocketclip.distill.config import ReinforceConfig
from pocketclip.errors import UserError
from pocketclip.hubs import HubsConfig
from pocketclip.models.config import DualEncoderConfig
from pocketclip.objectives import ObjectiveConfig
from pocketclip.objectives.fit import check_fit
from pocketclip.shipped_recipes import STUDY_SUFFIX, find_recipe
from pocketclip.train.config import EarlyStageConfig, TrainConfig

Share = Annotated[float, Field(ge=0, le=1)]


class DataConfig(Config):
    """The `data` section: where pairs come from."""

    train: SourceConfig
    at_most: PositiveInt | None = Field(default=None, exclude_if=lambda value: value is None)
    """Of more training images so many take part, spread over all of them; the others are not even opened. What is held
    out is held out of those."""
    val: SourceConfig | None = None
    """For choosing and stopping; None holds out `hold_out` of the training images."""
    subset: SubsetSettings | None = Field(default=None, exclude_if=lambda value: value is None)
    """Which of the training images a run learns from; what is held out is so before, and the same for any subset."""
    test: SourceConfig | None = None
    """Measured once, at the end; None leaves it out."""
    hold_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training images kept for validation where `val` is not given."""
    allow_overlap: bool = Field(default=False, exclude_if=lambda value: not value)
    """Whether more than a twentieth of the pictures of `val` or `test` may be in `train`, too."""
    max_broken_share: Share = 0.01
    """The run stops when a larger share of the items is broken."""


def place_of_stage(name: str) -> str:
    """The dotted key of a stage, as `--set` takes it."""
    return name if name in ("heads_first", "train") else f"early_stages.{name}"


class Recipe(Config):
    """One run: data, model, objective, training."""

    data: DataConfig
    model: DualEncoderConfig
    objective: ObjectiveConfig
    teachers: tuple[AskedModelConfig, ...] = ()
    """Live ones, which see every batch; none where the data are reinforced, or the objective asks none."""
    heads_first: TrainConfig | None = None
    """Short for a first stage of that name, which trains the heads on cached features of the untrained towers."""
    early_stages: Annotated[tuple[EarlyStageConfig, ...], Field(exclude_if=operator.not_)] = ()
    """Stages between `heads_first` and `train`, in their order."""
    train: TrainConfig
    """The last stage."""
    fit_small_data: bool = Field(default=False, exclude_if=operator.not_)
    """Take smaller batches and hold out more where there are few pictures; a run's own recipe has the numbers."""
    bundle_weights: Literal["float32", "float16"] = Field(default="float32", exclude_if=lambda got: got == "float32")
    """Number type of the weights in the bundle; float16 halves its size, and is what the final scores are of."""
    hubs: HubsConfig | None = Field(default=None, exclude_if=lambda got: got is None)
    """A bank of training data in the bundle, made when all is trained, by which scores are corrected; None for none."""
    seed: NonNegativeInt = 0

    @property
    def stages(self) -> dict[str, TrainConfig]:
        """Every stage by its name, first to last."""
        first = {} if self.heads_first is None else {"heads_first": self.heads_first}
        return {**first, **{stage.name: stage for stage in self.early_stages}, "train": self.train}

    @property
    def caches_texts(self) -> bool:
        """Whether a stage finds captions in the feature cache, and not images alone."""
        return any(stage.is_heads_only for stage in self.stages.values())

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        names = [stage.name for stage in self.early_stages]
        if len({*names, "heads_first", "train"}) < len(names) + 2:
            raise ValueError(f"early_stages need names of their own, and not heads_first or train (got {names})")
        if self.heads_first is not None and self.heads_first.cache is None:
            raise ValueError("heads_first needs a cache section; without one, give its settings to train")
        if self.heads_first is not None and not self.heads_first.is_heads_only:
            raise ValueError("heads_first trains the heads alone; leave its learning_rate.text_encoder out")
        cached = {name: stage for name, stage in self.stages.items() if stage.cache is not None}
        for before, after in pairwise(self.stages):
            if before in cached and after in cached and cached[before].is_heads_only == cached[after].is_heads_only:
                raise ValueError(f"{before} and {after} both use the cache; join them into {after}")
        if self.model.shared_encoder is not None and cached:
            first = next(iter(cached))
            raise ValueError(
                "model.shared_encoder is trained on all tokens, and the cache keeps one vector an image or text: leave "
                f"{'train.cache' if first == 'train' else first} out"
            )
        for name, stage in self.stages.items():
            if name != "train" and (stage.branch is not None or stage.keep_steps):
                raise ValueError(f"{name}: runs branch within their last stage; give branch and keep_steps to train")
        check_fit(self)
        return self

    @model_validator(mode="after")
    def _stored_views_are_there_and_left_alone(self) -> Self:
        stored, got = "stored_views" in self.data.train.gives, f"(got data.train.kind {self.data.train.kind})"
        for name, stage in self.stages.items():
            if stage.cache is not None and stage.cache.views == "stored" and not stored:
                raise ValueError(
                    f"{name}.cache.views: stored are those of data.train: reinforced:DIR, which `pocketclip reinforce` "
                    f"writes {got}"
                )
            if stage.synthetic_captions_per_image and not stored:
                raise ValueError(
                    f"{name}.synthetic_captions_per_image needs data.train: reinforced:DIR, which holds synthetic "
                    f"captions {got}"
                )
            if stored and stage.cache is None and stage.augment != AugmentConfig():
                raise ValueError(
                    f"{name}.augment has no effect on reinforced data, which bring their views; leave it out, or read "
                    "the same shards as webdataset:"
                )
        return self


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key given twice is an error instead of silently the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                twice = f"'{key.value}' is given twice"
                raise yaml.constructor.ConstructorError(problem=twice, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe of `pocketclip train`, named as for `find_recipe`, with changes such as `train.num_steps=100`."""
    path, values = read_recipe(name, changes)
    return Recipe.parse(values, place=str(path))


def read_recipe(name: str, changes: Sequence[str] = ()) -> tuple[Path, dict[str, Any]]:
    """The file of a recipe and its keys, which `Recipe.parse` takes; see `load_recipe`."""
    path = find_recipe(name)
    if path.name.endswith(STUDY_SUFFIX):
        raise UserError(f"{path}: is a study, not one recipe; use `pocketclip study`.")
    values = read_settings(path, changes)
    if "num_views" in values and "train" not in values:
        raise UserError(f"{path}: is a recipe of `pocketclip reinforce`, which stores what teachers say; use that.")
    return path, values


def load_reinforcement(name: str, changes: Sequence[str] = ()) -> ReinforceConfig:
    """Read a recipe of `pocketclip reinforce`; see `load_recipe`."""
    path = find_recipe(name)
    values = read_settings(path, changes)
    if "train" in values:
        raise UserError(f"{path}: is a recipe of `pocketclip train`; reinforce takes one with source and teachers.")
    return ReinforceConfig.parse(values, place=str(path))


def read_settings(path: Path, changes: Sequence[str]) -> dict[str, Any]:
    """A YAML file's keys after `key=value` changes."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that does not exist
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: should hold keys such as data, model and train (got {str(values)[:60]!r}).")
    for change in changes:
        apply_change(values, change)
    return values


def dump_recipe(recipe: Config) -> str:
    """The resolved recipe as YAML, every default written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
