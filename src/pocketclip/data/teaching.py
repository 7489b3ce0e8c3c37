"""What a batch brings of teachers: rows of reinforced data, or its views and captions as live teachers read them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F
from torch.utils.data import default_collate

from pocketclip.data.decode import Pixels
from pocketclip.data.reinforcement import StoredColumns
from pocketclip.preprocess import PreprocessConfig

EncodeTexts = Callable[[Sequence[str]], tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]]
"""M captions to (M, L) ids and (M, L) mask."""
_VIEW_ORDER = 7  # keeps the order of views apart from other draws of the same numbers


@dataclass(frozen=True)
class TeacherReader:
    """How a live teacher reads views and captions."""

    preprocess: PreprocessConfig
    encode: EncodeTexts | None
    """None where nobody asks it about captions."""


def draw_view_number(num_views: int, seed: int, epoch: int, item: int) -> int:
    """Which of its stored views an item shows in an epoch: each once before any comes twice, in an order of its own."""
    cycle, place = divmod(epoch, num_views)
    return int(np.random.default_rng([seed, cycle, item, _VIEW_ORDER]).permutation(num_views)[place])


def distinct_sizes(student: PreprocessConfig, readers: Sequence[TeacherReader]) -> list[PreprocessConfig]:
    """What a picture has to be rendered for, the student first; those that differ in colours only are one."""
    return list({one.geometry: one for one in (student, *(reader.preprocess for reader in readers))}.values())


def size_of_readers(student: PreprocessConfig, readers: Sequence[TeacherReader]) -> list[int]:
    """Place in `distinct_sizes` of each teacher's pixels."""
    known = [one.geometry for one in distinct_sizes(student, readers)]
    return [known.index(reader.preprocess.geometry) for reader in readers]


def join_pixels(views: Sequence[Pixels]) -> torch.Tensor:
    """(B, 3, H, W) bytes of views of one size, channels_last in memory."""
    # Torch's own joins them in the memory that a worker shares, which spares a copy
    tensors = [torch.from_numpy(view) for view in views]
    pixels = default_collate(tensors) if tensors else torch.zeros((0, 1, 1, 3), dtype=torch.uint8)
    joined: torch.Tensor = pixels.permute(0, 3, 1, 2)
    return joined


def join_vectors(vectors: Sequence[npt.NDArray[np.float32]]) -> torch.Tensor:
    """(B, F), one row an image."""
    return torch.from_numpy(np.stack(vectors)) if vectors else torch.zeros(0, 1)


def join_features(rows: Sequence[npt.NDArray[np.float32]], teachers: Sequence[StoredColumns]) -> list[dict[str, Any]]:
    """The fields of `TeacherFeatures` of each stored teacher.

    Args:
        rows: of each image (1 + K, all widths): its view, then its captions.
        teachers: those to learn from, with their columns of a row.
    """
    width = max(columns.stop for _, columns in teachers)
    joined = torch.from_numpy(np.stack(rows)) if rows else torch.zeros((0, 1, width))
    fields = []
    for teacher, columns in teachers:
        unit = F.normalize(joined[:, :, columns], dim=2)  # what is stored was rounded
        text = unit[:, 1:].reshape(-1, teacher.width)
        fields.append({"image": unit[:, 0].contiguous(), "text": text, "scale": teacher.scale})
    return fields


def join_inputs(
    pixels: Sequence[torch.Tensor], captions: Sequence[str], readers: Sequence[TeacherReader], sizes: Sequence[int]
) -> list[dict[str, torch.Tensor]]:
    """The fields of `TeacherInputs` of each live teacher.

    Args:
        pixels: a batch of each distinct size.
        captions: M of them.
        readers: of the teachers.
        sizes: place in `pixels` of each teacher's.
    """
    inputs = []
    for reader, size in zip(readers, sizes, strict=True):
        if reader.encode is None:
            empty = (len(captions), 0)
            tokens, mask = np.zeros(empty, np.int64), np.zeros(empty, np.bool_)
        else:
            tokens, mask = reader.encode(captions)
        inputs.append(
            {"images": pixels[size], "tokens": torch.from_numpy(tokens), "token_mask": torch.from_numpy(mask)}
        )
    return inputs
