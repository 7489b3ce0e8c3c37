"""Learning from trained models: teachers, and reinforcement, which asks them once and stores the answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pocketclip.asked import AskedModelConfig
from pocketclip.data.keys import unique_keys
from pocketclip.hardware import keep_freed_memory
from pocketclip.models.running.precision import Precision

if TYPE_CHECKING:
    import torch

    from pocketclip.asked import AskedModel


def build_teachers(
    configs: Sequence[AskedModelConfig], device: "torch.device", precision: Precision = "auto"
) -> "list[AskedModel]":
    """Load teachers, or raise a UserError; of two with the same name the second gets a number behind it."""
    if device.type == "cpu":
        keep_freed_memory()
    teachers = [config.build(device, precision, role="Teacher") for config in configs]
    for teacher, name in zip(teachers, unique_keys([teacher.short_name for teacher in teachers]), strict=True):
        teacher.short_name = name
    return teachers
