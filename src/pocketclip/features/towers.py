"""Frozen towers run once over a source, through the feature cache."""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from pocketclip import distributed
from pocketclip.config import digest
from pocketclip.data.source import Source
from pocketclip.features.cache import ELSEWHERE, CacheConfig, cached, in_half_precision
from pocketclip.features.encode import NO_IMAGES, NO_TEXTS, image_blocks, text_blocks
from pocketclip.features.pairs import CachedPairs
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.running.precision import Precision, precision_of_scores
from pocketclip.models.running.runner import Runner, module_fingerprint
from pocketclip.preprocess import PreprocessConfig
from pocketclip.stages.engine import Engine, compute_here
from pocketclip.stages.store import Block, Stage
from pocketclip.stages.watch import BrokenItems
from pocketclip.tokenizer import Tokenizer

What = Literal["images", "captions"]
OpenAgain = Callable[[What, str], Stage]
"""Opens the stage of a source's images or captions in another process, with the backend that was chosen here."""
IMAGES_PER_BLOCK, CAPTIONED_PER_BLOCK = 512, 2048


class FrozenTowers:
    """The two towers of a model, their fingerprints and the cache their features go to.

    Args:
        model: its towers must not change while this is in use.
        tokenizer: of the text tower.
        preprocess: of the image tower.
        root: folder of the cache.
        device: where to compute.
        precision: `auto` is bfloat16 where the device multiplies it in hardware.
        num_images: that will come in all, for the choice of a backend; 0 takes the one without set-up.
        num_texts: likewise.
        inference: the backend; `auto` is chosen for the numbers above.
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
        self.runner = self._make_runner(precision, inference=inference)
        self.runner.plan(num_images=num_images, num_texts=num_texts)
        common = {"device": device.type, "torch": torch.__version__}
        image_tower, text_tower = model.image_stages()[0], model.text_stages()[0]
        image_settings, text_settings = digest(image_tower.settings), digest(text_tower.settings)
        self._image_key = {
            **common,
            "tower": module_fingerprint(image_tower, image_settings),
            "preprocess": preprocess.model_dump(mode="json"),
        }
        self._text_key = {
            **common,
            "tower": module_fingerprint(text_tower, text_settings),
            "tokenizer": digest(tokenizer.to_json()),
            "context_length": tokenizer.context_length,
        }

    def _make_runner(self, precision: Precision, *, inference: str = "auto") -> Runner:
        size = self.preprocess.image_size
        return Runner(
            self.model, device=self.device, precision=precision, image_size=size, heads=False, inference=inference
        )

    @functools.cached_property
    def _runner_for_scores(self) -> Runner:
        return self._make_runner(precision_of_scores(self.precision))

    def features(
        self,
        source: Source,
        views: CacheConfig,
        watch: BrokenItems,
        *,
        seed: int = 0,
        for_scores: bool = False,
        engine: Engine = compute_here,
        open_again: OpenAgain | None = None,
    ) -> CachedPairs:
        """Features of every image's views and of every caption, computed only where the cache lacks them.

        Args:
            source: what to encode.
            views: of the images.
            watch: told of the samples done, and of the items that cannot be read.
            seed: of the crops.
            for_scores: the features are for measuring recalls; see `precision_of_scores`.
            engine: what computes the blocks.
            open_again: for an engine with processes of its own.

        Raises:
            UserError: too many broken items, or a full disk.
        """
        images = self.images(
            source, views, watch, seed=seed, for_scores=for_scores, engine=engine, open_again=open_again
        )
        texts = self._cached("captions", self.text_stage(source, for_scores=for_scores), watch, engine, open_again)
        pairs = CachedPairs.join(images, texts)
        watch.add(pairs.broken)
        return pairs

    def images(
        self,
        source: Source,
        views: CacheConfig,
        watch: BrokenItems,
        *,
        seed: int = 0,
        for_scores: bool = False,
        engine: Engine = compute_here,
        open_again: OpenAgain | None = None,
    ) -> Block:
        """Features of every image's views alone; see `features`."""
        stage = self.image_stage(source, views, seed=seed, for_scores=for_scores)
        return self._cached("images", stage, watch, engine, open_again)

    def _cached(
        self, what: What, stage: Stage, watch: BrokenItems, engine: Engine, open_again: OpenAgain | None
    ) -> Block:
        open_stage: Callable[[], Stage] = lambda: stage  # noqa: E731
        if open_again is not None:
            open_stage = functools.partial(open_again, what, stage.made_from["backend"])
        columns = NO_IMAGES if what == "images" else NO_TEXTS
        return cached(self.root, stage, open_stage, engine, watch, columns)

    def image_stage(self, source: Source, views: CacheConfig, *, seed: int = 0, for_scores: bool = False) -> Stage:
        """The views of every image through the image tower, named by what the entry in the cache is named by."""
        is_stored = views.views == "stored"
        with_crops = not is_stored and any(view.startswith("crop") for view in views.views)
        runner = self._runner_for_scores if for_scores else self.runner
        made_from = {
            **self._image_key,
            "precision": runner.precision,
            "backend": runner.image_backend,
            "data": source.fingerprint(),
            "views": "stored" if is_stored else list(views.views),
            # The centre does not depend on the crops' settings, so changing those keeps its entry
            "crop": [views.crop_scale, seed] if with_crops else None,
        }

        def compute(start: int, stop: int) -> Block:
            (block,) = image_blocks(
                source,
                runner.encode_images,
                self.preprocess,
                views=views.views,
                crop_scale=views.crop_scale,
                seed=seed,
                start=start,
                stop=stop,
                block_size=IMAGES_PER_BLOCK,
            )
            return in_half_precision(block)

        on_gpu = self.device.type == "cuda"
        return Stage("encoding images", made_from, len(source), IMAGES_PER_BLOCK, compute, on_gpu, ELSEWHERE)

    def text_stage(self, source: Source, *, for_scores: bool = False) -> Stage:
        """Every caption through the text tower; see `image_stage`."""
        runner = self._runner_for_scores if for_scores else self.runner

        def compute(start: int, stop: int) -> Block:
            (block,) = text_blocks(
                source,
                runner.encode_tokens,
                self.tokenizer,
                start=start,
                stop=stop,
                block_size=CAPTIONED_PER_BLOCK,
            )
            return in_half_precision(block)

        made_from = {
            **self._text_key,
            "precision": runner.precision,
            "backend": runner.text_backend,
            "data": source.fingerprint(),
        }
        on_gpu = self.device.type == "cuda"
        return Stage("encoding captions", made_from, len(source), CAPTIONED_PER_BLOCK, compute, on_gpu, ELSEWHERE)


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
    return CachedPairs.join(images, texts_in_memory(runner, source, tokenizer))
