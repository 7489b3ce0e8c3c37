"""Learning from trained models: teachers, and reinforcement, which asks them once and stores the answers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field

from pocketclip.data.source import unique_keys
from pocketclip.distill.bundle import BundleTeacherConfig
from pocketclip.distill.huggingface import HuggingFaceTeacherConfig
from pocketclip.distill.open_clip import OpenClipTeacherConfig
from pocketclip.distill.teacher import Teacher
from pocketclip.distill.timm import TimmTeacherConfig
from pocketclip.hardware import keep_freed_memory
from pocketclip.models.precision import Precision

TeacherConfig = Annotated[
    BundleTeacherConfig | OpenClipTeacherConfig | HuggingFaceTeacherConfig | TimmTeacherConfig,
    Field(discriminator="kind"),
]


def build_teachers(
    configs: Sequence[TeacherConfig], device: torch.device, precision: Precision = "auto"
) -> list[Teacher]:
    """Load teachers; of two with the same name the second gets a number behind it.

    Raises:
        UserError: one of them cannot be had.
    """
    if device.type == "cpu":
        keep_freed_memory()
    teachers = [config.build(device, precision) for config in configs]
    names = unique_keys([teacher.name for teacher in teachers])
    return [replace(teacher, name=name) for teacher, name in zip(teachers, names, strict=True)]


__all__ = ["Teacher", "TeacherConfig", "TimmTeacherConfig", "build_teachers"]
