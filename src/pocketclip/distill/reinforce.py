"""Reinforcement: ask teachers about a data set once, and store the answers beside the pictures.

Dataset reinforcement, https://arxiv.org/abs/2303.08983; multi-modal, https://arxiv.org/abs/2311.17049. Every sample
gets some random views as numbers, each teacher's embeddings of every view and caption, and captions that a model wrote.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
import torch

from pocketclip.asked.library import PACKAGES
from pocketclip.data import Source
from pocketclip.data.pictures.augment import ViewParameters, draw_view, render_view, shortest_side
from pocketclip.data.pictures.decode import Picture, decode_picture
from pocketclip.data.source import Sample, broken_item, readable_captions, refuse_choices
from pocketclip.data.sources.reinforced import ReinforcedSample
from pocketclip.data.sources.reinforcement import Floats, Manifest, StoredTeacher
from pocketclip.distill import build_teachers
from pocketclip.distill.captioner import Captioner, load_captioner
from pocketclip.distill.config import ReinforceConfig
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.features.encode import in_threads
from pocketclip.models.running.backends import requested_inference
from pocketclip.models.running.precision import resolve_precision

Thing = TypeVar("Thing")
WRITING_SEED = 1 << 32
"""Takes the place of a view's number where captions are drawn."""


@dataclass(frozen=True)
class _Loaded:
    """One readable sample with its picture and views."""

    index: int
    sample: Sample
    picture: Picture
    views: tuple[ViewParameters, ...]


