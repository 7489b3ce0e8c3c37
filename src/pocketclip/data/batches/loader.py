"""What a step sees, put together: the batches of a run, read by worker processes.

A batch depends only on the seed and the step's number, so a resumed run goes on exactly, and the number of workers
changes nothing.
"""

import functools
import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from pocketclip.data.batches.draw import Captions
from pocketclip.data.batches.plan import BatchPlan, Item
from pocketclip.data.batches.teachers import Teachers
from pocketclip.data.batches.views import Views
from pocketclip.data.keys import caption_id
from pocketclip.data.masked_tokens import Masking
from pocketclip.data.pictures.augment import SWAP_SIDES
from pocketclip.data.pictures.decode import jpeg_decoder
from pocketclip.data.sides import sides_swapped
from pocketclip.data.source import Source, broken_item
from pocketclip.data.sources.reinforcement import Floats, ReinforcedData
from pocketclip.data.text_tokens import TextTokensConfig, encode_reduced
from pocketclip.distributed import local_world_size
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.hardware import available_cores
from pocketclip.preprocess import PreprocessConfig
from pocketclip.tokenizer import Tokenizer
from pocketclip.types import ImageTextBatch, MaskedTexts, TeacherFeatures, TeacherInputs


@dataclass(frozen=True)
class Pair:
    """One image with the captions drawn for it."""

    arrays: list[npt.NDArray[Any]]
    """(H, W, 3) bytes of the view at each size and of further views, or its (F,) features of a frozen tower alone."""
    captions: list[str]
    index: int
    """Of the image in its source."""
    row: Floats | None = None
    """(1 + M, W), what stored teachers make of the view and of each caption."""
    label: int | None = None
    picture: int = 0
    """Equal where the image is the same; see `Source.picture_id`."""
    seeds: Sequence[int] = ()
    """Names what is drawn for it."""


