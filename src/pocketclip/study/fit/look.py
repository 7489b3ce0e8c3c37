"""A look at the data and at the machine, in seconds: how many pictures there are, and how fast towers run on them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import nn

from pocketclip.data import Source
from pocketclip.data.source import readable_captions, refuse_choices
from pocketclip.data.splits import picture_groups
from pocketclip.errors import UserError
from pocketclip.features.encode import encode_texts, image_blocks
from pocketclip.hardware import keep_freed_memory
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.running.precision import autocast
from pocketclip.models.running.runner import Runner
from pocketclip.models.running.threads import THREADS
from pocketclip.models.tower import NoTower
from pocketclip.run.data import excerpt
from pocketclip.run.fit import FEWEST
from pocketclip.study.fit.candidates import ImagePart, Table, TextPart

LOOKED_AT, CAPTIONS = 48, 512
"""Pictures and captions that speeds are measured with."""
COUNTED = 500
"""Pictures whose captions are counted."""
STEP_PICTURES, CAPTIONS_A_STEP = 8, 2
"""Of a training step that is timed."""


@dataclass(frozen=True)
class Data:
    """What there is to learn from."""

    name: str
    num_pictures: int
    captions_per_picture: float

    @classmethod
    def of(cls, source: Source) -> Self:
        """Counted in an excerpt.

        Raises:
            UserError: there is nothing to learn from in it.
        """
        refuse_choices(source)
        if source.images_per_example > 1:
            raise UserError(f"{source.name}: fit learns from single pictures with captions; its examples have two.")
        if not len(source):
            raise UserError(f"{source.name}: holds no pictures.")
        some = excerpt(source, COUNTED)
        counts = [len(captions) for captions in readable_captions(some)]
        captioned = [count for count in counts if count]
        if not captioned:
            raise UserError(
                f"{source.name}: no picture of {len(some):,} looked at has a caption. Put them beside the pictures: "
                "dog.jpg with dog.txt, one a line; `pocketclip data inspect SOURCE` says what is there."
            )
        num_pictures = round(len(source) * len(captioned) / len(counts))
        if num_pictures < FEWEST:
            raise UserError(
                f"{source.name}: {num_pictures} of {len(source)} pictures have a caption, too few to learn from and to "
                f"be measured on. Bring at least {FEWEST} of them; some hundreds give a model worth having."
            )
        return cls(source.name, num_pictures, sum(captioned) / len(captioned))


@dataclass(frozen=True)
class Speeds:
    """Seconds of this machine."""

    opening: float
    """Of a picture: reading it and comparing it with the others, before anything is trained."""
    decoding: float
    """Of a picture."""
    work: float
    """Of a frozen image tower that takes a `core_ms`."""
    caption: float
    """Of the whole frozen text tower."""
    tuning: float | None = None
    """Of a picture with its captions in a step that trains both towers; None where nobody asked."""


class Machine:
    """Measures the towers that the first line of each table has; weights do not matter to speeds."""

    def __init__(self, table: Table, device: torch.device) -> None:
        keep_freed_memory()
        THREADS.fit()
        self.device = device
        self.image = next(iter(table.image_towers.values()))
        self.text = next(iter(table.text_towers.values()))
        tuned = table.tuning.image_towers[0]
        self.tuned = table.image_towers[tuned]

    def speeds(self, source: Source, *, with_tuning: bool) -> Speeds:
        """With some of a user's own pictures and captions."""
        some = excerpt(source, min(LOOKED_AT, len(source)))
        opening = _seconds(lambda: picture_groups(some)) / len(some)
        tower = image_side(self.image)
        runner = Runner(tower, device=self.device, image_size=self.image.image_size, heads=False)
        preprocess, size = tower.image_encoder.preprocess, len(some)

        def encode(part: Source, frozen: Callable[..., np.ndarray]) -> None:
            list(image_blocks(part, frozen, preprocess))

        both = _seconds_again(lambda: encode(some, runner.encode_images)) / size
        decoding = _seconds(lambda: encode(some, lambda pixels: np.zeros((len(pixels), 1), np.float32))) / size
        work = max(both - decoding, 0.1 * both) / self.image.core_ms
        return Speeds(opening, decoding, work, self._caption(source), self._tuning(some) if with_tuning else None)

    def _caption(self, source: Source) -> float:
        some = excerpt(source, CAPTIONS)
        texts = [text for group in readable_captions(some) for text in group][:CAPTIONS]
        config = self.text.config()
        tower = DualEncoder(NoTower(), config.build(load_pretrained=False), nn.Identity(), nn.Identity())
        runner = Runner(tower, device=self.device, image_size=32, heads=False)
        reader = config.build_tokenizer()
        return _seconds_again(lambda: encode_texts(texts, runner.encode_tokens, reader)) / len(texts)

    def _tuning(self, source: Source) -> float:
        """Forward and backward of both towers, as `TrainConfig` with frozen batch norm does it."""
        image = self.tuned.config(frozen_layers=4).build(load_pretrained=False).to(self.device)
        text = self.text.config(frozen_layers=1).build(load_pretrained=False).to(self.device)
        size, count = self.tuned.image_size, STEP_PICTURES
        pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, device=self.device)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        tokens = torch.randint(1000, 2000, (count * CAPTIONS_A_STEP, 20), device=self.device)
        for tower in (image.train(), text.train()):
            for parameter in tower.frozen_parameters:
                parameter.requires_grad_(False)

        def step() -> None:
            loss = image(pixels).square().mean()
            with autocast("auto", self.device):
                loss = loss + text(tokens, torch.ones_like(tokens, dtype=torch.bool)).square().mean()
            loss.backward()

        return _seconds_again(step) / count


def image_side(part: ImagePart) -> DualEncoder:
    """An image tower alone, with random weights."""
    return DualEncoder(part.config().build(load_pretrained=False), NoTower(), nn.Identity(), nn.Identity())


def text_side(part: TextPart, vocabulary_size: int | None = None) -> DualEncoder:
    """A text tower alone, with random weights."""
    tower = part.config().build(load_pretrained=False, vocabulary_size=vocabulary_size)
    return DualEncoder(NoTower(), tower, nn.Identity(), nn.Identity())


def _seconds_again(work: Callable[[], object]) -> float:
    """Of a work that was done before: the first time much is set up, for each length of text anew."""
    work()
    return _seconds(work)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
