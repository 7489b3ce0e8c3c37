"""Batches for training: which samples a step sees depends only on the seed and the step's number.

So a resumed run goes on exactly, and the number of workers changes nothing.
"""

import functools
import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from pocketclip.data.augment import Augmentation
from pocketclip.data.decode import Pixels, decode_picture, jpeg_decoder
from pocketclip.data.source import Source, caption_id
from pocketclip.distributed import local_world_size
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.hardware import available_cores
from pocketclip.tokenizer import Tokenizer
from pocketclip.types import ImageTextBatch


@dataclass(frozen=True)
class BatchPlan:
    """The order of a whole run: a fresh shuffle every epoch, whole batches only.

    The samples left over at an epoch's end are different ones each time.
    """

    num_samples: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.num_samples < self.batch_size:
            raise UserError(
                f"train.batch_size: {self.batch_size} is more than the {self.num_samples} usable images; "
                f"set train.batch_size to at most {self.num_samples}, or bring more data."
                + (" A contrastive batch needs 2." if self.num_samples < 2 else "")
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the data."""
        return self.num_samples // self.batch_size

    def batch(self, step: int) -> tuple[int, npt.NDArray[np.int64]]:
        """The epoch and the sample numbers of a step, both counted from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = _shuffled(self.num_samples, self.seed, epoch)
        return epoch, order[position * self.batch_size : (position + 1) * self.batch_size]

    def share(self, rank: int, world_size: int) -> slice:
        """The places of every batch that a rank works on; the batches themselves do not depend on their number.

        Raises:
            UserError: a rank would have nothing to do.
        """
        if self.batch_size < world_size:
            raise UserError(
                f"train.batch_size: {self.batch_size} pairs cannot be shared by {world_size} processes; "
                f"set train.batch_size to at least {world_size}, or start fewer processes."
            )
        return slice(self.batch_size * rank // world_size, self.batch_size * (rank + 1) // world_size)


@functools.lru_cache(maxsize=2)
def _shuffled(num_samples: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(num_samples)


def draw_captions(num_captions: int, count: int, random: np.random.Generator) -> list[int]:
    """`count` caption numbers of an image that has `num_captions`; each once before any comes twice."""
    drawn: list[int] = []
    while len(drawn) < count:
        drawn.extend(random.permutation(num_captions)[: count - len(drawn)].tolist())
    return drawn


@dataclass(frozen=True)
class Pair:
    """One image with the captions drawn for it."""

    pixels: Pixels
    captions: list[str]
    index: int


class PairDataset(Dataset[Pair | str]):
    """Reads, decodes and augments; a broken item comes out as its message.

    Args:
        source: samples by number.
        augmentation: makes each view.
        captions_per_image: K, drawn anew each epoch.
        seed: of views and captions.
        last_captions: (N,) running total of the captions of each image, where an item is a caption; None where an
            item is an image.
    """

    def __init__(
        self,
        source: Source,
        augmentation: Augmentation,
        captions_per_image: int,
        seed: int,
        last_captions: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.source = source
        self.augmentation = augmentation
        self.captions_per_image = captions_per_image
        self.seed = seed
        self.last_captions = last_captions
        jpeg_decoder()  # imported here once, not in every worker

    def __getitem__(self, place: tuple[int, int]) -> Pair | str:
        epoch, index = place
        seed = [self.seed, epoch, index]
        caption = 0
        if self.last_captions is not None:
            number, index = index, int(np.searchsorted(self.last_captions, index, side="right"))
            caption = int(self.last_captions[index]) - 1 - number
        try:
            sample = self.source[index]
            if not sample.captions:
                raise BrokenItemError(f"{sample.place}: has no caption.")
            picture = decode_picture(sample.image, place=sample.place, shortest=self.augmentation.shortest)
        except BrokenItemError as error:
            return str(error)
        if self.last_captions is not None:
            chosen = [caption]
        else:
            chosen = draw_captions(len(sample.captions), self.captions_per_image, np.random.default_rng(seed))
        pixels = self.augmentation(picture, seed)
        return Pair(pixels, [sample.captions[number] for number in chosen], index)


@dataclass(frozen=True)
class Collate:
    """Joins pairs into the fields of a batch; broken ones are left out and named.

    In a dictionary, since torch pins the memory of tensors in those and not of tensors in a class of ours.
    """

    tokenizer: Tokenizer

    def __call__(self, items: Sequence[Pair | str]) -> dict[str, Any]:
        pairs = [item for item in items if isinstance(item, Pair)]
        captions = [caption for pair in pairs for caption in pair.captions]
        tokens, mask = self.tokenizer.encode(captions)
        views = [torch.from_numpy(pair.pixels) for pair in pairs]
        # Torch's own joins them in the memory that a worker shares, which spares a copy
        pixels = default_collate(views) if views else torch.zeros((0, 1, 1, 3), dtype=torch.uint8)
        return {
            "images": pixels.permute(0, 3, 1, 2),  # stays channels_last in memory
            "tokens": torch.from_numpy(tokens),
            "token_mask": torch.from_numpy(mask),
            "image_ids": torch.tensor([pair.index for pair in pairs], dtype=torch.int64),
            "caption_ids": torch.tensor([caption_id(caption) for caption in captions], dtype=torch.int64),
            "broken": [item for item in items if isinstance(item, str)],
        }


class _StepSampler(Sampler[list[tuple[int, int]]]):
    """The places of every step from `start_step` on, or a rank's share of them."""

    def __init__(self, plan: BatchPlan, start_step: int, num_steps: int, share: slice) -> None:
        self.plan, self.start_step, self.num_steps, self.share = plan, start_step, num_steps, share

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.start_step, self.num_steps):
            epoch, indices = self.plan.batch(step)
            yield [(epoch, int(index)) for index in indices[self.share]]

    def __len__(self) -> int:
        return max(0, self.num_steps - self.start_step)


def training_batches(
    source: Source,
    plan: BatchPlan,
    *,
    augmentation: Augmentation,
    tokenizer: Tokenizer,
    captions_per_image: int,
    num_steps: int,
    start_step: int = 0,
    last_captions: npt.NDArray[np.int64] | None = None,
    num_workers: int | None = None,
    pin_memory: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[ImageTextBatch]:
    """Batches of steps `start_step` to `num_steps`, one each.

    Args:
        source: samples by number; `plan.num_samples` of them.
        plan: order and batch size.
        augmentation: makes each view.
        tokenizer: text to ids, padded to a batch's longest.
        captions_per_image: K, drawn anew each epoch.
        num_steps: where the run ends.
        start_step: where a resumed run begins.
        last_captions: where the plan's items are captions; see `PairDataset`.
        num_workers: processes; None takes one on 2 cores and up to 8 on larger machines.
        pin_memory: for copies to a GPU.
        rank: which share of each batch to read.
        world_size: in how many shares; any number of ranks, workers and shards reads each sample once an epoch.
    """
    share = plan.share(rank, world_size)
    if num_workers is None:
        num_workers = min(8, max(1, available_cores() // local_world_size() - 1))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
    loader = DataLoader(
        PairDataset(source, augmentation, captions_per_image, plan.seed, last_captions),
        batch_sampler=_StepSampler(plan, start_step, num_steps, share),
        collate_fn=Collate(tokenizer),
        num_workers=num_workers,
        pin_memory=pin_memory,
        prefetch_factor=2 if num_workers else None,
        worker_init_fn=_one_thread,
        generator=torch.Generator(),  # or opening the loader would draw from the generator that dropout uses
    )
    with _objects_left_alone():
        for columns in loader:
            yield ImageTextBatch(**columns)


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
    del worker
    torch.set_num_threads(1)
