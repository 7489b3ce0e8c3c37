"""Frozen towers run once over a source, through the feature cache."""

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from pocketclip import distributed
from pocketclip.config import digest
from pocketclip.data.source import Source
from pocketclip.features.cache import ELSEWHERE, CacheConfig, cached, in_half_precision
from pocketclip.features.encode import NO_IMAGES, NO_TEXTS, image_blocks, text_blocks
from pocketclip.features.pairs import CachedPairs
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.readout import Modality
from pocketclip.models.running.precision import Precision, precision_of_scores
from pocketclip.models.running.runner import MODALITIES, Runner, module_fingerprint
from pocketclip.preprocess import PreprocessConfig
from pocketclip.stages.engine import Engine, compute_here
from pocketclip.stages.store import Block, OpenStage, Stage
from pocketclip.stages.watch import BrokenItems, Watch
from pocketclip.tokenizer import Tokenizer

IMAGES = "encoding images"
IMAGES_PER_BLOCK, CAPTIONED_PER_BLOCK = 512, 2048


class FrozenTowers:
    """The two towers of a model, their fingerprints and the cache their features go to.

    Args:
        model: its towers must not change while this is in use.
        root: folder of the cache.
        precision: `auto` is bfloat16 where the device is faster in it.
        num_images: that will come in all, for the choice of a backend; 0 takes the one without set-up. Likewise texts.
        inference: the backend; `auto` is chosen for these numbers.
    """

    def __init__(
        self,
        model: DualEncoder,
        tokenizer: Tokenizer,
        preprocess: PreprocessConfig,
        *,
        root: Path,
        device: torch.device,
        precision: Precision = "auto",
        num_images: int = 0,
        num_texts: int = 0,
        inference: str = "auto",
    ) -> None:
        self.model, self.tokenizer, self.preprocess = model, tokenizer, preprocess
        self.root, self.device, self.precision = root, device, precision
        self.runner = self._make_runner(precision, inference)
        self.runner.plan(num_images=num_images, num_texts=num_texts)
        self._fingerprints = {
            modality: module_fingerprint(tower, digest(tower.settings))
            for modality in MODALITIES
            for tower, _ in [model.pathway(modality)]
        }

    def _make_runner(self, precision: Precision, inference: str = "auto") -> Runner:
        size, on = self.preprocess.image_size, self.device
        return Runner(self.model, device=on, precision=precision, image_size=size, heads=False, inference=inference)

    def _made_from(self, modality: Modality, runner: Runner, source: Source) -> dict[str, Any]:
        return {
            "device": self.device.type,
            "torch": torch.__version__,
            "tower": self._fingerprints[modality],
            "precision": runner.precision,
            "backend": runner.backend[modality],
            "data": source.fingerprint(),
        }

    @functools.cached_property
    def _runner_for_scores(self) -> Runner:
        return self._make_runner(precision_of_scores(self.precision))

    def features(
        self, source: Source, views: CacheConfig, watch: BrokenItems, *, seed: int = 0, for_scores: bool = False
    ) -> CachedPairs:
        """Features of every image's views and of every caption, computed only where the cache lacks them.

        `watch` is told of the samples done and of the items that cannot be read; `seed` is that of the crops. Features
        `for_scores` are as exact as measured recalls ask for; see `precision_of_scores`.

        Raises:
            UserError: too many broken items, or a full disk.
        """
        images = self.images(source, views, watch, seed=seed, for_scores=for_scores)
        pairs = CachedPairs.join(
            images, self.cached(self.text_stage(source, for_scores=for_scores), watch), source.place
        )
        watch.add(pairs.broken)
        return pairs

    def images(
        self, source: Source, views: CacheConfig, watch: BrokenItems, *, seed: int = 0, for_scores: bool = False
    ) -> Block:
        """Features of every image's views alone; see `features`."""
        return self.cached(self.image_stage(source, views, seed=seed, for_scores=for_scores), watch)

    def cached(
        self, stage: Stage, watch: Watch, engine: Engine = compute_here, open_stage: OpenStage | None = None
    ) -> Block:
        """What an `image_stage` or a `text_stage` makes; an engine with processes of its own needs `open_stage`."""
        columns = NO_IMAGES if stage.work == IMAGES else NO_TEXTS
        return cached(self.root, stage, open_stage or (lambda: stage), engine, watch, columns)

    def image_stage(self, source: Source, views: CacheConfig, *, seed: int = 0, for_scores: bool = False) -> Stage:
        """The views of every image through the image tower, named by what the entry in the cache is named by."""
        runner, shown = self._runner_for_scores if for_scores else self.runner, views.views
        with_crops = shown != "stored" and any(view.startswith("crop") for view in shown)
        made_from = {
            **self._made_from("image", runner, source),
            "preprocess": self.preprocess.model_dump(mode="json"),
            "views": "stored" if shown == "stored" else list(shown),
            # The centre does not depend on the crops' settings, so changing those keeps its entry
            "crop": [views.crop_scale, seed] if with_crops else None,
        }
        blocks = functools.partial(image_blocks, source, runner.encode_images, self.preprocess)
        settings = {"views": shown, "crop_scale": views.crop_scale, "seed": seed}
        return self._stage(IMAGES, made_from, source, IMAGES_PER_BLOCK, functools.partial(blocks, **settings))

    def text_stage(self, source: Source, *, for_scores: bool = False) -> Stage:
        """Every caption through the text tower; see `image_stage`."""
        runner, tokenizer = self._runner_for_scores if for_scores else self.runner, self.tokenizer
        made_from = {
            **self._made_from("text", runner, source),
            "tokenizer": digest(tokenizer.to_json()),
            "context_length": tokenizer.context_length,
        }
        blocks = functools.partial(text_blocks, source, runner.encode_tokens, tokenizer)
        return self._stage("encoding captions", made_from, source, CAPTIONED_PER_BLOCK, blocks)

    def _stage(
        self, work: str, made_from: dict[str, Any], source: Source, size: int, blocks: Callable[..., Iterator[Block]]
    ) -> Stage:
        def compute(start: int, stop: int) -> Block:
            (block,) = blocks(start=start, stop=stop, block_size=size)
            return in_half_precision(block)

        return Stage(work, made_from, len(source), size, compute, self.device.type == "cuda", ELSEWHERE, "start again")


def texts_in_memory(runner: Runner, source: Source, tokenizer: Tokenizer) -> Block:
    """A text tower's features of a source; see `features_in_memory`."""
    share = distributed.own_share(len(source))
    texts = text_blocks(source, runner.encode_tokens, tokenizer, start=share.start, stop=share.stop)
    return Block.join(itertools.chain.from_iterable(distributed.gather_objects(list(texts))), NO_TEXTS)


def features_in_memory(
    runner: Runner, source: Source, tokenizer: Tokenizer, preprocess: PreprocessConfig
) -> CachedPairs:
    """The towers' features of a source as inference sees it, kept nowhere: for towers that are being trained.

    Several ranks encode a share each and hand it to all others.
    """
    share = distributed.own_share(len(source))
    parts = image_blocks(source, runner.encode_images, preprocess, start=share.start, stop=share.stop)
    images = Block.join(itertools.chain.from_iterable(distributed.gather_objects(list(parts))), NO_IMAGES)
    return CachedPairs.join(images, texts_in_memory(runner, source, tokenizer), source.place)
