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
from torch.utils.data import DataLoader, Dataset, Sampler

from pocketclip.data.augment import Augmentation, render_view, shortest_side
from pocketclip.data.decode import decode_picture, jpeg_decoder
from pocketclip.data.reinforcement import Reinforcement, StoredColumns
from pocketclip.data.source import Sample, Source, caption_id
from pocketclip.data.teaching import (
    TeacherReader,
    distinct_sizes,
    draw_view_number,
    join_features,
    join_inputs,
    join_pixels,
    join_vectors,
    size_of_readers,
)
from pocketclip.distributed import local_world_size
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.hardware import available_cores
from pocketclip.tokenizer import Tokenizer
from pocketclip.types import ImageTextBatch, TeacherFeatures, TeacherInputs


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


def draw_synthetic(num_real: int, num_texts: int, count: int, random: np.random.Generator) -> list[int]:
    """`count` caption numbers of the synthetic ones, which stand behind the real ones; of the real where none do."""
    if num_texts > num_real:
        return [num_real + number for number in draw_captions(num_texts - num_real, count, random)]
    return draw_captions(num_real, count, random)


@dataclass(frozen=True)
class ImageFeatures:
    """What a frozen tower makes of the views of a source's images, in the place of their pixels."""

    features: npt.NDArray[np.floating[Any]]
    """(N, V, F), of the readable images."""
    rows: npt.NDArray[np.int64]
    """Row of each sample of the source; -1 of one whose picture could not be read."""

    @property
    def num_views(self) -> int:
        """V."""
        return int(self.features.shape[1])

    def view(self, index: int, number: int) -> npt.NDArray[np.float32] | None:
        """(F,) of one view of sample `index`; None where its picture could not be read."""
        row = int(self.rows[index])
        if row < 0:
            return None
        vector: npt.NDArray[np.float32] = self.features[row, number].astype(np.float32)
        return vector


@dataclass(frozen=True)
class Pair:
    """One image with the captions drawn for it."""

    pixels: npt.NDArray[Any]
    """(H, W, 3) bytes of the view, or its (F,) features of a frozen tower."""
    captions: list[str]
    index: int
    others: tuple[npt.NDArray[Any], ...] = ()
    """The same view at the further sizes that live teachers want."""
    features: npt.NDArray[np.float32] | None = None
    """(1 + K, W), what stored teachers make of the view and of each caption."""
    label: int | None = None


class PairDataset(Dataset[Pair | str]):
    """Reads, decodes and augments; a broken item comes out as its message.

    Args:
        source: samples by number; reinforced ones bring their views.
        augmentation: makes each view of other sources.
        captions_per_image: K, drawn anew each epoch; of a reinforced source the real ones among them.
        seed: of views and captions.
        last_captions: (N,) running total of the captions of each image, where an item is a caption; None where an
            item is an image.
        synthetic_captions_per_image: S, drawn beside them from a reinforced source; an image without any shows real
            ones in their place.
        readers: of live teachers.
        with_features: whether to bring what stored teachers make of the pair.
        images: features in the place of pixels; those of the stored views, of a reinforced source.
    """

    def __init__(
        self,
        source: Source,
        augmentation: Augmentation,
        captions_per_image: int,
        seed: int,
        last_captions: npt.NDArray[np.int64] | None = None,
        *,
        synthetic_captions_per_image: int = 0,
        readers: Sequence[TeacherReader] = (),
        with_features: bool = False,
        images: ImageFeatures | None = None,
    ) -> None:
        self.source = source
        self.augmentation = augmentation
        self.captions_per_image = captions_per_image
        self.seed = seed
        self.last_captions = last_captions
        self.num_synthetic = synthetic_captions_per_image
        self.with_features = with_features
        self.images = images
        self.stored = source.stored
        assert self.stored is not None or not (with_features or synthetic_captions_per_image), "nothing is stored"
        augment = augmentation.config if self.stored is None else self.stored.manifest.augment
        self.sizes = distinct_sizes(augmentation.preprocess, readers)
        self.shortest = max(shortest_side(size, augment.crop_scale, augment.crop_ratio) for size in self.sizes)
        jpeg_decoder()  # imported here once, not in every worker

    def __getitem__(self, place: tuple[int, int]) -> Pair | str:
        epoch, item = place
        index, caption = item, None
        if self.last_captions is not None:
            index = int(np.searchsorted(self.last_captions, item, side="right"))
            caption = int(self.last_captions[index]) - 1 - item
        try:
            sample = self.source[index]
            if not sample.captions:
                raise BrokenItemError(f"{sample.place}: has no caption.")
            stored = None if self.stored is None else self.stored.read(index)
            number, (pixels, *others) = self._view(sample, index, epoch, item, stored)
        except BrokenItemError as error:
            return str(error)
        random = np.random.default_rng([self.seed, epoch, item])
        chosen = draw_captions(len(sample.captions), self.captions_per_image, random) if caption is None else [caption]
        texts = [*sample.captions, *(() if stored is None else stored.synthetic)]
        chosen += draw_synthetic(len(sample.captions), len(texts), self.num_synthetic, random)
        features = None
        if self.with_features and stored is not None:
            features = stored.features[[number, *(len(stored.views) + text for text in chosen)]]
        return Pair(pixels, [texts[text] for text in chosen], index, tuple(others), features, sample.label)

    def _view(
        self, sample: Sample, index: int, epoch: int, item: int, stored: Reinforcement | None
    ) -> tuple[int, list[npt.NDArray[Any]]]:
        """The view to show at each size, or its features, with its number among those stored.

        Raises:
            BrokenItemError: the picture cannot be read.
        """
        num_views = self.images.num_views if self.images is not None else 0 if stored is None else len(stored.views)
        number = draw_view_number(num_views, self.seed, epoch, item) if num_views else 0
        vector = None if self.images is None else self.images.view(index, number)
        if vector is not None:
            return number, [vector]
        picture = decode_picture(sample.image, place=sample.place, shortest=self.shortest)  # says what is wrong with it
        if self.images is not None:
            raise BrokenItemError(f"{sample.place}: could not be read when its features were computed.")
        drawn = (
            self.augmentation.draw(picture.size, [self.seed, epoch, item]) if stored is None else stored.views[number]
        )
        return number, [render_view(picture, drawn, size) for size in self.sizes]


