"""What a candidate takes where it is used: bytes on disk, milliseconds of one input, and memory."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pocketclip.cost.latency import time_calls
from pocketclip.cost.weigh import CAPTION_TOKENS
from pocketclip.image_size import ImageSize, height_and_width
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.joints import ResidualMlpHeadConfig
from pocketclip.models.running.runner import Runner
from pocketclip.models.tower import NoTower
from pocketclip.study.fit.candidates import Candidate, ImagePart, TextPart
from pocketclip.study.fit.look import image_side, text_side
from pocketclip.tokenizer import Tokenizer
from pocketclip.vocabulary import keep_occurring

EMBED_DIM = 512
HEAD = {"kind": "residual_mlp", "dropout": 0.5, "input_norm": True, "input_dropout": 0.2}
TIMED_SECONDS = 0.5
HEADS_MS = 0.3
"""Of both heads for one input."""
LATENCY_SPARE, SIZE_SPARE = 1.1, 1.01
"""Times what is measured: a limit has to be kept after training, too."""
BESIDE_WEIGHTS = 100_000
"""Bytes of config, card and the sketch of the pictures."""
HEADS_MEMORY, TUNING_MEMORY, TUNING_MEMORY_PICTURE = 1.7e9, 1.5e9, 31e6
"""Bytes at the peak of training heads, and of training towers beside and for each picture of a pass at 160 px
(results/flickr8k_heads_cpu.json, flickr8k_finetune_cpu.json). Using the model takes less."""


class Scale:
    """Weighs parts once each, with random weights; `captions` say which words occur."""

    def __init__(self, device: torch.device, captions: Callable[[], list[str]]) -> None:
        self.device, self._captions = device, captions
        self._sides: dict[ImagePart | TextPart, DualEncoder] = {}
        self._readers: dict[str, Tokenizer] = {}
        self._times: dict[ImagePart | TextPart, float] = {}

    def size_bytes(self, candidate: Candidate) -> float:
        """Of the bundle."""
        values = sum(self._num_values(self._side(part)) for part in (candidate.image, candidate.text))
        tokenizer = len(self._reader(candidate.text).to_json().encode())
        return SIZE_SPARE * (values * (2 if candidate.half else 4) + tokenizer + BESIDE_WEIGHTS)

    def latency_ms(self, candidate: Candidate) -> float:
        """Of one picture and one sentence."""
        return LATENCY_SPARE * (self._time(candidate.image) + self._time(candidate.text) + HEADS_MS)

    def memory_bytes(self, candidate: Candidate) -> float:
        """Of training in the smallest passes."""
        return TUNING_MEMORY + 8 * TUNING_MEMORY_PICTURE if candidate.tuned else HEADS_MEMORY

    @staticmethod
    def chunk_size(memory_bytes: float, batch_size: int) -> int | None:
        """Pictures of a pass in training towers that stay within so much memory; None for whole batches."""
        fitting = int((memory_bytes - TUNING_MEMORY) / TUNING_MEMORY_PICTURE)
        return None if fitting >= batch_size else max(8, fitting)

    def _reader(self, part: TextPart) -> Tokenizer:
        if part.vocabulary not in self._readers:
            reader = part.config().build_tokenizer()
            if part.vocabulary == "occurring":
                reader, _ = keep_occurring(reader, self._captions())
            self._readers[part.vocabulary] = reader
        return self._readers[part.vocabulary]

    def _side(self, part: ImagePart | TextPart) -> DualEncoder:
        if part not in self._sides:
            if isinstance(part, ImagePart):
                self._sides[part] = image_side(part)
            else:
                self._sides[part] = text_side(part, self._reader(part).vocabulary_size)
        return self._sides[part]

    @staticmethod
    def _num_values(side: DualEncoder) -> int:
        tower = side.text_encoder if isinstance(side.image_encoder, NoTower) else side.image_encoder
        head = ResidualMlpHeadConfig(**HEAD).build(tower.feature_dim, EMBED_DIM)
        return sum(value.numel() for module in (tower, head) for value in module.state_dict().values())

    def _time(self, part: ImagePart | TextPart) -> float:
        if part not in self._times:
            size = part.image_size if isinstance(part, ImagePart) else 32
            runner = Runner(self._side(part), device=self.device, image_size=size, heads=False)
            self._times[part] = one_input(runner, size if isinstance(part, ImagePart) else None)
        return self._times[part]


def one_input(runner: Runner, image_size: ImageSize | None) -> float:
    """Median milliseconds of one picture, or without a size of one sentence."""
    if image_size is None:
        tokens = np.ones((1, CAPTION_TOKENS), dtype=np.int64)
        call = partial(runner.encode_tokens, tokens, np.ones(tokens.shape, dtype=bool))
    else:
        call = partial(runner.encode_images, np.zeros((1, *height_and_width(image_size), 3), np.uint8))
    return float(np.median(time_calls(call, seconds=TIMED_SECONDS)))


def available_memory() -> float:
    """Bytes that this machine can give without swapping; without end where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    found = {line.partition(":")[0]: line.split()[1] for line in lines if line}
    return 1024 * float(found["MemAvailable"]) if "MemAvailable" in found else float("inf")
