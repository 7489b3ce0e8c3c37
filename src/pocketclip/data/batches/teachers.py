"""What a batch brings of teachers: rows of reinforced data, or its views and captions as live teachers read them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from pocketclip.data.batches.plan import Item
from pocketclip.data.sources.reinforcement import Floats, StoredColumns
from pocketclip.embedder import Ids, Mask
from pocketclip.preprocess import PreprocessConfig


@dataclass(frozen=True)
class TeacherReader:
    """How a live teacher reads views and captions."""

    preprocess: PreprocessConfig
    encode: Callable[[Sequence[str]], tuple[Ids, Mask]] | None
    """M captions to (M, L) ids and (M, L) mask; None where nobody asks it about captions."""


@dataclass(frozen=True)
class Teachers:
    """Where what a batch brings of teachers comes from; it brings nothing where both are empty."""

    stored: tuple[StoredColumns, ...] = ()
    """Teachers whose features reinforced data hold, with their columns of a stored row."""
    readers: tuple[TeacherReader, ...] = ()
    """Of live teachers: each gets the views at its size and the captions in its tokens."""

    def row(self, item: Item, view: int, texts: Sequence[int]) -> Floats | None:
        """(1 + M, all widths), what is stored of the view and then of the texts shown; None where nothing is."""
        if not self.stored:
            return None
        assert item.stored is not None, "nothing is stored"
        features: Floats = item.stored.features[[view, *(len(item.stored.views) + text for text in texts)]]
        return features

    def join(
        self, rows: Sequence[Floats], pixels: Mapping[str, torch.Tensor], captions: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """The fields of `TeacherFeatures` of each stored teacher, and of `TeacherInputs` of each live one.

        Args:
            rows: of each image, what `row` gave.
            pixels: (B, 3, H, W) bytes at each size, by the `geometry` of the preprocessing.
            captions: M of them.
        """
        fields = {}
        if self.stored:
            width = max(columns.stop for _, columns in self.stored)
            joined = torch.from_numpy(np.stack(rows)) if rows else torch.zeros((0, 1, width))
            fields["teachers"] = [_features(joined[:, :, columns], teacher.scale) for teacher, columns in self.stored]
        if self.readers:
            fields["teacher_inputs"] = [
                {"images": pixels[reader.preprocess.geometry], **_tokens(reader, captions)} for reader in self.readers
            ]
        return fields


def _features(rows: torch.Tensor, scale: float) -> dict[str, Any]:
    unit = F.normalize(rows, dim=2)  # what is stored was rounded
    return {"image": unit[:, 0].contiguous(), "text": unit[:, 1:].reshape(-1, unit.shape[2]), "scale": scale}


def _tokens(reader: TeacherReader, captions: Sequence[str]) -> dict[str, torch.Tensor]:
    tokens, mask = np.zeros((len(captions), 0), np.int64), np.zeros((len(captions), 0), np.bool_)
    if reader.encode is not None:
        tokens, mask = reader.encode(captions)
    return {"tokens": torch.from_numpy(tokens), "token_mask": torch.from_numpy(mask)}