@dataclass(frozen=True)
class TrainingBatches(Dataset[Pair | str]):
    """What every step of a run sees; a pair that cannot be read is left out of its batch, which names it."""

    source: Source
    plan: BatchPlan
    """Order and batch size, over `captions.num_items(source)` items."""
    captions: Captions
    views: Views
    tokenizer: Tokenizer
    """Text to ids, padded to a batch's longest."""
    teachers: Teachers = field(default_factory=Teachers)
    text_tokens: TextTokensConfig | None = None
    """How texts lose tokens; None keeps them whole."""
    masking: Masking | None = None
    """Which words are hidden from a second pass of the text tower; None has none."""

    def __post_init__(self) -> None:
        assert self.source.stored is not None or self.captions.num_synthetic == 0, "nothing is stored"
        if self.views.augment.flip == SWAP_SIDES and self.source.images_per_example > 1:
            raise UserError(
                f"augment.flip: swap_sides is for captions of one image, and those of {self.source.name} are of "
                f"{self.source.images_per_example} side by side; give false."
            )

    @functools.cached_property
    def sizes(self) -> dict[str, PreprocessConfig]:
        """What a picture is rendered for, the student first; those that differ in colours only are one."""
        wanted = [self.views.preprocess, *(reader.preprocess for reader in self.teachers.readers)]
        return {preprocess.geometry: preprocess for preprocess in wanted}

    @functools.cached_property
    def _stored(self) -> ReinforcedData | None:
        return self.source.stored

    def steps(
        self,
        start: int,
        stop: int,
        *,
        num_workers: int | None = None,
        pin_memory: bool = False,
        share: slice | None = None,
    ) -> Iterator[ImageTextBatch]:
        """Batches of steps `start` to `stop`, read by so many processes; None is 1 on 2 cores and up to 8 on more.

        `pin_memory` is for copies to a GPU. `share` is the places of every batch to read, as `BatchPlan.share` gives a
        rank: any number of ranks, workers and shards reads each sample once an epoch. None reads them all.
        """
        if num_workers is None:
            num_workers = min(8, max(1, available_cores() // local_world_size() - 1))
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
        jpeg_decoder()  # imported here once, not in every worker
        loader = DataLoader(
            self,
            batch_sampler=self._places(range(start, stop), share or slice(None)),
            collate_fn=self.join,
            num_workers=num_workers,
            pin_memory=pin_memory,
            prefetch_factor=2 if num_workers else None,
            worker_init_fn=_one_thread,
            generator=torch.Generator(),  # or opening the loader would draw from the generator that dropout uses
        )
        with _objects_left_alone():
            for fields in loader:
                teachers = tuple(TeacherFeatures(**one) for one in fields.pop("teachers", ()))
                inputs = tuple(TeacherInputs(**one) for one in fields.pop("teacher_inputs", ()))
                views = tuple(fields.pop("views", ()))
                masked = MaskedTexts(*fields.pop("masked")) if "masked" in fields else None
                yield ImageTextBatch(**fields, teachers=teachers, teacher_inputs=inputs, views=views, masked=masked)

    def _places(self, steps: range, share: slice) -> Iterator[list[tuple[int, int]]]:
        """The epoch and the item of each pair of every step, or of a rank's share of them."""
        members = range(self.source.images_per_example)
        for step in steps:
            epoch, examples = self.plan.batch(step)
            firsts = (int(example) * len(members) for example in examples[share])
            yield [(epoch, first + member) for first in firsts for member in members]

    def __getitem__(self, place: tuple[int, int]) -> Pair | str:
        """What an epoch shows of an item; the message of one that cannot be read or has no caption."""
        index = self.captions.image_of(place[1])
        try:
            with broken_item(lambda: self.source.place(index)):
                return self._pair(index, *place)
        except BrokenItemError as error:
            return str(error)

    def _pair(self, index: int, epoch: int, number: int) -> Pair:
        sample = self.source[index]
        if not sample.captions:
            raise BrokenItemError(f"{sample.place}: has no caption.")
        stored = None if self._stored is None else self._stored.read(index)
        item = Item(self.plan.seed, epoch, number, index, sample, stored)
        view, arrays, swaps_sides = self.views.show(item, list(self.sizes.values()))
        drawn, texts = self.captions.draw(item), item.texts
        number = self.source.picture_id_of(index, sample)
        row, captions = self.teachers.row(item, view, drawn), [texts[text] for text in drawn]
        if swaps_sides:
            captions = [sides_swapped(caption) for caption in captions]
        return Pair(arrays, captions, index, row, sample.label, number, item.seeds)

    def join(self, items: Sequence[Pair | str]) -> dict[str, Any]:
        """The fields of a batch; broken items, given by their messages, are left out and named.

        In a dictionary, since torch pins the memory of tensors in those and not of tensors in a class of ours.
        """
        per_example = self.source.images_per_example
        firsts = range(0, len(items), per_example)
        pairs = [pair for first in firsts for pair in _unbroken(items[first : first + per_example])]
        captions = [caption for pair in pairs for caption in pair.captions]
        seeds = [[*pair.seeds, number] for pair in pairs for number in range(len(pair.captions))]
        tokens, mask = self._encode(captions, seeds)
        rows = [pair.row for pair in pairs if pair.row is not None]
        pixels = {
            geometry: self.views.join([pair.arrays[size] for pair in pairs]) for size, geometry in enumerate(self.sizes)
        }
        fields: dict[str, Any] = {
            "images": pixels[self.views.preprocess.geometry],
            "tokens": torch.from_numpy(tokens),
            "token_mask": torch.from_numpy(mask),
            "image_ids": torch.tensor([pair.picture for pair in pairs], dtype=torch.int64),
            "caption_ids": torch.tensor([caption_id(caption) for caption in captions], dtype=torch.int64),
            "broken": [item for item in items if isinstance(item, str)],
            "indices": torch.tensor([pair.index for pair in pairs], dtype=torch.int64),
            "num_synthetic": self.captions.num_synthetic,
        }
        if per_example > 1 and all(pair.label is not None for pair in pairs):
            fields["labels"] = torch.tensor([pair.label for pair in pairs[::per_example]], dtype=torch.int64)
        if further := range(len(self.sizes), len(self.sizes) + self.views.num_views - 1):
            fields["views"] = [self.views.join([pair.arrays[place] for pair in pairs]) for place in further]
        if self.masking is not None:
            fields["masked"] = [torch.from_numpy(ids) for ids in self.masking.hide(tokens, mask, seeds)]
        return fields | self.teachers.join(rows, pixels, captions)

    def _encode(
        self, captions: Sequence[str], seeds: Sequence[Sequence[int]]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        if self.text_tokens is None:
            return self.tokenizer.encode(captions)
        return encode_reduced(self.text_tokens, self.tokenizer, captions, seeds)


def _unbroken(items: Sequence[Pair | str]) -> list[Pair]:
    """The images of an example; none of them where one is broken."""
    pairs = [item for item in items if isinstance(item, Pair)]
    return pairs if len(pairs) == len(items) else []


@contextmanager
def _objects_left_alone() -> Iterator[None]:
    """Within, the garbage collector does not look at the objects there are now.

    It would write to each of them, and so copy every page that a process and its workers share: 80 MiB, once the
    first full collection of a long run comes.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