@dataclass(frozen=True)
class Collate:
    """Joins pairs into the fields of a batch; broken ones are left out and named.

    In a dictionary, since torch pins the memory of tensors in those and not of tensors in a class of ours.
    """

    tokenizer: Tokenizer
    num_synthetic: int = 0
    readers: tuple[TeacherReader, ...] = ()
    sizes: tuple[int, ...] = ()
    """Which of a pair's pixels each live teacher reads: 0 the student's, then `others`."""
    teachers: tuple[StoredColumns, ...] = ()
    """Of stored teachers, where their features are wanted."""
    per_example: int = 1
    """How many items that follow each other are used, or left out, together."""
    has_vectors: bool = False
    """Whether images come as features."""

    def __call__(self, items: Sequence[Pair | str]) -> dict[str, Any]:
        firsts = range(0, len(items), self.per_example)
        pairs = [pair for first in firsts for pair in _unbroken(items[first : first + self.per_example])]
        captions = [caption for pair in pairs for caption in pair.captions]
        tokens, mask = self.tokenizer.encode(captions)
        views = [(pair.pixels, *pair.others) for pair in pairs]
        join = join_vectors if self.has_vectors else join_pixels
        pixels = [join([of_pair[size] for of_pair in views]) for size in range(max(self.sizes, default=0) + 1)]
        rows = [pair.features for pair in pairs if pair.features is not None]
        columns: dict[str, Any] = {
            "images": pixels[0],
            "tokens": torch.from_numpy(tokens),
            "token_mask": torch.from_numpy(mask),
            "image_ids": torch.tensor([pair.index for pair in pairs], dtype=torch.int64),
            "caption_ids": torch.tensor([caption_id(caption) for caption in captions], dtype=torch.int64),
            "broken": [item for item in items if isinstance(item, str)],
            "num_synthetic": self.num_synthetic,
        }
        if self.per_example > 1 and all(pair.label is not None for pair in pairs):
            columns["labels"] = torch.tensor([pair.label for pair in pairs[:: self.per_example]], dtype=torch.int64)
        if self.teachers:
            columns["teachers"] = join_features(rows, self.teachers)
        if self.readers:
            columns["teacher_inputs"] = join_inputs(pixels, captions, self.readers, self.sizes)
        return columns


def _unbroken(items: Sequence[Pair | str]) -> list[Pair]:
    """The images of an example; none of them where one is broken."""
    pairs = [item for item in items if isinstance(item, Pair)]
    return pairs if len(pairs) == len(items) else []


class _StepSampler(Sampler[list[tuple[int, int]]]):
    """The places of every step from `start_step` on, or a rank's share of them."""

    def __init__(self, plan: BatchPlan, start_step: int, num_steps: int, share: slice, per_example: int) -> None:
        self.plan, self.start_step, self.num_steps, self.share = plan, start_step, num_steps, share
        self.members = range(per_example)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.start_step, self.num_steps):
            epoch, indices = self.plan.batch(step)
            firsts = (int(index) * len(self.members) for index in indices[self.share])
            yield [(epoch, first + member) for first in firsts for member in self.members]

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
    synthetic_captions_per_image: int = 0,
    readers: Sequence[TeacherReader] = (),
    with_features: bool = False,
    images: ImageFeatures | None = None,
) -> Iterator[ImageTextBatch]:
    """Batches of steps `start_step` to `num_steps`, one each.

    Args:
        source: samples by number; `plan.num_samples` of them, or examples of two images each.
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
        synthetic_captions_per_image: S, from a reinforced source, behind the K others of each image.
        readers: of live teachers; the batches bring what each of them wants to encode.
        with_features: whether the batches bring what the teachers of a reinforced source make of them.
        images: features of a frozen tower; the batches bring those in the place of pixels.
    """
    share, per_example = plan.share(rank, world_size), source.images_per_example
    if num_workers is None:
        num_workers = min(8, max(1, available_cores() // local_world_size() - 1))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
    dataset = PairDataset(
        source,
        augmentation,
        captions_per_image,
        plan.seed,
        last_captions,
        synthetic_captions_per_image=synthetic_captions_per_image,
        readers=readers,
        with_features=with_features,
        images=images,
    )
    collate = Collate(
        tokenizer,
        synthetic_captions_per_image,
        tuple(readers),
        tuple(size_of_readers(augmentation.preprocess, readers)),
        dataset.stored.teachers if with_features and dataset.stored is not None else (),
        per_example,
        images is not None,
    )
    loader = DataLoader(
        dataset,
        batch_sampler=_StepSampler(plan, start_step, num_steps, share, per_example),
        collate_fn=collate,
        num_workers=num_workers,
        pin_memory=pin_memory,
        prefetch_factor=2 if num_workers else None,
        worker_init_fn=_one_thread,
        generator=torch.Generator(),  # or opening the loader would draw from the generator that dropout uses
    )
    with _objects_left_alone():
        for columns in loader:
            teachers = tuple(TeacherFeatures(**one) for one in columns.pop("teachers", ()))
            inputs = tuple(TeacherInputs(**one) for one in columns.pop("teacher_inputs", ()))
            yield ImageTextBatch(**columns, teachers=teachers, teacher_inputs=inputs)


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
