"""A recipe of `pocketclip reinforce`."""

from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pocketclip.asked import AskedModelConfig, LibraryModelConfig
from pocketclip.config import Config
from pocketclip.data import SourceConfig
from pocketclip.data.pictures.augment import AugmentConfig
from pocketclip.data.sources.reinforcement import StoredType
from pocketclip.models.running.precision import Precision


class CaptionerConfig(Config):
    """An image-to-text model of the transformers library, such as BLIP: a folder, or a name on the hub."""

    name: str
    """Such as `Salesforce/blip-image-captioning-large`."""
    num_captions: PositiveInt = 5
    """Of each picture; MobileCLIP stores five, and two are nearly as good."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Words are drawn among the most probable ones that have this probability together."""
    max_tokens: PositiveInt = 40


class ReinforceConfig(Config):
    """A recipe of `pocketclip reinforce`."""

    source: SourceConfig
    teachers: Annotated[tuple[AskedModelConfig, ...], Field(min_length=1)]
    augment: AugmentConfig
    num_views: PositiveInt
    """Of each picture; MobileCLIP stores 30 for 12 million pairs, and finds about 5 enough."""
    captioner: CaptionerConfig | None = None
    """None writes no synthetic captions."""
    dtype: StoredType = "bfloat16"
    precision: Precision = "auto"
    """What teachers compute in."""
    batch_size: PositiveInt = 64
    """Views, or captions, that a teacher is asked about together."""
    samples_per_shard: PositiveInt = 1000
    out: str | None = None
    """Folder for the shards; None leaves it to --out."""
    seed: NonNegativeInt = 0
    """Of views and synthetic captions."""

    @model_validator(mode="after")
    def _views_differ(self) -> Self:
        if self.num_views > 1 and self.augment == AugmentConfig():
            raise ValueError("num_views above 1 needs something in augment that differs, such as crop_scale: [0.08, 1]")
        if self.augment.flip == "swap_sides":
            raise ValueError(
                "augment.flip: swap_sides needs teachers' features of two texts a caption, and one is stored; choose "
                "true or false"
            )
        return self

    @model_validator(mode="after")
    def _teachers_know_captions(self) -> Self:
        for teacher in self.teachers:
            if isinstance(teacher, LibraryModelConfig) and "captions" not in teacher.knows:
                raise ValueError(
                    f"teachers: {teacher.kind} {teacher.name} knows images only, and what is stored is of captions "
                    "too; ask it live, in a recipe of `pocketclip train` with objective.kind s_smke"
                )
        return self
