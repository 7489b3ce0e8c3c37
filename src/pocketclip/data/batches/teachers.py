"""What a batch brings of teachers: rows of reinforced data, or its views and captions as live teachers read them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from pocketclip.data.batches.item import Item
from pocketclip.data.sources.reinforcement import Floats, StoredColumns
from pocketclip.preprocess import PreprocessConfig

EncodeTexts = Callable[[Sequence[str]], tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]]
"""M captions to (M, L) ids and (M, L) mask."""


@dataclass(frozen=True)
class Teachers:
    """What a batch brings of teachers: nothing here, which the kinds below override."""

    @property
    def preprocesses(self) -> tuple[PreprocessConfig, ...]:
        """How teachers want pictures that are rendered for them."""
        return ()

    def row(self, item: Item, view: int, texts: Sequence[int]) -> Floats | None:
        """What is stored of the view and the texts that are shown of an item; None where nothing is."""
        del item, view, texts
        return None

    def join(
        self, rows: Sequence[Floats], pixels: Mapping[str, torch.Tensor], captions: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """Further fields of a batch.

        Args:
            rows: of each image, what `row` gave.
            pixels: (B, 3, H, W) bytes at each size, by the `geometry` of the preprocessing.
            captions: M of them.
        """
        del rows, pixels, captions
        return {}


NO_TEACHERS = Teachers()


@dataclass(frozen=True)
class StoredRows(Teachers):
    """Features that reinforced data hold of the view and of each caption shown."""

    teachers: tuple[StoredColumns, ...]
    """Those to learn from, with their columns of a stored row."""

    def row(self, item: Item, view: int, texts: Sequence[int]) -> Floats:
        """(1 + M, all widths), the view's and then the texts'."""
        assert item.stored is not None, "nothing is stored"
        features: Floats = item.stored.features[[view, *(len(item.stored.views) + text for text in texts)]]
        return features

    def join(
        self, rows: Sequence[Floats], pixels: Mapping[str, torch.Tensor], captions: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """The fields of `TeacherFeatures` of each stored teacher."""
        del pixels, captions
        width = max(columns.stop for _, columns in self.teachers)
        joined = torch.from_numpy(np.stack(rows)) if rows else torch.zeros((0, 1, width))
        fields = []
        for teacher, columns in self.teachers:
            unit = F.normalize(joined[:, :, columns], dim=2)  # what is stored was rounded
            text = unit[:, 1:].reshape(-1, teacher.width)
            fields.append({"image": unit[:, 0].contiguous(), "text": text, "scale": teacher.scale})
        return {"teachers": fields}


@dataclass(frozen=True)
class TeacherReader:
    """How a live teacher reads views and captions."""

    preprocess: PreprocessConfig
    encode: EncodeTexts | None
    """None where nobody asks it about captions."""


@dataclass(frozen=True)
class LiveReaders(Teachers):
    """The view at each live teacher's size, and the captions in its tokens."""

    readers: tuple[TeacherReader, ...]

    @property
    def preprocesses(self) -> tuple[PreprocessConfig, ...]:
        """One a teacher."""
        return tuple(reader.preprocess for reader in self.readers)

    def join(
        self, rows: Sequence[Floats], pixels: Mapping[str, torch.Tensor], captions: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """The fields of `TeacherInputs` of each live teacher."""
        del rows
        inputs = []
        for reader in self.readers:
            if reader.encode is None:
                empty = (len(captions), 0)
                tokens, mask = np.zeros(empty, np.int64), np.zeros(empty, np.bool_)
            else:
                tokens, mask = reader.encode(captions)
            images = pixels[reader.preprocess.geometry]
            inputs.append({"images": images, "tokens": torch.from_numpy(tokens), "token_mask": torch.from_numpy(mask)})
        return {"teacher_inputs": inputs}
