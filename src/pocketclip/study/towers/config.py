"""A study file of towers: which image towers are measured, for how long, and on what they are scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pocketclip.config import Config
from pocketclip.data import SourceConfig
from pocketclip.errors import UserError, require, unknown_choice
from pocketclip.image_size import ImageSize
from pocketclip.recipe import read_settings
from pocketclip.shipped_recipes import STUDY_SUFFIX, find_study
from pocketclip.study.names import slug


class TowerConfig(Config):
    """One image tower."""

    name: str
    """timm's name, such as `mobilenetv2_100`."""
    image_size: ImageSize = 224
    pretrained: str = "at_hand"
    """Weights that it is scored with: those of its pip `package`, of the `hub`, or of a file; `at_hand` takes the
    package where there is one and else asks the hub; `none` gives no score."""


class MeasureConfig(Config):
    """How costs are measured; rows with different ones cannot be compared."""

    seconds: PositiveFloat = 3.0
    """Of each timing."""
    training_steps: PositiveInt = 4
    """That are timed, after one to warm up."""
    training_batch_size: Annotated[int, Field(ge=2)] = 32  # batch norm has no variance of one image
    epoch_images: PositiveInt = 6000
    """What an epoch is; 6,000 are the training split of Flickr8k."""


class TowerStudyConfig(MeasureConfig):
    """A study file of towers."""

    towers: dict[Annotated[str, Field(min_length=1, max_length=80)], TowerConfig]
    """By what they are called in the table."""
    only: tuple[str, ...] = ()
    """Of these some; all where it is left out."""
    data: SourceConfig | None = None
    """Images with classes that towers are scored on; None measures costs alone."""
    train_data: SourceConfig | None = None
    """What the linear probe learns from; of `data` four fifths where it is left out."""

    @model_validator(mode="after")
    def _towers_can_be_told_apart(self) -> Self:
        if not self.towers:
            raise ValueError("towers needs at least one")
        seen: dict[str, str] = {}
        for name in self.towers:
            if (other := seen.setdefault(file_name(name), name)) != name:
                raise ValueError(f"towers '{other}' and '{name}' would share the file {file_name(name)}; rename one")
        for name in self.only:
            if name not in self.towers:
                raise ValueError(f"only: {unknown_choice('tower', name, self.towers)}")
        if self.train_data is not None and self.data is None:
            raise ValueError("train_data has no effect without data, which towers are scored on")
        return self

    @property
    def chosen(self) -> dict[str, TowerConfig]:
        """What is measured, in the order of the file."""
        return {name: tower for name, tower in self.towers.items() if not self.only or name in self.only}

    @property
    def measuring(self) -> MeasureConfig:
        """The part that every row must share."""
        return MeasureConfig(**{key: getattr(self, key) for key in MeasureConfig.model_fields})


def file_name(name: str) -> str:
    """Of a tower's row in the study's folder; a ValueError without a letter or digit."""
    return f"{slug(name.replace('/', '-'))}.json"


@dataclass(frozen=True)
class TowerStudy:
    """A study of towers ready to be carried out."""

    name: str
    config: TowerStudyConfig
    changes: tuple[str, ...]
    """Given on the command line."""


def names_towers(name: str) -> bool:
    """Whether a study file is one of towers, not of recipes; a UserError where there is no such file."""
    path = find_study(name)
    return "towers" in read_settings(path, [])


def load_tower_study(name: str, changes: Sequence[str] = ()) -> TowerStudy:
    """Read a study of towers, with changes such as `seconds=0.5`.

    Raises:
        UserError: every problem as `file: key: reason`; a tower that timm does not know.
    """
    path = find_study(name)
    values = read_settings(path, changes)
    config = TowerStudyConfig.parse(values, place=str(path))
    _check_names(config, path)
    return TowerStudy(path.name.removesuffix(STUDY_SUFFIX).removesuffix(".yaml"), config, tuple(changes))


def _check_names(config: TowerStudyConfig, path: Path) -> None:
    timm = require("timm", extra="train")
    for called, tower in config.chosen.items():
        if not timm.is_model(tower.name):
            raise UserError(
                f"{path}: towers.{called}.name: {unknown_choice('timm image tower', tower.name, _near(timm, tower))}"
            )


def _near(timm: Any, tower: TowerConfig) -> list[str]:
    stem = tower.name.partition("_")[0]
    names: list[str] = timm.list_models(f"{stem}*") or timm.list_models("mobilenet*")
    return names


def dump_settings(study: TowerStudy) -> str:
    """The study as YAML, every default written out."""
    settings = yaml.safe_dump(study.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    changes = "".join(f"#   --set {change}\n" for change in study.changes)
    return f"# {study.name}\n{changes}{settings}"
