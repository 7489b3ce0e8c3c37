"""Who teaches in a run: live teachers that see every batch, or what reinforced data hold of some."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from pocketclip.asked import AskedModel
from pocketclip.data import Source
from pocketclip.data.batches import TeacherReader, Teachers
from pocketclip.distill import build_teachers
from pocketclip.errors import UserError
from pocketclip.recipe import Recipe, place_of_stage
from pocketclip.train.gradient_cache import chunk_bounds
from pocketclip.types import ImageTextBatch, TeacherFeatures, TeacherInputs


class LiveTeachers:
    """Lets teachers, in the order of the recipe, see each batch; what they make of it joins the batch."""

    def __init__(self, teachers: Sequence[AskedModel], *, with_captions: bool = True) -> None:
        self.teachers = tuple(teachers)
        self.readers = tuple(
            TeacherReader(
                teacher.preprocess,
                teacher.tokenizer.encode if with_captions and teacher.tokenizer is not None else None,
            )
            for teacher in teachers
        )
        """How each reads views and captions."""

    def __call__(self, batch: ImageTextBatch, chunk_size: int | None) -> ImageTextBatch:
        """The batch, on the teachers' device, with their features in place of their inputs; see `train.loop.Teach`."""
        asked = zip(self.teachers, self.readers, batch.teacher_inputs, strict=True)
        features = tuple(_features(*one, chunk_size) for one in asked)
        return replace(batch, teachers=features, teacher_inputs=())


def _features(
    teacher: AskedModel, reader: TeacherReader, inputs: TeacherInputs, chunk_size: int | None
) -> TeacherFeatures:
    count = len(inputs.images)
    captions_per_image = len(inputs.tokens) // count
    images, texts = [], []
    for start, stop in chunk_bounds(count, -(-count // (chunk_size or count))):
        images.append(teacher.embed_images(inputs.images[start:stop]))
        if reader.encode is not None:
            own = slice(start * captions_per_image, stop * captions_per_image)
            texts.append(teacher.embed_tokens(inputs.tokens[own], inputs.token_mask[own]))
    return TeacherFeatures(torch.cat(images), torch.cat(texts) if texts else None, teacher.inverse_temperature or 1.0)


@dataclass(frozen=True)
class Teaching:
    """What the stages of a run need to know of teachers."""

    widths: tuple[int, ...] = ()
    """Of each teacher that the objective hears."""
    live: LiveTeachers | None = None
    brought: Teachers = field(default_factory=Teachers)
    """What batches bring: rows that the source stores, or views and captions as live teachers read them."""


def open_teaching(recipe: Recipe, source: Source, device: torch.device) -> Teaching:
    """The teachers of a recipe: those whose features the training data store, or else live ones on a device."""
    stored = source.stored
    for name, stage in recipe.stages.items():
        asked = stage.synthetic_captions_per_image
        if asked and stored is not None and stored.manifest.num_synthetic == 0:
            raise UserError(
                f"{place_of_stage(name)}.synthetic_captions_per_image: {asked}, but {stored.name} holds no synthetic "
                "captions; set it to 0, or reinforce again with a captioner."
            )
    needs = recipe.objective.needs
    if not needs.asks_teachers:
        return Teaching()
    if stored is not None:
        return Teaching(tuple(teacher.width for teacher, _ in stored.teachers), brought=Teachers(stored.teachers))
    teachers = build_teachers(recipe.teachers, device, recipe.train.precision)
    live = LiveTeachers(teachers, with_captions=needs.teachers == "captions")
    return Teaching(tuple(teacher.embed_dim for teacher in teachers), live, Teachers(readers=live.readers))