class Reinforcer:
    """An opened recipe: reinforces any consecutive samples, the same bits whichever process does it.

    A source, teacher or captioner that cannot be opened is a UserError.
    """

    def __init__(self, config: ReinforceConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.source: Source = config.source.open()
        refuse_choices(self.source)
        if len(self.source) == 0:
            raise UserError(f"{self.source.name}: no images.")
        self.teachers = build_teachers(config.teachers, device, config.precision)
        self.captioner = (
            None if config.captioner is None else load_captioner(config.captioner, device, config.precision)
        )
        self.manifest = Manifest(
            teachers=tuple(
                StoredTeacher(
                    name=teacher.short_name,
                    kind=teacher.kind,
                    width=teacher.embed_dim,
                    scale=teacher.inverse_temperature or 1.0,
                    image_size=teacher.preprocess.image_size,
                    mark=teacher.fingerprint,
                )
                for teacher in self.teachers
            ),
            num_views=config.num_views,
            num_synthetic=0 if config.captioner is None else config.captioner.num_captions,
            dtype=config.dtype,
            augment=config.augment,
            captioner=None if self.captioner is None else self.captioner.describe(),
            seed=config.seed,
            source=self.source.name,
            source_fingerprint=self.source.fingerprint(),
            versions={name: version(name) for name in PACKAGES},
        )

    def made_from(self) -> dict[str, Any]:
        """Everything the shards' bytes depend on."""
        return {
            **settings_of(self.manifest),
            "batch_size": self.config.batch_size,
            "precision": resolve_precision(self.config.precision, self.device),
            "device": self.device.type,
            "inference": requested_inference("auto"),
            "versions": self.manifest.versions,
        }

    @property
    def samples_per_batch(self) -> int:
        """Samples whose views a teacher is asked about together."""
        return max(1, self.config.batch_size // self.config.num_views)

    def samples(self, start: int, stop: int, broken: list[str]) -> Iterator[ReinforcedSample]:
        """The readable samples from `start` to before `stop`, reinforced; `broken` takes a message for each other."""
        numbers = range(start, stop)
        synthetic = self._write_captions(numbers)
        rows = self._encode_texts(numbers, synthetic)
        with closing(in_threads(self._encode_views, _parts(numbers, self.samples_per_batch))) as encoded:
            for loaded, messages in encoded:
                broken.extend(messages)
                for item, views in loaded:
                    written = synthetic.get(item.index, ())
                    texts = (*item.sample.captions, *written)
                    if not texts:
                        broken.append(f"{item.sample.place}: has no caption.")
                        continue
                    features = np.concatenate([views, [rows[text] for text in texts]])
                    yield ReinforcedSample(item.sample, item.views, features, written)

    def _encode_texts(self, numbers: Sequence[int], synthetic: dict[int, tuple[str, ...]]) -> dict[str, Floats]:
        """(W,) of each distinct text of some samples: all teachers' embeddings side by side."""
        there = readable_captions(self.source, numbers)  # a broken one is named when its picture is read
        distinct = {*itertools.chain(*synthetic.values(), *there)}
        texts = sorted(distinct, key=lambda text: (len(text), text))  # so that a batch has little padding
        parts = _parts(texts, self.config.batch_size)
        with closing(in_threads(self._encode_batch, parts)) as encoded:
            return dict(zip(texts, itertools.chain.from_iterable(encoded), strict=True))

    def _encode_batch(self, texts: Sequence[str]) -> Floats:
        columns = []
        for teacher in self.teachers:
            tokens, mask = teacher.text_reader().encode(texts)
            columns.append(teacher.embed_tokens(torch.from_numpy(tokens), torch.from_numpy(mask)).cpu().numpy())
        return np.concatenate(columns, axis=1)

    def _write_captions(self, numbers: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """Synthetic captions of the readable pictures by sample number; empty without a captioner."""
        if self.captioner is None:
            return {}
        with closing(in_threads(partial(self._write_batch, self.captioner), _parts(numbers, 8))) as batches:
            written = dict(itertools.chain.from_iterable(batches))
        if written and not any(written.values()):
            raise UserError(
                f"captioner.name: {self.captioner.config.name} wrote no caption for any of {len(written)} pictures; "
                "choose a model that was trained to describe pictures, or set captioner to null."
            )
        return written

    def _write_batch(self, captioner: Captioner, numbers: Sequence[int]) -> list[tuple[int, tuple[str, ...]]]:
        if not (loaded := self._load(numbers)[0]):
            return []
        seeds = [[self.config.seed, item.index, WRITING_SEED] for item in loaded]
        written = captioner.write([item.picture.pixels for item in loaded], seeds)
        return [(item.index, texts) for item, texts in zip(loaded, written, strict=True)]

    def _encode_views(self, numbers: Sequence[int]) -> tuple[list[tuple[_Loaded, Floats]], list[str]]:
        """Readable samples with (V, W) embeddings of their views, and a message for each of the others."""
        loaded, broken = self._load(numbers)
        if not loaded:
            return [], broken
        pixels: dict[str, torch.Tensor] = {}
        columns = []
        for teacher in self.teachers:
            geometry = teacher.preprocess.geometry
            if geometry not in pixels:  # teachers of one size see the same pixels
                views = [render_view(item.picture, view, teacher.preprocess) for item in loaded for view in item.views]
                pixels[geometry] = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)
            parts = pixels[geometry].split(self.config.batch_size)
            columns.append(np.concatenate([teacher.embed_images(part).cpu().numpy() for part in parts]))
        images = np.concatenate(columns, axis=1).reshape(len(loaded), self.config.num_views, -1)
        return list(zip(loaded, images, strict=True)), broken

    def _load(self, numbers: Sequence[int]) -> tuple[list[_Loaded], list[str]]:
        """Readable samples, and a message for each of the others."""
        augment, loaded, broken = self.config.augment, [], []
        shortest = max(shortest_side(one.preprocess, augment) for one in self.teachers)
        for index in numbers:
            try:
                with broken_item(partial(self.source.place, index)):
                    sample = self.source[index]
                    picture = decode_picture(sample.image, place=sample.place, shortest=shortest)
            except BrokenItemError as error:
                broken.append(str(error))
                continue
            seeds = ([self.config.seed, index, view] for view in range(self.config.num_views))
            views = tuple(draw_view(augment, picture.size, seed) for seed in seeds)
            loaded.append(_Loaded(index, sample, picture, views))
        return loaded, broken


def _parts(things: Sequence[Thing], size: int) -> list[Sequence[Thing]]:
    return [things[first : first + size] for first in range(0, len(things), size)]


def settings_of(manifest: Manifest) -> dict[str, Any]:
    """What a folder was made from, as plain values to compare; a scale shapes nothing that is stored."""
    widths = {teacher.name: teacher.width for teacher in manifest.teachers}
    marks = {teacher.name: teacher.mark for teacher in manifest.teachers}
    kept = {"num_views", "num_synthetic", "dtype", "augment", "captioner", "seed", "source_fingerprint"}
    return {"teacher_widths": widths, "teachers": marks, **manifest.model_dump(mode="json", include=kept)}
